"""An attempt's folder: the files through which agent and supervisor know of each other.

Imported by the spawner: standard library only, and little of it.
"""

import json
import os
import stat
import zlib
from typing import Literal, NamedTuple

from boxsched.worker.supervisor.safe_files import (
    Damaged,
    open_regular,
    read_file,
    rename,
    write_file,
)

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

DISK_FULL = "disk full"
RECORD_BYTES = 64 << 20


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
    has_given: bool = False  # there is a file with what it is given in secret (see given)


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


# --- The bell -------------------------------------------------------------------------------


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
