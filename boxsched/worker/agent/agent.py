"""The agent: it runs the assignments of its worker and reports their progress."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.worker.agent.cache import CacheFigures
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.agent.none import NoneDriver
from boxsched.worker.agent.outbox import Finding, LogChunk, Opening, Outbox, Report
from boxsched.worker.agent.process import ProcessDriver
from boxsched.worker.agent.site import refuse_jobs_left_behind
from boxsched.worker.agent.transfers import Transfers
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.joblog import LOG_LIMIT_BYTES
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits

STOP_GRACE_SECONDS = 10.0
DRIVERS = ("bubblewrap", "podman", "process", "none")

Key = tuple[JobId, int]  # a job and its lease token


class Driver(Protocol):
    """How jobs are run."""

    async def start(self) -> None: ...

    async def reconcile(self, desired: Sequence[Assignment]) -> None: ...

    async def enter_session(self, key: Key) -> socket.socket: ...

    async def close(self) -> None: ...

    def heartbeat_answered(self, at: float, lost_after: float) -> None: ...

    @property
    def holds(self) -> tuple[Key, ...]: ...

    @property
    def problem(self) -> str | None: ...

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...] | None: ...

    @property
    def ended_ghosts(self) -> int: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def cache_figures(self) -> CacheFigures: ...

    def drop(self, stale: Collection[Key]) -> None: ...

    def end_ghosts(self, decided: Collection[Key]) -> None: ...


class Agent:
    """A worker without its connection. The caller passes assignments in and takes reports.

    ``report``, ``log``, ``fix``, ``open_session`` and ``report_problem`` return when their argument
    is durable. When they raise ``StoreAway``, the agent calls them again.

    ``log``: chunks are (job, attempt, offset, bytes), at most 64 KiB each, in order. All chunks of
    an attempt come before its ``JobFinished``. A chunk may come twice, with the same bounds.
    ``fix``: takes the commit that a job's supervisor found, and returns the commit that all jobs of
    the workload run, the first that was found; None when this worker's lease has ended.
    ``open_session``: takes how an SSH session is reached; False when the lease has ended.
    ``report_problem``: takes the reason why no job can begin here now, or None. The agent calls it
    before it reports the jobs that could not begin.
    ``cluster``: names the installation; attempts of another installation are set aside.
    ``log_limit``: bytes. ``stop_grace``: seconds between SIGTERM and SIGKILL.
    ``lost_after``: seconds after the last ``heartbeat_answered`` at which a build's supervisor ends
    its job; None: never. ``expects_jobs``: keep a process ready to start jobs. ``isolation``: how
    jobs are isolated, for the driver ``bubblewrap``. ``limits``: of each job. ``ssh_address``:
    where SSH sessions listen for direct connections; None: nowhere. ``transfers``: moves artifacts;
    None: no job can keep any. ``cache_bytes``: the size of the cache on this machine. ``images``:
    those that jobs may run in.
    """

    def __init__(
        self,
        *,
        folder: Path,
        driver: str,
        report: Callable[[Sequence[Report]], Awaitable[None]],
        log: Callable[[Sequence[LogChunk]], Awaitable[None]],
        report_problem: Callable[[str | None], Awaitable[None]],
        fix: Callable[[Finding], Awaitable[str | None]],
        open_session: Callable[[Opening], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
        log_limit: int = LOG_LIMIT_BYTES,
        stop_grace: float = STOP_GRACE_SECONDS,
        cluster: str = "",
        lost_after: float | None = None,
        expects_jobs: bool = True,
        isolation: Isolation | None = None,
        limits: Limits = NO_LIMITS,
        ssh_address: str | None = None,
        transfers: Transfers | None = None,
        cache_bytes: int = 0,
        images: Images = NO_IMAGES,
    ) -> None:
        outbox = Outbox(report, log, report_problem, fix, open_session)
        if driver not in DRIVERS:
            raise ValueError(f"no such Box driver: {driver}")
        if (driver in ("bubblewrap", "podman")) != (isolation is not None):
            raise ValueError("isolation belongs to the Box drivers bubblewrap and podman")
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
                isolation=isolation,
                limits=limits,
                ssh_address=ssh_address,
                transfers=transfers,
                cache_bytes=cache_bytes,
                images=images,
            )

    async def start(self) -> None:
        """Adopt the attempts that an earlier agent left in the folder.

        Raises FolderInUse if another agent works in ``folder``, JobsLeftBehind if it holds jobs of
        the process driver and this agent has another driver.
        """
        if isinstance(self._driver, NoneDriver):
            await asyncio.to_thread(refuse_jobs_left_behind, self._folder, self._cluster)
        await self._driver.start()

    async def reconcile(self, desired: Sequence[Assignment]) -> None:
        """Start the attempts of ``desired`` that do not run, and end all others that are of builds.

        Calls must not overlap. A finished attempt is remembered while ``desired`` contains it.
        """
        await self._driver.reconcile(desired)

    def heartbeat_answered(self, at: float, lost_after: float) -> None:
        """Note that a node answered the heartbeat that was sent ``at`` (``boottime``)."""
        self._driver.heartbeat_answered(at, lost_after)

    @property
    def holds(self) -> tuple[Key, ...]:
        """Return the attempts that run here or are not reported yet."""
        return self._driver.holds

    @property
    def problem(self) -> str | None:
        """Why no job can begin here now; None if jobs can begin."""
        return self._driver.problem

    @property
    def cache_figures(self) -> CacheFigures:
        """What the cache has done since the start."""
        return self._driver.cache_figures

    def drop(self, stale: Collection[Key]) -> None:
        """The leases of these attempts have ended. Those of builds end at once, and their output is
        kept here; the others are ghosts.
        """
        self._driver.drop(stale)

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...] | None:
        """Return what is here and not desired; None before the first ``reconcile``."""
        return self._driver.ghosts

    @property
    def ended_ghosts(self) -> int:
        """Return how many of ``holds`` are ghosts that have ended."""
        return self._driver.ended_ghosts

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know: the newest records in quarantine."""
        return self._driver.notes

    def end_ghosts(self, decided: Collection[Key]) -> None:
        """End these ghosts; forget those that have ended."""
        self._driver.end_ghosts(decided)

    async def enter_session(self, job: JobId, lease_token: int) -> socket.socket:
        """Return a connection to the server of an SSH session. Raises NoSession."""
        return await self._driver.enter_session((job, lease_token))

    async def close(self) -> None:
        """Stop watching. Jobs continue under their supervisors; the next agent adopts them."""
        await self._driver.close()


def continuing_jobs_text(jobs: int) -> str:
    """Return the message for the user who ends a service or a worker while it has jobs."""
    what, them = ("1 job continues", "it") if jobs == 1 else (f"{jobs} jobs continue", "them")
    return f"{what}; the next start on this data folder finds {them}"
