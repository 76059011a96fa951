"""How many files may be open: many for the agent, as many as ever for its jobs.

Imported by the spawner: standard library only, and little of it.
"""

import contextlib
import functools
import resource


@functools.cache
def raise_limit() -> int:
    """To what this process is allowed at most; returns what it was, for the jobs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def restore_limit(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
