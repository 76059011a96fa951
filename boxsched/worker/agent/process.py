"""The driver that runs each job as a tree of processes under its supervisor, isolated or not."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.worker.agent import ghosts
from boxsched.worker.agent.answers import Answers
from boxsched.worker.agent.attempt import Attempt, Phase
from boxsched.worker.agent.attempt_watcher import AttemptWatcher
from boxsched.worker.agent.beginning import Beginning
from boxsched.worker.agent.cache import CacheFigures, CacheFolder
from boxsched.worker.agent.forking import Spawner
from boxsched.worker.agent.furnishing import Furnishing
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.agent.keeping import Keeping
from boxsched.worker.agent.limiting import mark
from boxsched.worker.agent.outbox import Outbox
from boxsched.worker.agent.plan import cgroup_name
from boxsched.worker.agent.podman import remove_left
from boxsched.worker.agent.readiness import Readiness
from boxsched.worker.agent.reporting import Reporting
from boxsched.worker.agent.sessions import NoSession, connect_session
from boxsched.worker.agent.site import OpenFolder, adopt_all, open_folder, quarantine_notes
from boxsched.worker.agent.spool import CHUNK_BYTES
from boxsched.worker.agent.transfers import Transfers
from boxsched.worker.supervisor.descriptors import raise_limit
from boxsched.worker.supervisor.folder import Ended
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits
from boxsched.worker.supervisor.safe_files import Damaged
from boxsched.worker.supervisor.verdict import STOPPED

TAIL_SECONDS = 0.2
NOT_HERE = "ended: the job no longer belongs to this worker"
DECIDED = "ended: the job no longer belongs to this worker, as a person has decided"

_log = logging.getLogger(__name__)

Key = tuple[JobId, int]  # a job and its lease token


class ProcessDriver:
    """Runs assignments. ``reconcile`` starts and stops attempts; a task watches them."""

    def __init__(
        self,
        path: Path,
        outbox: Outbox,
        clock: Callable[[], float],
        *,
        cluster: str,
        log_limit: int,
        stop_grace: float,
        lost_after: float | None = None,
        expects_jobs: bool = True,
        isolation: Isolation | None = None,
        limits: Limits = NO_LIMITS,
        ssh_address: str | None = None,
        transfers: Transfers | None = None,
        cache_bytes: int = 0,
        images: Images = NO_IMAGES,
    ) -> None:
        self._path = path
        self._outbox = outbox
        self._clock = clock
        self._cluster = cluster
        self._log_limit = log_limit
        self._stop_grace = stop_grace
        self._lost_after = lost_after
        self._expects_jobs = expects_jobs
        self._isolation = isolation
        self._limits = limits
        self._ssh_address = ssh_address
        self._images = images
        self._answered_at = 0.0

        self._attempts: dict[Key, Attempt] = {}
        self._desired: dict[Key, Assignment] | None = None  # None: not known yet
        self._fresh = False  # ``_desired`` is new
        self._readiness = Readiness(path, outbox.problem, isolation)
        self._answers = Answers(clock)
        self._reporting = Reporting(outbox, self._readiness, self._answers)
        self._settling = asyncio.Lock()
        self._woken = asyncio.Event()
        self._cache_figures = CacheFigures()
        self._cache_bytes = cache_bytes
        self._keeping = Keeping(transfers, self._cache, self._woken.set)
        self._furnishing = Furnishing(transfers, self._cache, clock, self._furnished)
        self._settle_again = False
        self._beginning = Beginning(self._answers, self._woken.set)
        self._open: OpenFolder | None = None
        self._spawner: Spawner | None = None
        self._watcher: AttemptWatcher
        self._sweep: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        async with contextlib.AsyncExitStack() as taken:
            taken.push_async_callback(self.close)
            await self._start()
            taken.pop_all()

    async def _start(self) -> None:
        descriptors = raise_limit()
        self._loop = asyncio.get_running_loop()
        self._open = await asyncio.to_thread(
            open_folder,
            self._path,
            cluster=self._cluster,
            log_limit=self._log_limit,
            stop_grace=self._stop_grace,
            isolation=self._isolation,
            limits=self._limits,
            ssh_address=self._ssh_address,
            images=self._images,
        )
        site = self._open.site
        self._watcher = AttemptWatcher(site.boot, self._clock, ask=self._ask, wake=self._woken.set)
        adopted, self._beginning.quarantined = await asyncio.to_thread(adopt_all, site)
        self._attempts = {attempt.key: attempt for attempt in adopted}
        for attempt in adopted:
            _log.info("adopted %s, %s", attempt.name, attempt.phase.value)
        self._spawner = Spawner(
            site.folder, descriptors, ended=self._supervisor_ended, died=self._spawner_died
        )
        if self._expects_jobs:  # otherwise it starts with the first request
            await asyncio.to_thread(self._spawner.start)
            self._spawner.listen()
        self._loop.add_reader(self._open.bell, self._read_bell)
        if self._cache_bytes:
            await asyncio.to_thread(self._cache().tidy)
        self._sweep = asyncio.create_task(asyncio.to_thread(self._tidy, self._open))
        self._watch = asyncio.create_task(self._watch_attempts())
        self._looking = asyncio.create_task(self._readiness.run())
        self._readiness.suspected()
        for task in (self._watch, self._looking):
            task.add_done_callback(_log_failure)

    def _tidy(self, opened: OpenFolder) -> None:
        """Remove what ended jobs left. Blocking."""
        opened.empty_trash()
        site = opened.site
        if site.images.podman is not None:
            known = {cgroup_name(site, attempt.name) for attempt in self._attempts.values()}
            for name in remove_left(site.images.podman, mark(site.folder), known):
                _log.warning("removed the container %s, which an earlier job left", name)

    async def close(self) -> None:
        """Release everything. Works also if ``start`` failed or was never called."""
        for task in (self._watch, self._looking):
            if task is not None:
                task.cancel()
        works = (self._watch, self._looking, self._sweep)
        if tasks := [task for task in works if task is not None]:
            await asyncio.wait(tasks)
        await self._furnishing.close()
        await self._keeping.close()
        for attempt in self._attempts.values():
            self._watcher.unwatch(attempt)
            attempt.close()
        self._attempts.clear()
        if self._spawner is not None:
            self._spawner.close()
        if self._open is not None:
            self._loop.remove_reader(self._open.bell)
            self._open.close()
        self._watch = self._looking = self._sweep = self._spawner = self._open = None

    def _cache(self) -> CacheFolder:
        return CacheFolder(self._folder.site.at, self._cache_bytes, self._cache_figures)

    def _furnished(self) -> None:
        self._settle_again = True
        self._woken.set()

    @property
    def _folder(self) -> OpenFolder:
        assert self._open is not None, "not started"
        return self._open

    def _read_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._folder.bell, 4_096)
        self._woken.set()

    # --- Its lease --------------------------------------------------------------------------

    def heartbeat_answered(self, at: float, lost_after: float) -> None:
        if self._lost_after is not None and at > self._answered_at:
            self._answered_at, self._lost_after = at, lost_after
            self._folder.write_heartbeat(at, lost_after)

    @property
    def holds(self) -> tuple[Key, ...]:
        attempts = self._attempts.items()
        return tuple(key for key, attempt in attempts if attempt.phase is not Phase.REPORTED)

    @property
    def problem(self) -> str | None:
        return self._readiness.problem

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...] | None:
        return None if self._desired is None else ghosts.named(self._desired, self._attempts)

    @property
    def ended_ghosts(self) -> int:
        return ghosts.ended(self._attempts.values())

    @property
    def cache_figures(self) -> CacheFigures:
        return self._cache_figures

    @property
    def notes(self) -> tuple[str, ...]:
        return quarantine_notes(self._beginning.quarantined)

    def drop(self, stale: Collection[Key]) -> None:
        for key in stale:
            attempt = self._attempts.get(key)
            if attempt is None or attempt.stale:
                continue
            if attempt.is_build:
                self._end(attempt, 0.0, NOT_HERE)
            else:
                attempt.parked = True

    def end_ghosts(self, decided: Collection[Key]) -> None:
        for key in decided:
            attempt = self._attempts.get(key)
            if attempt is not None and not attempt.stale and key not in (self._desired or ()):
                attempt.parked = False
                self._end(attempt, self._stop_grace, DECIDED)
        self._woken.set()

    def _end(self, attempt: Attempt, grace: float, why: str) -> None:
        attempt.stale = True
        _log.warning(
            "%s no longer belongs to this worker; it is stopped, its output is kept", attempt.name
        )
        with self._watcher.faults_of(attempt):
            if attempt.phase in (Phase.ASKED, Phase.RUNNING):
                attempt.stop(grace, why)

    # --- The desired assignments ------------------------------------------------------------

    async def reconcile(self, desired: Sequence[Assignment]) -> None:
        if self._watch is not None and self._watch.done():
            self._watch.result()  # raises the error that ended the task
        self._desired = {(wanted.job, wanted.lease_token): wanted for wanted in desired}
        self._fresh = True
        await self._settle()
        self._woken.set()

    async def _settle(self) -> None:
        """Start missing attempts, stop those that are not desired, forget the reported ones."""
        async with self._settling:
            desired = self._desired or {}
            if self._attempts:
                ghosts.restore(desired, self._attempts, self._watcher.faults_of)
            if self._fresh:  # otherwise a ghost that a node has just refused would be none again
                ghosts.park(desired, self._attempts)
                self._fresh = False
            self._beginning.note(desired, self._attempts)
            self._reporting.repeat(desired, self._attempts)
            for key, attempt in list(self._attempts.items()):
                with self._watcher.faults_of(attempt):
                    if attempt.parked:
                        continue
                    if key not in desired:
                        await self._stop(attempt, NOT_HERE)
                    elif desired[key].stop:
                        await self._stop(attempt, desired[key].stop_reason or STOPPED)
                    elif attempt.phase is Phase.PREPARED and attempt.furnished:
                        self._ask(attempt)
                    if key not in desired and attempt.phase is Phase.REPORTED:
                        self._forget(attempt)
            # At the same time: a disk syncs many files in little more time than one.
            startable = self._beginning.startable(desired, self._attempts)
            await asyncio.gather(*(self._begin(wanted) for wanted in startable))
            self._furnishing.begin(self._attempts.values())

    async def _begin(self, wanted: Assignment) -> None:
        site = self._folder.site
        attempt = await self._beginning.begin(wanted, site, self._watcher, self._lost_after)
        if attempt is not None:
            self._attempts[attempt.key] = attempt
            if attempt.furnished:
                with self._watcher.faults_of(attempt):
                    self._ask(attempt)

    def _ask(self, attempt: Attempt) -> None:
        assert self._spawner is not None
        attempt.guarded, attempt.status = True, None  # before the request: the spawner may die now
        self._spawner.ask(attempt.name)
        attempt.phase = Phase.ASKED
        attempt.asked_at = self._loop.time()
        attempt.asked_times += 1

    def _supervisor_ended(self, name: str, status: int) -> None:
        for attempt in self._attempts.values():
            if attempt.name == name:
                attempt.supervisor_ended(status)
        self._woken.set()

    def _spawner_died(self) -> None:
        for attempt in self._attempts.values():
            attempt.guarded = False
        self._woken.set()

    async def _stop(self, attempt: Attempt, why: str) -> None:
        self._keeping.cancel(attempt)
        if attempt.phase is Phase.PREPARED:
            self._furnishing.cancel(attempt)
            ended = Ended("stopped", None, None, False, "stopped", None, self._clock())
            if await asyncio.to_thread(attempt.void, ended):
                return
            attempt.phase = Phase.ASKED  # a supervisor started on an earlier agent's request
        if attempt.phase in (Phase.ASKED, Phase.RUNNING):
            attempt.stop(self._stop_grace, why)

    def _forget(self, attempt: Attempt) -> None:
        self._folder.discard(attempt)
        del self._attempts[attempt.key]
        self._watcher.forget(attempt.name)
        if self._sweep is None or self._sweep.done():
            self._sweep = asyncio.create_task(asyncio.to_thread(self._folder.empty_trash))

    # --- The running attempts ---------------------------------------------------------------

    async def _watch_attempts(self) -> None:
        while True:
            self._woken.clear()
            if await self._round():
                continue
            phases = {attempt.phase for attempt in self._attempts.values()}
            busy = phases & {Phase.ASKED, Phase.RUNNING} or self._watcher.troubled
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAIL_SECONDS if busy else None):
                    await self._woken.wait()

    async def _round(self) -> bool:
        """Look at each attempt, store logs, and report. Return whether there is more to do now."""
        again, self._watcher.troubled = self._watcher.troubled or self._settle_again, False
        self._settle_again = False
        if self._spawner is not None:
            self._spawner.thaw()
        attempts = list(self._attempts.values())
        for attempt in attempts:
            await self._watcher.look(attempt)
        attempts = [one for one in attempts if self._is_told_of(one)]
        await asyncio.gather(
            *(self._fix(one) for one in attempts if one.asks_for_commit),
            *(self._open_session(one) for one in attempts if one.opens),
        )

        self._keeping.begin(attempts)

        chunks = []
        for attempt in attempts:
            with self._watcher.faults_of(attempt):
                if attempt.phase is not Phase.REPORTED and (chunk := attempt.next_chunk()):
                    chunks.append((attempt, chunk))
        if chunks:
            await self._outbox.log([chunk for _, chunk in chunks])
            for attempt, _ in chunks:
                attempt.spool.stored()

        ended = await self._reporting.report(attempts)
        if (ended or again) and self._desired is not None:
            await self._settle()  # forget ended attempts; others may begin
        # Nothing wakes the task for an ended attempt: send the rest of its log at once.
        more = any(
            len(chunk[3]) == CHUNK_BYTES or attempt.phase is Phase.ENDED
            for attempt, chunk in chunks
        )
        return ended or more

    def _is_told_of(self, attempt: Attempt) -> bool:
        """Whether nodes are told what it does: not a ghost, which is known with the first level."""
        return attempt.is_build or not (attempt.parked or self._desired is None)

    async def _fix(self, attempt: Attempt) -> None:
        """Ask the store for the workload's commit and pass it to the waiting supervisor."""
        assert attempt.found is not None
        commit = await self._outbox.fix((*attempt.key, attempt.found.commit))
        if commit is None:
            self.drop([attempt.key])
            return
        with self._watcher.faults_of(attempt):
            attempt.fix(commit)

    # --- SSH sessions -----------------------------------------------------------------------

    async def _open_session(self, attempt: Attempt) -> None:
        """Report how the session is reached."""
        opened = attempt.opened
        assert opened is not None
        host = None if opened.port is None else self._folder.site.ssh_address
        port = None if host is None else opened.port
        if await self._outbox.open_session((*attempt.key, host, port, opened.host_key)):
            attempt.open_reported = True
        else:
            self.drop([attempt.key])

    async def enter_session(self, key: Key) -> socket.socket:
        """Return a connection to the server of the session. Raises NoSession."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.opened is None or attempt.phase is not Phase.RUNNING:
            raise NoSession("this session is not open here")
        try:
            return await connect_session(attempt)
        except (OSError, Damaged) as error:
            raise NoSession(f"this session cannot be entered: {error}") from None


def _log_failure(watch: asyncio.Task[None]) -> None:
    """Log the error that ended the task. The next ``reconcile`` raises it."""
    if not watch.cancelled() and (error := watch.exception()) is not None:
        _log.critical("the worker no longer watches its jobs", exc_info=error)
