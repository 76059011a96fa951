"""An attempt's folder: the files through which agent and supervisor know of each other.

Imported by the spawner: standard library only, and little of it.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
import zlib
from typing import Literal, NamedTuple

RECORD, SCRIPT, LOCK, LOG, STOP, SENT = "record", "script", "lock", "log", "stop", "sent"
WHY = "why"  # the text beside ``stop``
TICKET, STARTED, VOID = "ticket", "started", "void"
RUNNING, RESULT = "running", "result"
FOUND, FIXED = "found", "fixed"  # the commit: as the supervisor found it, as the store fixed it
BOX = "box"  # all that belongs to the job itself
WORKSPACE, HOME, TMP = (f"{BOX}/{name}" for name in ("workspace", "home", "tmp"))
COMMIT = "commit"
RESERVED = ".reserved"
RESERVED_BYTES = 1_024

BELL = "bell"  # beside the attempts' folders: a named pipe that wakes the agent

_PATH = getattr(os, "O_PATH", os.O_RDONLY)  # to name it, also where it cannot be read

DISK_FULL = "disk full"
FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_FILE_OF_OURS = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EACCES, errno.EPERM}
)
NOTE_BYTES = 64 << 10
RECORD_BYTES = 64 << 20


class Damaged(Exception):
    """A file says nothing that we wrote: set its folder aside."""


class Step(NamedTuple):
    """One program of a job, in order: git first, then the script."""

    what: str  # for a person: "git clone"
    argv: list[str]
    environment: dict[str, str]  # beside the job's own
    may_fail: bool
    is_script: bool
    says_commit: bool = False  # it prints the commit: for us, not for the log
    takes_commit: bool = False  # its last argument is the commit, where there is one
    refusal: str | None = None  # why the job fails where the step does


class Record(NamedTuple):
    """Everything that a supervisor needs, and an agent to recognize it again."""

    cluster: str
    job: int
    attempt: int
    lease_token: int
    boot: str
    timeout_seconds: float
    log_limit: int
    cgroup: str | None
    environment: dict[str, str]
    steps: list[Step]
    lost_after: float | None = None  # seconds; None: it may outlive its worker's lease (see heard)
    stop_grace: float = 10.0  # seconds between SIGTERM and SIGKILL at the time limit


class Started(NamedTuple):
    pid: int
    start_time: int | None  # tells the process from a later one with its pid


class Running(NamedTuple):
    at: float
    contained: bool  # the job is in its cgroup


Outcome = Literal["passed", "failed", "stopped"]


class Found(NamedTuple):
    commit: str


class Ended(NamedTuple):
    """How an attempt ended.

    ``began_at`` and ``at`` are wall clock times, seconds since the epoch. ``seconds`` is measured
    by a clock that nobody sets.
    """

    result: Outcome
    exit_status: int | None
    signal: int | None
    timed_out: bool
    reason: str | None
    began_at: float | None
    at: float
    commit: str | None = None
    lost: bool = False  # no node was heard for too long
    seconds: float | None = None  # what the run took; None where no step began
    not_begun: bool = False  # the commands never began, for a cause of the worker: ``reason``


Note = Started | Running | Found | Ended


# --- Folders --------------------------------------------------------------------------------
#
# A job runs as the same user, so it may put links and other things in the place of any file and
# folder here. Folders are therefore opened once and named by descriptors (``at``); nothing below
# follows a link.


def open_folder(path: str, at: int | None = None) -> int:
    """Raises OSError; NotADirectoryError where it is a link or anything else."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)


def open_or_make(name: str, at: int) -> int:
    """The folder of that name; what stands in its place and is none goes. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
            os.mkdir(name, 0o700, dir_fd=at)
    return open_folder(name, at)


# --- Whole files ----------------------------------------------------------------------------


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def create(at: int, name: str) -> int:
    """A new file, for writing, in the place of whatever stands there. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(name, flags, 0o600, dir_fd=at)
    except FileExistsError:
        remove_tree(at, name)
        return os.open(name, flags, 0o600, dir_fd=at)


def write_file(at: int, name: str, data: bytes, *, durable: bool = False) -> None:
    descriptor = create(at, name)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(at: int, name: str, flags: int) -> int:
    """Never waits and follows no link: a job may have put anything there. Raises Damaged."""
    try:
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600, dir_fd=at)
    except OSError as error:
        if error.errno in _NO_FILE_OF_OURS:
            raise Damaged(f"{name} is no file of ours") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{name} is no file of ours")
    return descriptor


