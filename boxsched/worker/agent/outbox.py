"""Deliver a worker's reports and output, and repeat them until they are durable."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from boxsched.backoff import Backoff, repeat
from boxsched.errors import StoreAway
from boxsched.model import JobId
from boxsched.protocol.inbox import JobFinished, JobStarted

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0

Report = JobStarted | JobFinished
LogChunk = tuple[JobId, int, int, bytes]  # job, attempt, offset, bytes
Finding = tuple[JobId, int, str]  # job, lease token, the commit that was found
# job, lease token, host and port (None: only through a node), public key of the server
Opening = tuple[JobId, int, str | None, int | None, str]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Outbox:
    """The calls to the store. Each call is repeated while the store is away."""

    def __init__(
        self,
        report: Callable[[Sequence[Report]], Awaitable[None]],
        log: Callable[[Sequence[LogChunk]], Awaitable[None]],
        problem: Callable[[str | None], Awaitable[None]],
        fix: Callable[[Finding], Awaitable[str | None]],
        open_session: Callable[[Opening], Awaitable[bool]],
    ) -> None:
        self._report = report
        self._log = log
        self._problem = problem
        self._fix = fix
        self._open_session = open_session

    async def report(self, reports: Sequence[Report]) -> None:
        await _until_durable(self._report, reports)

    async def log(self, chunks: Sequence[LogChunk]) -> None:
        await _until_durable(self._log, chunks)

    async def problem(self, problem: str | None) -> None:
        """Report why no job can begin here; None: jobs can begin."""
        await _until_durable(self._problem, problem)

    async def fix(self, found: Finding) -> str | None:
        """Return the commit that the job runs; None if this worker no longer holds the lease."""
        return await _until_durable(self._fix, found)

    async def open_session(self, opening: Opening) -> bool:
        """Report how a session is reached; False if this worker no longer holds the lease."""
        return await _until_durable(self._open_session, opening)


async def _until_durable(deliver: Callable[[_T], Awaitable[_R]], what: _T) -> _R:
    """Repeat the call while the store is away.

    A repeated call does no harm: lease tokens and offsets identify reports and output, and the
    first commit stays.
    """
    backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
    return await repeat(deliver, what, backoff, on=StoreAway)
