"""What keeps a worker from beginning a job, told from what is wrong with the job itself.

Imported by the spawner: standard library only, and little of it.
"""

import errno
import os
import signal

from boxsched.worker.supervisor.folder import DISK_FULL
from boxsched.worker.supervisor.safe_files import FULL_ERRORS

TAIL_BYTES = 4_096  # of what git said last

# A program that is given too much, or what no program can be given: so it would be on any machine.
_OF_THE_JOB = frozenset({errno.E2BIG, errno.EINVAL, errno.ENAMETOOLONG})
# Git ends with status 128 whatever went wrong; what the system told it stands in its last words.
_SAID_BY_GIT = (
    (os.strerror(errno.ENOSPC).encode(), DISK_FULL),
    (os.strerror(errno.EDQUOT).encode(), DISK_FULL),
    (os.strerror(errno.ENOMEM).encode(), "out of memory"),
    (b"fatal: Out of memory", "out of memory"),
    (os.strerror(errno.EROFS).encode(), "read-only file system"),
)


def lies_with_worker(error: OSError) -> bool:
    """Whether another worker may do better with the same job."""
    return error.errno not in _OF_THE_JOB


def described(error: OSError, doing: str) -> str:
    """What is wrong, in the same words each time."""
    return DISK_FULL if error.errno in FULL_ERRORS else f"{doing}: {error.strerror}"


def missing(program: str) -> str | None:
    """That a program is not there, or cannot be run; None where it can."""
    if os.access(program, os.X_OK):
        return None
    return f"{os.path.basename(program)} is not installed"


def of_git(what: str, status: int, said: bytes) -> str | None:
    """Why a git step failed, where that lies with the worker. ``status``: negative, the signal."""
    for words, problem in _SAID_BY_GIT:
        if words in said:
            return problem
    if status == -signal.SIGKILL:  # not by us: that has a cause of its own
        return f"{what} was killed, as when memory runs out"
    return None
