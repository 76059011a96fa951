"""Distinguish problems of the worker, which prevent jobs from beginning, from failures of a job.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import errno
import os
import signal

from boxsched.worker.supervisor.folder import DISK_FULL
from boxsched.worker.supervisor.safe_files import FULL_ERRORS

TAIL_BYTES = 4_096  # how much of git's last messages is kept

# Arguments that are too long or invalid: the program could not start on any machine.
_OF_THE_JOB = frozenset({errno.E2BIG, errno.EINVAL, errno.ENAMETOOLONG})
# Git ends with status 128 for most errors; its last messages contain the system's error.
_SAID_BY_GIT = (
    (os.strerror(errno.ENOSPC).encode(), DISK_FULL),
    (os.strerror(errno.EDQUOT).encode(), DISK_FULL),
    (os.strerror(errno.ENOMEM).encode(), "out of memory"),
    (b"fatal: Out of memory", "out of memory"),
    (os.strerror(errno.EROFS).encode(), "read-only file system"),
)


def lies_with_worker(error: OSError) -> bool:
    """Whether the worker is the cause, so that the job may succeed on another worker."""
    return error.errno not in _OF_THE_JOB


def described(error: OSError, doing: str) -> str:
    """Return a message for the error. The same problem always has the same message."""
    return DISK_FULL if error.errno in FULL_ERRORS else f"{doing}: {error.strerror}"


def missing(program: str) -> str | None:
    """Return a message if the program is missing or not executable, otherwise None."""
    if os.access(program, os.X_OK):
        return None
    return f"{os.path.basename(program)} is not installed"


def of_git(what: str, status: int, said: bytes) -> str | None:
    """Return why a git step failed if the worker is the cause, otherwise None.

    ``status``: the exit status; negative: the signal. ``said``: git's last messages.
    """
    for words, problem in _SAID_BY_GIT:
        if words in said:
            return problem
    if status == -signal.SIGKILL:  # not by its supervisor: then this function is not called
        return f"{what} was killed, perhaps because memory ran out"
    return None