def read_file(at: int, name: str, limit: int = NOTE_BYTES) -> bytes | None:
    """None where there is no such file. Raises Damaged, also for one of more than ``limit``."""
    try:
        descriptor = open_regular(at, name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        data = b""
        while len(data) <= limit and (part := file.read(limit + 1 - len(data))):
            data += part
    if len(data) > limit:
        raise Damaged(f"{name} is too large")
    return data


def exists(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def rename(at: int, name: str, new: str) -> None:
    os.rename(name, new, src_dir_fd=at, dst_dir_fd=at)


# --- The record -----------------------------------------------------------------------------


def write_record(at: int, record: Record) -> None:
    """Durable when it returns, but for the entry of the folder in its parent."""
    text = json.dumps(record).encode()
    write_file(at, f"{RECORD}.new", b"%08x %s\n" % (zlib.crc32(text), text), durable=True)
    rename(at, f"{RECORD}.new", RECORD)
    os.fsync(at)


def read_record(at: int) -> Record:
    """Raises Damaged for anything that ``write_record`` did not write whole."""
    data = read_file(at, RECORD, RECORD_BYTES)
    if data is None:
        raise Damaged("the record is missing")
    checksum, _, text = data.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise Damaged("the record does not match its checksum")
    try:
        record = Record(*json.loads(text))
        return record._replace(steps=[Step(*step) for step in record.steps])
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"the record is of another form: {error}") from None


# --- Notes: small files whose place on the disk is reserved -----------------------------------


def reserve(at: int, name: str) -> None:
    write_file(at, name, b" " * RESERVED_BYTES)


def put(at: int, reserved: str, name: str, note: Note, *, durable: bool = False) -> None:
    """Fill the reserved file and give it its name: readers see all of it or nothing."""
    put_text(at, reserved, name, json.dumps(note), durable=durable)


def put_text(at: int, reserved: str, name: str, text: str, *, durable: bool = False) -> None:
    descriptor = open_regular(at, reserved, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text.encode().ljust(RESERVED_BYTES), 0)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    rename(at, reserved, name)
    if durable:
        os.fsync(at)


# --- Lock and bell --------------------------------------------------------------------------


def try_lock(at: int, name: str) -> int | None:
    """The locked descriptor, or None while another process holds the lock. Raises Damaged."""
    descriptor = open_regular(at, name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def ring(site: int) -> None:
    """Wake the agent of that folder, if there is one: it looks at everything."""
    try:
        bell = os.open(BELL, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=site)
    except OSError:
        return  # no agent listens: the next one reads the folder
    try:
        if stat.S_ISFIFO(os.fstat(bell).st_mode):  # never a byte into a file
            os.write(bell, b"\n")
    except OSError:
        pass  # full of unheard rings
    finally:
        os.close(bell)


# --- Removal --------------------------------------------------------------------------------


def remove_tree(at: int, name: str) -> None:
    """Remove a tree, however deep, read-only, or full of links; missing is well.

    Folders are moved up beside it as they are met: no path grows, nothing is recursive.
    """
    waiting, moved = [name], 0
    while waiting:
        top = waiting.pop()
        folder = _open_to_empty(at, top)
        if folder is None:
            continue
        try:
            for entry in os.listdir(folder):
                try:
                    os.unlink(entry, dir_fd=folder)
                except (IsADirectoryError, PermissionError):
                    moved += 1
                    if _move_up(folder, entry, at, f"{name}.{moved}"):
                        waiting.append(f"{name}.{moved}")
                except FileNotFoundError:
                    continue  # someone else removes it too
        finally:
            os.close(folder)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(top, dir_fd=at)


def _open_to_empty(at: int, name: str) -> int | None:
    """The folder, which may be changed from now on; None where it was none, and is gone."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return None
    except (IsADirectoryError, PermissionError):
        pass
    else:
        return None
    # By its path alone it can be told to be readable; by the descriptor, that no link was followed.
    place = os.open(name, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        return open_folder(".", place)
    finally:
        os.close(place)


def _move_up(folder: int, entry: str, at: int, name: str) -> bool:
    """To be renamed, a folder has to be writable: its own ``..`` changes. False where it went."""
    try:
        place = os.open(entry, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        os.rename(entry, name, src_dir_fd=folder, dst_dir_fd=at)
    except FileNotFoundError:
        return False
    finally:
        os.close(place)
    return True
