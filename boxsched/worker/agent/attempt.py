"""One attempt at a job, as the agent sees it: its folder, read again and again."""

import contextlib
import enum
import os
import signal
import sys

import attrs

from boxsched.model import JobId, job_text
from boxsched.worker.agent import remains
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.outbox import LogChunk
from boxsched.worker.agent.place import Place
from boxsched.worker.agent.plan import Worksite, cgroup_of
from boxsched.worker.agent.spool import Spool
from boxsched.worker.supervisor import containment, given, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Ended, Found, Record, Running, Started
from boxsched.worker.supervisor.safe_files import Damaged
from boxsched.worker.supervisor.spawner import NOT_ITS_TURN

GONE = "its record is gone"
LOST = "lost: its supervisor died"
LOST_BY_RESTART = "lost: the machine was restarted"

MAX_WHY_CHARACTERS = 250  # four bytes each fit the file


class Phase(enum.Enum):
    PREPARED = "prepared"  # its record is durable; nobody was asked to start it
    ASKED = "asked"  # the spawner was asked, maybe by an agent before
    RUNNING = "running"  # it has been started; its supervisor lives, or has just died
    ENDED = "ended"  # the result is there; log and report may still be on their way
    REPORTED = "reported"  # all of it is in the store


UNENDED = (Phase.PREPARED, Phase.ASKED, Phase.RUNNING)


