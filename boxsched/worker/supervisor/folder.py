"""An attempt's folder: the files through which agent and supervisor communicate.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import json
import os
import stat
import zlib
from typing import Literal, NamedTuple

from boxsched.worker.supervisor import limits
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits
from boxsched.worker.supervisor.safe_files import (
    Damaged,
    open_regular,
    read_file,
    rename,
    write_file,
)
from boxsched.worker.supervisor.session import SessionPlan

RECORD, SCRIPT, LOCK, LOG, STOP, SENT = "record", "script", "lock", "log", "stop", "sent"
WHY = "why"  # the reason for ``stop``
TICKET, STARTED, VOID = "ticket", "started", "void"
RUNNING, RESULT = "running", "result"
FOUND, FIXED = "found", "fixed"  # the commit that the supervisor found, and that the store fixed
OPENED = "opened"  # how an SSH session is reached
BOX = "box"  # the job's own files
WORKSPACE, HOME, TMP = (f"{BOX}/{name}" for name in ("workspace", "home", "tmp"))
COMMIT = "commit"
CACHE_PACK, GIVEN_PACK = "cache.pack", "given.pack"  # files for the workspace (see packs)
RESERVED = ".reserved"
RESERVED_BYTES = 1_024

BELL = "bell"  # in the agent's folder: a named pipe that wakes the agent

DISK_FULL = "disk full"
RECORD_BYTES = 64 << 20


class Step(NamedTuple):
    """One program of a job. The git steps run first, then the script."""

    what: str  # its name in messages: "git clone"
    argv: list[str]
    environment: dict[str, str]  # in addition to the job's own
    may_fail: bool
    is_script: bool
    says_commit: bool = False  # it prints the commit, which does not go into the log
    takes_commit: bool = False  # its last argument is the commit, if there is one
    refusal: str | None = None  # why the job fails if the step fails
    alone: bool = False  # ``environment`` is the whole environment, without the job's variables
    is_lent: bool = False  # git gets the project's credentials
    reads: str | None = None  # a repository on this machine that an isolated git sees


class CacheUse(NamedTuple):
    """The part of the worker's cache that a job uses: protocol.assignments.JobCache."""

    scope: str
    patterns: list[str]
    keys: list[str]
    keep: str | None
    job: str = ""  # kind and name of the job


class Record(NamedTuple):
    """Everything that a supervisor needs to run an attempt, and an agent to recognize it."""

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
    lost_after: float | None = None  # seconds; None: it continues without its worker's lease
    stop_grace: float = 10.0  # seconds between SIGTERM and SIGKILL at the time limit
    has_secrets: bool = False  # there is a file with its secrets (see job_secrets)
    isolation: Isolation | None = None  # None: it runs as the worker does
    limits: Limits = NO_LIMITS
    session: SessionPlan | None = None  # of an SSH session: its script is the server
    artifacts: list[str] | None = None  # patterns of the files of its workspace that are kept
    is_given: bool = False  # it gets the artifacts of its build
    cache: CacheUse | None = None
    image: Isolation | None = None  # how the script is isolated, if that differs
    container: Container | None = None  # the script runs in it

    def keeps_files(self, ended: "Ended") -> bool:
        """Whether files of the workspace are kept after this end: the commands ran and ended."""
        if ended.began_at is None or ended.lost or ended.not_begun:
            return False
        cached = self.cache is not None and self.cache.keep is not None
        if ended.result == "passed":
            return bool(self.artifacts) or cached
        return ended.result == "failed" and bool(self.artifacts)


class Started(NamedTuple):
    pid: int
    start_time: int | None  # distinguishes the process from a later one with the same pid


class Running(NamedTuple):
    at: float
    contained: bool  # the job is in its cgroup


Outcome = Literal["passed", "failed", "stopped"]


class Found(NamedTuple):
    commit: str


class Opened(NamedTuple):
    """``port``: where the session's server listens directly; None: only through the agent."""

    host_key: str
    port: int | None


class Ended(NamedTuple):
    """How an attempt ended.

    ``began_at`` and ``at`` are wall clock times, in seconds since the epoch. ``seconds`` is
    measured by a clock that cannot be set.
    """

    result: Outcome
    exit_status: int | None
    signal: int | None
    timed_out: bool
    reason: str | None
    began_at: float | None
    at: float
    commit: str | None = None
    lost: bool = False  # no node answered for too long
    seconds: float | None = None  # the duration; None if no step began
    not_begun: bool = False  # the commands never began because of the worker; see ``reason``


Note = Started | Running | Found | Opened | Ended


# --- The record -----------------------------------------------------------------------------


def write_record(at: int, record: Record) -> None:
    """Write the record durably. The folder's entry in its parent is not durable yet."""
    text = json.dumps(record).encode()
    write_file(at, f"{RECORD}.new", b"%08x %s\n" % (zlib.crc32(text), text), durable=True)
    rename(at, f"{RECORD}.new", RECORD)
    os.fsync(at)


def read_record(at: int) -> Record:
    """Return the record. Raises Damaged unless ``write_record`` has written it completely."""
    data = read_file(at, RECORD, RECORD_BYTES)
    if data is None:
        raise Damaged("the record is missing")
    checksum, _, text = data.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise Damaged("the record does not match its checksum")
    try:
        record = Record(*json.loads(text))
        walls = record.isolation and Isolation(*record.isolation)
        # a record of an earlier version may have one field more
        steps = [Step._make(step[: len(Step._fields)]) for step in record.steps]
        image = record.image and Isolation(*record.image)
        container = record.container and Container(*record.container)
        limited = limits.read(list(record.limits))
        session = record.session and SessionPlan(*record.session)
        cache = record.cache and CacheUse(*record.cache)
        return record._replace(
            steps=steps,
            isolation=walls,
            limits=limited,
            session=session,
            cache=cache,
            image=image,
            container=container,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"the record has an unknown format: {error}") from None


# --- Notes: small files whose disk space is reserved ------------------------------------------


def reserve(at: int, name: str) -> None:
    write_file(at, name, b" " * RESERVED_BYTES)


def put(at: int, reserved: str, name: str, note: Note, *, durable: bool = False) -> None:
    """Fill the reserved file and rename it: readers see all of it or nothing."""
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
    """Wake the agent of that folder, if there is one; it then looks at all attempts."""
    try:
        bell = os.open(BELL, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=site)
    except OSError:
        return  # there is no agent; the next one reads the folder
    try:
        if stat.S_ISFIFO(os.fstat(bell).st_mode):  # a job may have replaced it by a file
            os.write(bell, b"\n")
    except OSError:
        pass  # the pipe is full, so the agent will wake up
    finally:
        os.close(bell)
