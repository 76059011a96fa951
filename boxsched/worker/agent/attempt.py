"""The agent's view of one attempt at a job, read from the attempt's folder."""

import contextlib
import enum
import os
import signal
import stat
import sys

import attrs

from boxsched.model import JobId, job_text
from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.images import NoImage
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.outbox import LogChunk
from boxsched.worker.agent.plan import Worksite, cgroup_name, cgroup_of, limit_groups
from boxsched.worker.agent.spool import Spool
from boxsched.worker.supervisor import container, containment, job_secrets, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Ended, Found, Opened, Record, Running, Started
from boxsched.worker.supervisor.limits import NO_LIMITS
from boxsched.worker.supervisor.safe_files import Damaged
from boxsched.worker.supervisor.session import SOCKET
from boxsched.worker.supervisor.spawner import NOT_ITS_TURN

GONE = "its record is gone"
LOST = "lost: its supervisor died"
LOST_BY_RESTART = "lost: the machine was restarted"

MAX_WHY_CHARACTERS = 250  # each has up to four bytes: they fit into the reserved file


class Phase(enum.Enum):
    PREPARED = "prepared"  # its record is durable; the spawner was not asked to start it
    ASKED = "asked"  # this agent or an earlier one asked the spawner to start it
    RUNNING = "running"  # it was started; its supervisor lives or has just died
    ENDED = "ended"  # the result exists; log and report may not be in the store yet
    REPORTED = "reported"  # result, log and report are in the store


UNENDED = (Phase.PREPARED, Phase.ASKED, Phase.RUNNING)


