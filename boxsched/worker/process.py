"""The driver that runs each job as a tree of processes under its supervisor."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from boxsched.inbox import JobFinished
from boxsched.model import JobId
from boxsched.states import Result
from boxsched.store.values import Assignment
from boxsched.worker import folder as files
from boxsched.worker.attempt import CHUNK_BYTES, LOST, LOST_BY_RESTART, Attempt, Phase
from boxsched.worker.folder import Damaged, Ended
from boxsched.worker.forking import Spawner
from boxsched.worker.outbox import Outbox, Report
from boxsched.worker.plan import Unrunnable, attempt_name, plan
from boxsched.worker.site import OpenFolder, adopt_all, open_folder

TAIL_SECONDS = 0.2
ASK_AGAIN_SECONDS = 2.0
ASK_TIMES = 5

_log = logging.getLogger(__name__)

Key = tuple[JobId, int]  # a job and its lease token


class ProcessDriver:
    """Two things happen here: ``reconcile`` settles what is desired, a task watches the rest."""

    def __init__(
        self,
        path: Path,
        outbox: Outbox,
        clock: Callable[[], float],
        *,
        cluster: str,
        log_limit: int,
        stop_grace: float,
    ) -> None:
        self._path = path
        self._outbox = outbox
        self._clock = clock
        self._cluster = cluster
        self._log_limit = log_limit
        self._stop_grace = stop_grace

        self._attempts: dict[Key, Attempt] = {}
        self._desired: dict[Key, Assignment] | None = None  # None: not known yet
        self._answered: dict[Key, JobFinished] = {}  # what ended without ever having a folder
        self._unsaid: list[JobFinished] = []
        self._quarantined: dict[str, str] = {}
        self._uncontained_told = False
        self._settling = asyncio.Lock()
        self._woken = asyncio.Event()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._folder: OpenFolder = await asyncio.to_thread(
            open_folder, self._path, cluster=self._cluster, log_limit=self._log_limit
        )
        site = self._folder.site
        adopted, self._quarantined = await asyncio.to_thread(adopt_all, site)
        self._attempts = {attempt.key: attempt for attempt in adopted}
        for attempt in adopted:
            _log.info("adopted %s, %s", attempt.name, attempt.phase.value)
        self._spawner = Spawner(site.folder)
        await asyncio.to_thread(self._spawner.start)
        self._loop.add_reader(self._folder.bell, self._hear)
        self._sweep = asyncio.create_task(asyncio.to_thread(self._folder.empty_trash))
        self._watch = asyncio.create_task(self._watch_attempts())
        self._watch.add_done_callback(_tell_failure)

    async def close(self) -> None:
        self._watch.cancel()
        await asyncio.wait([self._watch, self._sweep])
        self._loop.remove_reader(self._folder.bell)
        for attempt in self._attempts.values():
            self._unwatch(attempt)
            attempt.close()
        await asyncio.to_thread(self._spawner.close)
        self._folder.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._folder.bell, 4_096)
        self._woken.set()

    # --- What is desired --------------------------------------------------------------------

    async def reconcile(self, desired: Sequence[Assignment]) -> None:
        if self._watch.done():
            self._watch.result()  # raises what ended it
        self._desired = {(wanted.job, wanted.lease_token): wanted for wanted in desired}
        await self._settle()

    async def _settle(self) -> None:
        """Start what is missing, end what is too much, forget what nobody asks about."""
        async with self._settling:
            desired = self._desired or {}
            self._answered = {k: said for k, said in self._answered.items() if k in desired}
            for key, attempt in list(self._attempts.items()):
                if key not in desired or desired[key].stop:
                    await self._stop(attempt)
                elif attempt.phase is Phase.PREPARED:
                    self._ask(attempt)
                if key not in desired and attempt.phase is Phase.REPORTED:
                    self._forget(attempt)
            missing = [
                desired[k] for k in desired if k not in self._attempts and k not in self._answered
            ]
            taken = {attempt.name for attempt in self._attempts.values()}
            fresh = []
            for wanted in sorted(missing, key=lambda wanted: (wanted.lease_token, wanted.job)):
                name = attempt_name(wanted)
                if wanted.stop:
                    self._answer(wanted, Result.STOPPED, "stopped")
                elif name in self._quarantined:
                    self._answer(wanted, Result.FAILED, f"lost: {self._quarantined[name]}")
                elif name not in taken:  # else once that one, of an older token, has gone
                    fresh.append(wanted)
            # Together, since a disk syncs many files in little more time than one.
            await asyncio.gather(*(self._begin(wanted) for wanted in fresh))
            self._woken.set()

    async def _begin(self, wanted: Assignment) -> None:
        outcome = await asyncio.to_thread(self._prepare, wanted)
        if isinstance(outcome, Attempt):
            self._attempts[outcome.key] = outcome
            self._ask(outcome)
        else:
            self._answer(wanted, Result.FAILED, outcome)

    def _prepare(self, wanted: Assignment) -> Attempt | str:
        """Folder and record, durable; or why not. In a thread: this waits for the disk."""
        site = self._folder.site
        try:
            record, script = plan(wanted, site)
            attempt = Attempt.prepare(f"{site.folder}/{attempt_name(wanted)}", record, script)
            files.sync_folder(site.folder)
        except Unrunnable as refusal:
            return str(refusal)
        except OSError as error:
            full = error.errno in files.FULL_ERRORS
            return files.DISK_FULL if full else f"cannot start it: {error.strerror}"
        return attempt

    def _ask(self, attempt: Attempt) -> None:
        attempt.phase = Phase.ASKED
        attempt.asked_at = self._loop.time()
        attempt.asked_times += 1
        self._spawner.ask(attempt.name)

    async def _stop(self, attempt: Attempt) -> None:
        if attempt.phase is Phase.PREPARED:
            ended = Ended("stopped", None, None, False, "stopped", None, self._clock())
            if await asyncio.to_thread(attempt.void, ended):
                return
            attempt.phase = Phase.ASKED  # a supervisor came, asked for by an agent before
        if attempt.phase in (Phase.ASKED, Phase.RUNNING):
            attempt.stop(self._stop_grace)

    def _answer(self, wanted: Assignment, result: Result, reason: str) -> None:
        """The end of something that was never started."""
        key = (wanted.job, wanted.lease_token)
        finished = JobFinished(*key, self._clock(), result, None, reason)
        self._answered[key] = finished
        self._unsaid.append(finished)

    def _forget(self, attempt: Attempt) -> None:
        del self._attempts[attempt.key]
        self._folder.discard(attempt)
        if self._sweep.done():
            self._sweep = asyncio.create_task(asyncio.to_thread(self._folder.empty_trash))

    # --- What runs --------------------------------------------------------------------------

    async def _watch_attempts(self) -> None:
        while True:
            self._woken.clear()
            if await self._round():
                continue
            phases = {attempt.phase for attempt in self._attempts.values()}
            busy = phases & {Phase.ASKED, Phase.RUNNING}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAIL_SECONDS if busy else None):
                    await self._woken.wait()

    async def _round(self) -> bool:
        """Look, store the logs, report; True where there is more to store at once."""
        attempts = list(self._attempts.values())
        for attempt in attempts:
            await self._look(attempt)

        chunks = []
        for attempt in attempts:
            if attempt.phase is not Phase.REPORTED and (chunk := attempt.next_chunk()):
                chunks.append((attempt, chunk))
        if chunks:
            await self._outbox.log([chunk for _, chunk in chunks])
            for attempt, _ in chunks:
                attempt.chunk_stored()

        if await self._report(attempts) and self._desired is not None:
            await self._settle()  # what has ended may be forgotten, or make room for its like
        return any(len(chunk[3]) == CHUNK_BYTES for _, chunk in chunks)

    async def _look(self, attempt: Attempt) -> None:
        lost = LOST
        try:
            attempt.look()
        except Damaged as damage:
            lost, attempt.gone = f"lost: {damage}", True
        if attempt.phase is Phase.ASKED:
            await self._ask_again(attempt)
        if attempt.phase is Phase.RUNNING and attempt.gone:
            if attempt.record.boot != self._folder.site.boot:
                lost = LOST_BY_RESTART
            _log.error("%s: %s", attempt.name, lost)
            await asyncio.to_thread(attempt.bury, lost, self._clock())
        if attempt.phase is Phase.RUNNING:
            self._watch_process(attempt)
        else:
            self._unwatch(attempt)
        self._tell_containment(attempt)

    async def _ask_again(self, attempt: Attempt) -> None:
        """Requests are lost with a spawner that dies; a second one does no harm."""
        if self._loop.time() < attempt.asked_at + ASK_AGAIN_SECONDS:
            return
        if attempt.asked_times < ASK_TIMES:
            self._ask(attempt)
            return
        reason = "its supervisor could not be started"
        ended = Ended("failed", None, None, False, reason, None, self._clock())
        await asyncio.to_thread(attempt.void, ended)

    def _watch_process(self, attempt: Attempt) -> None:
        if attempt.process is not None and not attempt.watched:
            attempt.watched = True
            self._loop.add_reader(attempt.process, self._supervisor_gone, attempt)

    def _unwatch(self, attempt: Attempt) -> None:
        if attempt.watched and attempt.process is not None:
            self._loop.remove_reader(attempt.process)
        attempt.watched = False

    def _supervisor_gone(self, attempt: Attempt) -> None:
        self._unwatch(attempt)
        attempt.gone = True
        self._woken.set()

    def _tell_containment(self, attempt: Attempt) -> None:
        running, cgroup = attempt.running, attempt.record.cgroup
        if running and cgroup and not running.contained and not self._uncontained_told:
            self._uncontained_told = True
            _log.warning("jobs cannot be moved into their cgroups: found by descent instead")

    async def _report(self, attempts: list[Attempt]) -> bool:
        """True where something was reported as ended."""
        said = len(self._unsaid)
        reports: list[Report] = list(self._unsaid)
        began, ended = [], []
        for attempt in attempts:
            if start := attempt.start_report():
                reports.append(start)
                began.append(attempt)
            if end := attempt.end_report():
                reports.append(end)
                ended.append(attempt)
        if not reports:
            return False
        await self._outbox.report(reports)
        del self._unsaid[:said]
        for attempt in began:
            attempt.start_reported = True
        for attempt in ended:
            attempt.phase = Phase.REPORTED
        return bool(ended)


def _tell_failure(watch: asyncio.Task[None]) -> None:
    """A mistake of ours ended the watch: said at once, and raised by the next reconcile."""
    if not watch.cancelled() and (error := watch.exception()) is not None:
        _log.critical("the worker watches its jobs no more", exc_info=error)
