"""The driver that runs nothing: every job passes as soon as it is assigned (for ``bench``)."""

import socket
import time
from collections.abc import Callable, Collection, Sequence

from boxsched.model import JobId, Kind
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from boxsched.worker.agent.cache import CacheFigures
from boxsched.worker.agent.outbox import Outbox, Report
from boxsched.worker.agent.reporting import REPEAT_SECONDS
from boxsched.worker.agent.sessions import NoSession

NO_SESSIONS = "this worker runs nothing (--box-driver none), so it cannot open SSH sessions"


class NoneDriver:
    """Reports every assigned job as passed. One call of ``report`` for each ``reconcile``."""

    def __init__(self, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._clock = clock
        # ended jobs, with the time of the last report
        self._finished: dict[tuple[JobId, int], float] = {}

    async def start(self) -> None:
        """Do nothing: there are no jobs to adopt."""

    async def reconcile(self, desired: Sequence[Assignment]) -> None:
        now, said_at = self._clock(), time.monotonic()
        finished, at = self._finished, dict[tuple[JobId, int], float]()
        reports: list[Report] = []
        for wanted in desired:
            job, token = wanted.job, wanted.lease_token
            before = finished.get((job, token))
            if before is not None and said_at - before < REPEAT_SECONDS:
                at[job, token] = before
                continue
            at[job, token] = said_at
            if wanted.stop:
                reports.append(JobFinished(job, token, now, Result.STOPPED, None, "stopped"))
            elif wanted.kind is Kind.SSH:
                reports.append(JobFinished(job, token, now, Result.FAILED, None, NO_SESSIONS))
            else:
                reports.append(JobStarted(job, token, now))
                passed = JobFinished(job, token, now, Result.PASSED, 0, None, seconds=0.0)
                reports.append(passed)
        if reports:
            await self._outbox.report(reports)
        self._finished = at

    async def close(self) -> None:
        """Do nothing."""

    async def enter_session(self, key: tuple[JobId, int]) -> socket.socket:
        raise NoSession(NO_SESSIONS)

    def heartbeat_answered(self, at: float, lost_after: float) -> None:
        """Do nothing: no job runs."""

    @property
    def holds(self) -> tuple[tuple[JobId, int], ...]:
        return ()

    @property
    def cache_figures(self) -> CacheFigures:
        return CacheFigures()

    @property
    def problem(self) -> str | None:
        return None

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...]:
        return ()

    @property
    def ended_ghosts(self) -> int:
        return 0

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def end_ghosts(self, decided: Collection[tuple[JobId, int]]) -> None:
        """Do nothing: there are none."""

    def drop(self, stale: Collection[tuple[JobId, int]]) -> None:
        """Do nothing: no job runs."""