@attrs.define(eq=False)
class Attempt:
    folder: AttemptFolder
    record: Record
    phase: Phase
    stopping: bool = False
    grace: float | None = None  # seconds between SIGTERM and SIGKILL at a stop
    ends_by: float | None = None  # monotonic time at which its supervisor must have ended it
    asked_at: float = 0.0
    asked_times: int = 0
    process: int | None = None  # a pidfd of the process that ``started`` names as the supervisor
    known: bool = False  # whether that process was looked up
    watched: bool = False  # whether the event loop watches that process
    gone: bool = False  # the supervisor has ended
    guarded: bool = False  # the spawner will report how the supervisor ends
    status: int | None = None  # the supervisor's exit status; 0: it ended the job itself
    damage: str | None = None  # why the attempt cannot continue, as a message
    running: Running | None = None
    found: Found | None = None  # the commit that its supervisor found
    fixed: bool = False  # its supervisor knows which commit to run
    opened: Opened | None = None  # how an SSH session is reached
    open_reported: bool = False
    ended: Ended | None = None
    start_reported: bool = False
    reporting: bool = False  # the report of its end was sent, and has no answer yet
    reported_at: float = 0.0  # monotonic time of the report of its end
    stale: bool = False  # this worker no longer holds its lease
    parked: bool = False  # a ghost (``ghosts``): its output and its end are kept here
    cached: bool | None = None  # it found a cache; None: it did not look, or this is not known
    cache_seconds: float = 0.0  # how long it looked
    furnished: bool = attrs.field(init=False)  # what it is given is in its folder
    kept: bool = attrs.field(init=False)  # the files that are kept of it are stored
    spool: Spool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        its = self.record
        self.furnished = its.cache is None and not its.is_given
        self.kept = its.cache is None and not its.artifacts
        self.spool = Spool(self.folder, self.record.log_limit)

    # --- Adoption ---------------------------------------------------------------------------

    @classmethod
    def adopt(cls, folder: AttemptFolder, site: Worksite) -> "Attempt":
        """Return the attempt that an earlier agent left in the folder (see the package).

        Raises Damaged, OSError. Blocking.
        """
        record = files.read_record(folder.at)
        if record.cluster != site.cluster:
            raise Damaged("the record belongs to another installation")
        if folder.name != f"{job_text(JobId(record.job))}-{record.attempt}":
            raise Damaged("the record belongs to another job")
        if record.cgroup is not None and record.cgroup != cgroup_of(site, folder.name):
            # The agent's cgroup has changed, or a job changed the record. Its processes are then
            # found as descendants of the supervisor.
            record = record._replace(cgroup=None)
        if not set(record.limits.paths) <= set(limit_groups(site, folder.name)):
            record = record._replace(limits=NO_LIMITS)
        if record.container is not None:
            known = None  # if this agent runs no containers
            with contextlib.suppress(NoImage):
                name = cgroup_name(site, folder.name)
                known = site.images.container(record.container.image, name)
            record = record._replace(container=known)
        attempt = cls(folder, record, Phase.RUNNING)
        try:
            attempt.spool.open()
            attempt._find_phase(site.boot)
        except (Damaged, OSError):
            attempt.close()
            raise
        return attempt

    def _find_phase(self, boot: str) -> None:
        self.stopping = safe_files.exists(self.folder.at, files.STOP)
        self.fixed = safe_files.exists(self.folder.at, files.FIXED)
        self.spool.go_on()
        free = self._is_lock_free()
        if self.record.boot != boot:
            self.gone = True
        elif safe_files.exists(self.folder.at, files.TICKET):
            self.phase = Phase.PREPARED if free else Phase.ASKED

    def close(self) -> None:
        """Close all descriptors. Call ``AttemptWatcher.unwatch`` first."""
        self.spool.close()
        self.folder.close()
        self.forget_process()
        self.known = False

    @property
    def key(self) -> tuple[JobId, int]:
        return JobId(self.record.job), self.record.lease_token

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_build(self) -> bool:
        """Only a build's job ends without its worker's lease."""
        return self.record.lost_after is not None

    # --- Reading ----------------------------------------------------------------------------

    def look(self) -> None:
        """Read what the supervisor has written since. Raises Damaged, OSError."""
        if self.phase is Phase.ASKED and safe_files.exists(self.folder.at, files.STARTED):
            self.phase = Phase.RUNNING
        if self.phase in (Phase.PREPARED, Phase.ASKED):
            self.gone, self.status = False, None  # not begun: the agent asks for it again
            self._must_have(files.TICKET, files.STARTED, files.VOID)
        if self.phase is not Phase.RUNNING:
            return
        if not self.known:
            self._find_process()
        self.gone = self._is_supervisor_gone()
        if self.running is None:
            self.running = note(self.folder.at, files.RUNNING, Running)
        if self.found is None:
            self.found = note(self.folder.at, files.FOUND, Found)
        if self.opened is None and self.record.session is not None:
            self.opened = note(self.folder.at, files.OPENED, Opened)
        if not self.gone:
            self._must_have(files.STARTED)
        elif self.status == 0:  # otherwise ``end_as_lost`` first kills what is left of the job
            self.ended = note(self.folder.at, files.RESULT, Ended)
            if self.ended is not None:
                self.phase = Phase.ENDED

    def _must_have(self, *names: str) -> None:
        """Raise Damaged unless one of these files exists.

        Pass them in the order in which one is renamed to the next: so a rename is never missed.
        """
        if not any(safe_files.exists(self.folder.at, name) for name in names):
            raise Damaged(GONE)

    def _is_supervisor_gone(self) -> bool:
        """Whether the supervisor has ended.

        The job can write any file of the folder, so the spawner's report decides. For a supervisor
        of an earlier agent, the lock and the names of processes decide.
        """
        if self.gone or self.guarded:
            return self.gone
        if not self._is_lock_free():
            return False
        return not self._supervisors()

    def _supervisors(self) -> list[int]:
        return containment.supervisors(self.name, os.path.dirname(self.folder.path))

    def _find_process(self) -> None:
        """Open a pidfd of the supervisor, if it is known.

        It makes a stop and the end known at once; both are also polled. Another process may have
        got the pid since then, so the start time is compared.
        """
        started = self._started()
        if started is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):  # it is gone, or the kernel is old, or no descriptor
                self.process = os.pidfd_open(started.pid)
                if containment.start_time(started.pid) != started.start_time:
                    self.forget_process()
        self.known = started is not None

    def forget_process(self) -> None:
        """Close the pidfd. Its process was perhaps not the supervisor: a job can forge that."""
        if self.process is not None:
            os.close(self.process)
        self.process = None

    def _is_lock_free(self) -> bool:
        lock = safe_files.try_lock(self.folder.at, files.LOCK)
        if lock is not None:
            os.close(lock)
        return lock is not None

    def supervisor_ended(self, status: int) -> None:
        """Note the exit status from the spawner, which has killed all remaining processes.

        NOT_ITS_TURN: a supervisor of an earlier agent's spawner runs the attempt.
        """
        if self.guarded and status != NOT_ITS_TURN:
            self.status, self.gone = status, True
        self.guarded = False

    # --- Ending it --------------------------------------------------------------------------

    def stop(self, grace: float, why: str) -> None:
        """Ask the supervisor to end the job: SIGTERM, ``grace`` seconds, SIGKILL.

        The file is the request; the signal only makes it faster. ``why`` is for the job's log.
        """
        if self.grace is None:
            self.grace = grace
        if not self.stopping:
            reserved = files.WHY + files.RESERVED
            if safe_files.exists(self.folder.at, reserved):  # earlier versions did not reserve it
                files.put_text(self.folder.at, reserved, files.WHY, why[:MAX_WHY_CHARACTERS])
            files.put_text(self.folder.at, files.STOP + files.RESERVED, files.STOP, str(grace))
            self.stopping = True
            self._wake()

    def kill_supervisor(self) -> None:
        """Kill a supervisor that does not end its job. Then the attempt is lost. Blocking."""
        containment.send(self._supervisors(), signal.SIGKILL)

    @property
    def asks_for_commit(self) -> bool:
        """Whether its supervisor waits for the commit to run."""
        waits = self.found is not None and not self.fixed and not self.stopping
        return waits and self.phase is Phase.RUNNING

    @property
    def opens(self) -> bool:
        """Whether how the session is reached has to be reported."""
        is_new = self.opened is not None and not self.open_reported
        return is_new and not self.stopping and self.phase is Phase.RUNNING

    def session_socket(self) -> int:
        """Return a descriptor of the session's socket. Raises Damaged, OSError.

        A job that is not isolated could put a link in its place; so no link is followed.
        """
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        place = os.open(SOCKET, flags, dir_fd=self.folder.at)
        if not stat.S_ISSOCK(os.fstat(place).st_mode):
            os.close(place)
            raise Damaged(f"{SOCKET} is not a socket")
        return place

    def fix(self, commit: str) -> None:
        """Write which commit its supervisor runs."""
        files.put_text(self.folder.at, files.FIXED + files.RESERVED, files.FIXED, commit)
        self.fixed = True
        self._wake()

    def _wake(self) -> None:
        if self.process is not None and sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process, signal.SIGUSR1)

    def void(self, ended: Ended) -> bool:
        """Make sure that it never starts; return False if it has already started. Blocking."""
        lock = safe_files.try_lock(self.folder.at, files.LOCK)
        if lock is None:
            return False
        try:
            safe_files.rename(self.folder.at, files.TICKET, files.VOID)
        except FileNotFoundError:
            return False
        finally:
            os.close(lock)
        self._end_as(ended)
        return True

    def end_as_lost(self, reason: str, at: float) -> bool:
        """End an attempt without a supervisor; return whether it is lost. Blocking.

        Kills all its processes first. Then a result of an earlier agent's supervisor counts. The
        job may have forged it, so a result that blames the worker does not count.
        """
        groups = self.record.limits.paths
        remains.end_processes(self.folder.path, self._started(), self.record.cgroup, groups)
        if self.record.container is not None:
            container.give_back(self.record.container, f"{self.folder.path}/{files.BOX}")
            container.remove(self.record.container)
        ended = self._result() if self.status is None and self.damage is None else None
        counts = ended is not None and not ended.not_begun
        if not counts or self.kept:  # otherwise files of its workspace are kept first
            with contextlib.suppress(OSError):  # the rest is removed with the folder
                safe_files.remove_tree(self.folder.at, files.BOX)
        if counts:
            self.ended, self.phase = ended, Phase.ENDED
            return False
        began_at = self.running.at if self.running is not None else None
        at = at if began_at is None else max(began_at, at)
        never_ran = self.running is None  # then a build may run again
        self._end_as(Ended("failed", None, None, False, reason, began_at, at, lost=never_ran))
        return True

    def _result(self) -> Ended | None:
        try:
            return note(self.folder.at, files.RESULT, Ended)
        except (Damaged, OSError):
            return None

    def _started(self) -> Started | None:
        try:
            return note(self.folder.at, files.STARTED, Started)
        except (Damaged, OSError):
            return None

    def _end_as(self, ended: Ended) -> None:
        with contextlib.suppress(OSError):  # the file is removed with the folder
            job_secrets.remove(self.folder.at)
        self.ended = ended
        self.phase = Phase.ENDED
        reserved = files.RESULT + files.RESERVED
        if safe_files.exists(self.folder.at, reserved):
            files.put(self.folder.at, reserved, files.RESULT, ended, durable=True)

    # --- Its log ----------------------------------------------------------------------------

    def next_chunk(self) -> LogChunk | None:
        """Return the next part of the log; the same part again until ``spool.stored``."""
        part = self.spool.next()
        return None if part is None else (JobId(self.record.job), self.record.attempt, *part)
