"""The agent: runs what its worker should be running, and reports it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.worker.agent.none import NoneDriver
from boxsched.worker.agent.outbox import Finding, LogChunk, Outbox, Report
from boxsched.worker.agent.process import ProcessDriver
from boxsched.worker.agent.site import refuse_jobs_left_behind
from boxsched.worker.supervisor.joblog import LOG_LIMIT_BYTES

STOP_GRACE_SECONDS = 10.0
DRIVERS = ("process", "none")

Key = tuple[JobId, int]  # a job and its lease token


class Driver(Protocol):
    """How jobs are run."""

    async def start(self) -> None: ...

    async def reconcile(self, desired: Sequence[Assignment]) -> None: ...

    async def close(self) -> None: ...

    def heard(self, at: float, lost_after: float) -> None: ...

    @property
    def holds(self) -> tuple[Key, ...]: ...

    @property
    def problem(self) -> str | None: ...

    def drop(self, stale: Collection[Key]) -> None: ...


class Agent:
    """A worker without its connection: who embeds it brings assignments and takes reports.

    ``report``, ``log`` and ``fix`` are durable when they return; where they raise ``StoreAway``
    they are tried again. Log chunks are (job, attempt, offset, bytes), at most 64 KiB each, in
    order, and all of an attempt's come before its ``JobFinished``; a chunk may come twice, with the
    same bounds. ``fix`` is given the commit that a job's supervisor found, and says which one all
    jobs of the workload run: the first that anyone found; None where the lease is not this worker's
    any more. ``say_problem`` says why no job can begin here at present, or None; it is durable when
    it returns, too, and comes before the reports of such jobs. ``cluster`` names the installation:
    folders of another one are set aside.

    ``lost_after``: a build's job is ended by its supervisor so many seconds after the last
    ``heard``, whatever the agent does meanwhile; None: never. Without ``expects_jobs`` no process
    is kept ready to start some.
    """

    def __init__(
        self,
        *,
        folder: Path,
        driver: str,
        report: Callable[[Sequence[Report]], Awaitable[None]],
        log: Callable[[Sequence[LogChunk]], Awaitable[None]],
        say_problem: Callable[[str | None], Awaitable[None]],
        fix: Callable[[Finding], Awaitable[str | None]],
        clock: Callable[[], float] = time.time,
        log_limit: int = LOG_LIMIT_BYTES,
        stop_grace: float = STOP_GRACE_SECONDS,
        cluster: str = "",
        lost_after: float | None = None,
        expects_jobs: bool = True,
    ) -> None:
        outbox = Outbox(report, log, say_problem, fix)
        if driver not in DRIVERS:
            raise ValueError(f"no such Box driver: {driver}")
        self._folder = folder
        self._cluster = cluster
        self._driver: Driver
        if driver == "none":
            self._driver = NoneDriver(outbox, clock)
        else:
            self._driver = ProcessDriver(
                folder,
                outbox,
                clock,
                cluster=cluster,
                log_limit=log_limit,
                stop_grace=stop_grace,
                lost_after=lost_after,
                expects_jobs=expects_jobs,
            )

    async def start(self) -> None:
        """Find and adopt what an earlier life left behind.

        Raises FolderInUse where another agent works in ``folder``, JobsLeftBehind where it holds
        jobs that this driver would know nothing of.
        """
        if isinstance(self._driver, NoneDriver):
            await asyncio.to_thread(refuse_jobs_left_behind, self._folder, self._cluster)
        await self._driver.start()

    async def reconcile(self, desired: Sequence[Assignment]) -> None:
        """All that this worker should run or end now: what is missing is started, the rest ended.

        Calls never overlap. What has finished is remembered until ``desired`` holds it no more.
        """
        await self._driver.reconcile(desired)

    def heard(self, at: float, lost_after: float) -> None:
        """A heartbeat was answered that was sent ``at`` (``heard.boottime``). Once started."""
        self._driver.heard(at, lost_after)

    @property
    def holds(self) -> tuple[Key, ...]:
        """What is here, running or to be reported."""
        return self._driver.holds

    @property
    def problem(self) -> str | None:
        """Why no job can begin here at present; None: they can."""
        return self._driver.problem

    def drop(self, stale: Collection[Key]) -> None:
        """These are this worker's no more: ended at once; what they put out is kept here."""
        self._driver.drop(stale)

    async def close(self) -> None:
        """Stop watching; jobs go on under their supervisors, for the next agent to adopt."""
        await self._driver.close()


def going_on(jobs: int) -> str:
    """What a person is told who ends a service or a worker while it has jobs."""
    what, them = ("1 job goes", "it") if jobs == 1 else (f"{jobs} jobs go", "them")
    return f"{what} on; the next start on this data folder finds {them}"
