"""An attempt's folder: the files through which agent and supervisor know of each other.

Imported by the spawner: standard library only, and little of it.
"""

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
BOX = "box"  # all that belongs to the job itself
WORKSPACE, HOME, TMP = (f"{BOX}/{name}" for name in ("workspace", "home", "tmp"))
COMMIT = f"{BOX}/commit"
RESERVED = ".reserved"
RESERVED_BYTES = 1_024

BELL = "bell"  # beside the attempts' folders: a named pipe that wakes the agent

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
    says_commit: bool = False  # what it prints is the commit, not for the log


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


Note = Started | Running | Ended


# --- Whole files ----------------------------------------------------------------------------


def sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_file(path: str, data: bytes, *, durable: bool = False, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: str, flags: int) -> int:
    """Never waits and follows no link: a job may have put anything there. Raises Damaged."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE_OF_OURS:
            raise Damaged(f"{os.path.basename(path)} is no file of ours") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{os.path.basename(path)} is no file of ours")
    return descriptor


def read_file(path: str, limit: int = NOTE_BYTES) -> bytes | None:
    """None where there is no such file. Raises Damaged, also for one of more than ``limit``."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        data = b""
        while len(data) <= limit and (part := file.read(limit + 1 - len(data))):
            data += part
    if len(data) > limit:
        raise Damaged(f"{os.path.basename(path)} is too large")
    return data


def exists(folder: str, name: str) -> bool:
    return os.path.lexists(f"{folder}/{name}")


# --- The record -----------------------------------------------------------------------------


def write_record(folder: str, record: Record) -> None:
    """Durable when it returns, but for the entry of ``folder`` in its parent."""
    text = json.dumps(record).encode()
    temporary = f"{folder}/{RECORD}.new"
    write_file(temporary, b"%08x %s\n" % (zlib.crc32(text), text), durable=True)
    os.rename(temporary, f"{folder}/{RECORD}")
    sync_folder(folder)


def read_record(folder: str) -> Record:
    """Raises Damaged for anything that ``write_record`` did not write whole."""
    data = read_file(f"{folder}/{RECORD}", RECORD_BYTES)
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


def reserve(folder: str, name: str) -> None:
    write_file(f"{folder}/{name}", b" " * RESERVED_BYTES)


def put(folder: str, reserved: str, name: str, note: Note, *, durable: bool = False) -> None:
    """Fill the reserved file and give it its name: readers see all of it or nothing."""
    put_text(folder, reserved, name, json.dumps(note), durable=durable)


def put_text(folder: str, reserved: str, name: str, text: str, *, durable: bool = False) -> None:
    descriptor = open_regular(f"{folder}/{reserved}", os.O_WRONLY)
    try:
        os.pwrite(descriptor, text.encode().ljust(RESERVED_BYTES), 0)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(f"{folder}/{reserved}", f"{folder}/{name}")
    if durable:
        sync_folder(folder)


# --- Lock and bell --------------------------------------------------------------------------


def try_lock(path: str) -> int | None:
    """The locked descriptor, or None while another process holds the lock. Raises Damaged."""
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def ring(folder: str) -> None:
    """Wake the agent, if there is one: it looks at everything, so one byte says enough."""
    try:
        bell = os.open(f"{os.path.dirname(folder)}/{BELL}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # no agent listens: the next one reads the folder
    try:
        os.write(bell, b"\n")
    except OSError:
        pass  # full of unheard rings
    finally:
        os.close(bell)


# --- Removal --------------------------------------------------------------------------------


def remove_tree(top: str) -> None:
    """Remove a tree, however deep, read-only, or full of links; missing is well.

    Folders are moved up beside ``top`` as they are met: no path grows, nothing is recursive.
    """
    waiting, moved = [top], 0
    while waiting:
        folder = waiting.pop()
        for entry in _entries(folder):
            try:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                os.chmod(entry.path, stat.S_IRWXU)
                moved += 1
                os.rename(entry.path, f"{top}.{moved}")
                waiting.append(f"{top}.{moved}")
            except FileNotFoundError:
                continue  # someone else removes it too
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            os.unlink(folder)
            return []
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
