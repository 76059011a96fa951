"""Distinguish problems of the worker, which prevent jobs from beginning, from failures of a job.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import errno
import os
import signal

from boxsched.worker.supervisor.folder import DISK_FULL
from boxsched.worker.supervisor.machine_watch import ENOUGH_BYTES, SMALLEST_SHARE, MachineWatch
from boxsched.worker.supervisor.safe_files import FULL_ERRORS

TAIL_BYTES = 4_096  # how much of git's last messages is kept

# Arguments that are too long or invalid: the program could not start on any machine.
_OF_THE_JOB = frozenset({errno.E2BIG, errno.EINVAL, errno.ENAMETOOLONG})
# Git ends with status 128 for most errors; its last messages contain the system's error.
NO_MEMORY, READ_ONLY = "out of memory", "read-only file system"
_SAID_BY_GIT = (
    (os.strerror(errno.ENOSPC).encode(), DISK_FULL),
    (os.strerror(errno.EDQUOT).encode(), DISK_FULL),
    (os.strerror(errno.ENOMEM).encode(), NO_MEMORY),
    (os.strerror(errno.EROFS).encode(), READ_ONLY),
)
_OUT_OF_MEMORY = b"fatal: Out of memory"
_BEGINS = (b"fatal: ", b"error: ")
_REMOTE = b"fatal: remote error: "  # what follows are the words of a server


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


def has_no_room(place: str | int) -> bool:
    """Whether the disk with this folder, or with its descriptor, is full. Raises OSError."""
    status = os.statvfs(place)
    needed = min(ENOUGH_BYTES, status.f_blocks * status.f_frsize // SMALLEST_SHARE)
    return status.f_bavail * status.f_frsize < needed


def of_git(what: str, status: int, said: bytes, machine: MachineWatch) -> str | None:
    """Return why a git step failed if the worker is the cause, otherwise None.

    ``status``: the exit status; negative: the signal. ``said``: git's last messages. They quote
    names of files and servers, and ssh's server writes them itself, so they may contain any words
    and any line. They count only if ``machine`` has seen the same, so that no repository can say
    that its worker is out of order.
    """
    problem = _said(said)
    if problem is not None and _is_so(problem, machine):
        return problem
    if status == -signal.SIGKILL:  # not by its supervisor: then this function is not called
        return f"{what} was killed, perhaps because memory ran out"
    return None


def _said(said: bytes) -> str | None:
    """Return the problem in git's messages; those of servers do not count."""
    for line in said.splitlines():
        if line.startswith(_OUT_OF_MEMORY):
            return NO_MEMORY
        if line.startswith(_BEGINS) and not line.startswith(_REMOTE):
            for words, problem in _SAID_BY_GIT:
                if line.endswith(b": " + words):
                    return problem
    return None


def _is_so(problem: str, machine: MachineWatch) -> bool:
    if problem == DISK_FULL:
        return machine.disk_was_full
    return machine.memory_was_low if problem == NO_MEMORY else machine.disk_is_read_only