@attrs.define(eq=False)
class Attempt:
    place: Place
    record: Record
    phase: Phase
    stopping: bool = False
    grace: float | None = None  # of the stop, in seconds
    ends_by: float | None = None  # when its supervisor must have ended it, by the monotonic clock
    asked_at: float = 0.0
    asked_times: int = 0
    process: int | None = None  # a pidfd of the process that says that it is the supervisor
    known: bool = False  # that was looked for
    watched: bool = False  # the event loop watches it
    gone: bool = False  # the supervisor is
    guarded: bool = False  # the spawner will say how the supervisor ended
    status: int | None = None  # how it did; 0: it ended the job itself
    damage: str | None = None  # why it cannot go on: for a person
    running: Running | None = None
    found: Found | None = None  # the commit that its supervisor would run
    fixed: bool = False  # its supervisor was told the one that it runs
    ended: Ended | None = None
    start_reported: bool = False
    reported_at: float = 0.0  # its end, by the monotonic clock
    stale: bool = False  # its lease is this worker's no more
    spool: Spool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.spool = Spool(self.place, self.record.log_limit)

    # --- Adoption ---------------------------------------------------------------------------

    @classmethod
    def adopt(cls, place: Place, site: Worksite) -> "Attempt":
        """What an earlier agent left; see the package. Raises Damaged, OSError. Blocking."""
        record = files.read_record(place.at)
        if record.cluster != site.cluster:
            raise Damaged("the record is of another installation")
        if place.name != f"{job_text(JobId(record.job))}-{record.attempt}":
            raise Damaged("the record is of another job")
        if record.cgroup is not None and record.cgroup != cgroup_of(site, place.name):
            # Another than it was given, or the agent's own has moved: found by descent then.
            record = record._replace(cgroup=None)
        attempt = cls(place, record, Phase.RUNNING)
        try:
            attempt.spool.open()
            attempt._find_phase(site.boot)
        except (Damaged, OSError):
            attempt.close()
            raise
        return attempt

    def _find_phase(self, boot: str) -> None:
        self.stopping = safe_files.exists(self.place.at, files.STOP)
        self.fixed = safe_files.exists(self.place.at, files.FIXED)
        self.spool.go_on()
        free = self._is_lock_free()
        if self.record.boot != boot:
            self.gone = True
        elif safe_files.exists(self.place.at, files.TICKET):
            self.phase = Phase.PREPARED if free else Phase.ASKED

    def close(self) -> None:
        """Not while the event loop watches its process."""
        self.spool.close()
        self.place.close()
        self.forget_process()
        self.known = False

    @property
    def key(self) -> tuple[JobId, int]:
        return JobId(self.record.job), self.record.lease_token

    @property
    def name(self) -> str:
        return self.place.name

    # --- Looking ----------------------------------------------------------------------------

    def look(self) -> None:
        """Read what the supervisor has written since. Raises Damaged, OSError."""
        if self.phase is Phase.ASKED and safe_files.exists(self.place.at, files.STARTED):
            self.phase = Phase.RUNNING
        if self.phase in (Phase.PREPARED, Phase.ASKED):
            self.gone, self.status = False, None  # one that did not begin is asked for again
            self._must_have(files.TICKET, files.STARTED, files.VOID)
        if self.phase is not Phase.RUNNING:
            return
        if not self.known:
            self._find_process()
        self.gone = self._is_supervisor_gone()
        if self.running is None:
            self.running = note(self.place.at, files.RUNNING, Running)
        if self.found is None:
            self.found = note(self.place.at, files.FOUND, Found)
        if not self.gone:
            self._must_have(files.STARTED)
        elif self.status == 0:  # else what is left of the job is killed first: ``end_as_lost``
            self.ended = note(self.place.at, files.RESULT, Ended)
            if self.ended is not None:
                self.phase = Phase.ENDED

    def _must_have(self, *names: str) -> None:
        """One of them, in the order in which one is renamed to another."""
        if not any(safe_files.exists(self.place.at, name) for name in names):
            raise Damaged(GONE)

    def _is_supervisor_gone(self) -> bool:
        """Its job may write all that is in the folder: none of that counts while the spawner, its
        parent, will say it. For an earlier agent's, the lock tells, and the names of processes.
        """
        if self.gone or self.guarded:
            return self.gone
        if not self._is_lock_free():
            return False
        return not self._supervisors()

    def _supervisors(self) -> list[int]:
        return containment.supervisors(self.name, os.path.dirname(self.place.path))

    def _find_process(self) -> None:
        """So that it hears of a stop, and we of its end, at once; each is looked for anyway.

        Another process may have its pid by now: that one must hear nothing.
        """
        started = self._started()
        if started is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):  # gone, an old kernel, or no descriptor left
                self.process = os.pidfd_open(started.pid)
                if containment.start_time(started.pid) != started.start_time:
                    self.forget_process()
        self.known = started is not None

    def forget_process(self) -> None:
        """It has ended. Whether that was the supervisor is not its job's to say."""
        if self.process is not None:
            os.close(self.process)
        self.process = None

    def _is_lock_free(self) -> bool:
        lock = safe_files.try_lock(self.place.at, files.LOCK)
        if lock is not None:
            os.close(lock)
        return lock is not None

    def supervisor_ended(self, status: int) -> None:
        """The spawner says that its supervisor has ended, and all that it left behind is gone.

        NOT_ITS_TURN: a supervisor of an earlier agent's spawner has the attempt.
        """
        if self.guarded and status != NOT_ITS_TURN:
            self.status, self.gone = status, True
        self.guarded = False

    # --- Ending it --------------------------------------------------------------------------

    def stop(self, grace: float, why: str) -> None:
        """The file is the request; the signal only makes it faster. ``why`` is for the log."""
        if self.grace is None:
            self.grace = grace
        if not self.stopping:
            reserved = files.WHY + files.RESERVED
            if safe_files.exists(self.place.at, reserved):  # else prepared by an earlier version
                files.put_text(self.place.at, reserved, files.WHY, why[:MAX_WHY_CHARACTERS])
            files.put_text(self.place.at, files.STOP + files.RESERVED, files.STOP, str(grace))
            self.stopping = True
            self._wake()

    def kill_supervisor(self) -> None:
        """It does not end its job. The job is found and killed as for one that died. Blocking."""
        containment.send(self._supervisors(), signal.SIGKILL)

    @property
    def asks_for_commit(self) -> bool:
        """Whether its supervisor waits to be told which commit to run."""
        waits = self.found is not None and not self.fixed and not self.stopping
        return waits and self.phase is Phase.RUNNING

    def fix(self, commit: str) -> None:
        """Tell its supervisor which commit it runs."""
        files.put_text(self.place.at, files.FIXED + files.RESERVED, files.FIXED, commit)
        self.fixed = True
        self._wake()

    def _wake(self) -> None:
        if self.process is not None and sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process, signal.SIGUSR1)

    def void(self, ended: Ended) -> bool:
        """Make sure that it never starts; False where a supervisor has it already. Blocking."""
        lock = safe_files.try_lock(self.place.at, files.LOCK)
        if lock is None:
            return False
        try:
            safe_files.rename(self.place.at, files.TICKET, files.VOID)
        except FileNotFoundError:
            return False
        finally:
            os.close(lock)
        self._end_as(ended)
        return True

    def end_as_lost(self, reason: str, at: float) -> bool:
        """Its supervisor is gone: so goes everything of it. Blocking.

        True where it is lost; a result of an earlier agent's supervisor counts once nothing of its
        job is left. The job may have written it: so it does not count where it accuses the worker.
        """
        remains.end_processes(self.place.path, self._started(), self.record.cgroup)
        ended = self._result() if self.status is None and self.damage is None else None
        with contextlib.suppress(OSError):  # what stays goes with the folder
            safe_files.remove_tree(self.place.at, files.BOX)
        if ended is not None and not ended.not_begun:
            self.ended, self.phase = ended, Phase.ENDED
            return False
        began_at = self.running.at if self.running is not None else None
        at = at if began_at is None else max(began_at, at)
        never_ran = self.running is None  # so a build may have another try
        self._end_as(Ended("failed", None, None, False, reason, began_at, at, lost=never_ran))
        return True

    def _result(self) -> Ended | None:
        try:
            return note(self.place.at, files.RESULT, Ended)
        except (Damaged, OSError):
            return None

    def _started(self) -> Started | None:
        try:
            return note(self.place.at, files.STARTED, Started)
        except (Damaged, OSError):
            return None

    def _end_as(self, ended: Ended) -> None:
        with contextlib.suppress(OSError):  # it goes with the folder
            given.remove(self.place.at)
        self.ended = ended
        self.phase = Phase.ENDED
        reserved = files.RESULT + files.RESERVED
        if safe_files.exists(self.place.at, reserved):
            files.put(self.place.at, reserved, files.RESULT, ended, durable=True)

    # --- Its log ----------------------------------------------------------------------------

    def next_chunk(self) -> LogChunk | None:
        """Return the next part of the log; the same part again until ``spool.stored``."""
        part = self.spool.next()
        return None if part is None else (JobId(self.record.job), self.record.attempt, *part)
