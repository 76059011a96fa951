"""The limit of open files: raised for the agent, unchanged for its jobs.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import functools
import resource


@functools.cache
def raise_limit() -> int:
    """Raise this process's soft limit to its hard limit. Return the former one, for the jobs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def restore_limit(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
