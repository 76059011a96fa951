"""Watch each attempt separately, so that a fault in one affects no other."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from boxsched.worker.agent.attempt import GONE, LOST, LOST_BY_RESTART, UNENDED, Attempt, Phase
from boxsched.worker.supervisor.folder import Ended
from boxsched.worker.supervisor.safe_files import NO_DESCRIPTOR, Damaged
from boxsched.worker.supervisor.supervision import GIVE_UP_SECONDS

ASK_AGAIN_SECONDS = 2.0
ASK_TIMES = 5
# How long a supervisor may take to kill its job after the grace of a stop. A supervisor that its
# job has stopped (SIGSTOP) never does. Shorter than a node waits before it treats the job as ended.
OVERDUE_SECONDS = GIVE_UP_SECONDS + 2.0

T = TypeVar("T")

_log = logging.getLogger(__name__)


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Like ``asyncio.to_thread``, but a cancelled caller waits for the thread to finish.

    The caller closes descriptors next that the thread uses.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait({task})
            task.exception()  # mark it as read: the caller was cancelled


class AttemptWatcher:
    """Reads an attempt's progress, asks again for its supervisor, and ends a lost attempt."""

    def __init__(
        self,
        boot: str,
        clock: Callable[[], float],
        *,
        ask: Callable[[Attempt], None],
        wake: Callable[[], None],
    ) -> None:
        self._boot = boot
        self._clock = clock
        self._ask = ask
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._logged: set[tuple[str, int | None]] = set()
        self._uncontained_logged = False
        self.troubled = False  # something must be tried again

    async def look(self, attempt: Attempt) -> None:
        looked = False
        with self.faults_of(attempt):
            if attempt.guarded:
                attempt.look()
            else:  # slow: it may read all processes of the machine
                await in_thread(attempt.look)
            looked = True
        with self.faults_of(attempt):
            if attempt.phase is Phase.ASKED and attempt.damage is None:
                await self._ask_again(attempt)
        with self.faults_of(attempt):
            if attempt.phase is Phase.RUNNING and attempt.grace is not None:
                await self._enforce_stop(attempt, attempt.grace)
        with self.faults_of(attempt):
            # Only after a successful look: a supervisor that has ended may have left a result.
            lost = attempt.damage is not None or (looked and attempt.gone)
            if lost and attempt.phase in UNENDED:
                await self._end_as_lost(attempt)
        with self.faults_of(attempt):
            if attempt.phase is Phase.RUNNING:
                self._watch_process(attempt)
            else:
                self.unwatch(attempt)
        self._log_containment(attempt)

    @contextlib.contextmanager
    def faults_of(self, attempt: Attempt) -> Iterator[None]:
        """Mark the attempt as damaged if its files are gone or not ours; retry other faults."""
        try:
            yield
        except Damaged as damage:
            attempt.damage = str(damage)
        except (FileNotFoundError, NotADirectoryError):
            attempt.damage = GONE
        except OSError as error:
            self.trouble(attempt.name, error)
            if error.errno in NO_DESCRIPTOR:  # release this attempt's descriptors for the others
                self.unwatch(attempt)
                attempt.close()
        if attempt.damage is not None and attempt.phase in UNENDED:
            self.troubled = True  # this look or the next one ends it

    def trouble(self, name: str, error: OSError) -> None:
        """Log the fault once; the next look tries again."""
        self.troubled = True
        if (name, error.errno) not in self._logged:
            self._logged.add((name, error.errno))
            _log.warning("%s: %s; trying again", name, error)

    def forget(self, name: str) -> None:
        self._logged = {key for key in self._logged if key[0] != name}

    async def _ask_again(self, attempt: Attempt) -> None:
        """Repeat the request: a spawner that died has lost it. A second request does no harm."""
        if self._loop.time() < attempt.asked_at + ASK_AGAIN_SECONDS:
            return
        if attempt.asked_times < ASK_TIMES:
            self._ask(attempt)
            return
        reason = "its supervisor could not be started"
        ended = Ended("failed", None, None, False, reason, None, self._clock(), not_begun=True)
        await in_thread(attempt.void, ended)

    async def _enforce_stop(self, attempt: Attempt, grace: float) -> None:
        now = self._loop.time()
        if attempt.ends_by is None:
            attempt.ends_by = now + grace + OVERDUE_SECONDS
        elif now >= attempt.ends_by:
            attempt.ends_by = now + OVERDUE_SECONDS
            _log.error("%s: its supervisor does not end the job, so it is killed", attempt.name)
            await asyncio.to_thread(attempt.kill_supervisor)

    async def _end_as_lost(self, attempt: Attempt) -> None:
        lost = LOST if attempt.damage is None else f"lost: {attempt.damage}"
        if attempt.record.boot != self._boot:
            lost = LOST_BY_RESTART
        if await in_thread(attempt.end_as_lost, lost, self._clock()):
            _log.error("%s: %s", attempt.name, lost)

    # --- Its supervisor's process -----------------------------------------------------------

    def _watch_process(self, attempt: Attempt) -> None:
        if attempt.process is not None and not attempt.watched:
            self._loop.add_reader(attempt.process, self._process_ended, attempt)
            attempt.watched = True

    def unwatch(self, attempt: Attempt) -> None:
        if attempt.watched and attempt.process is not None:
            self._loop.remove_reader(attempt.process)
        attempt.watched = False

    def _process_ended(self, attempt: Attempt) -> None:
        self.unwatch(attempt)
        attempt.forget_process()
        self._wake()

    def _log_containment(self, attempt: Attempt) -> None:
        running, cgroup = attempt.running, attempt.record.cgroup
        if running and cgroup and not running.contained and not self._uncontained_logged:
            self._uncontained_logged = True
            _log.warning(
                "jobs cannot be moved into their cgroups; their processes are found as descendants"
            )
