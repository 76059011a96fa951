"""Deliver a worker's reports and output, repeated until they are durable."""

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

_T = TypeVar("_T")
_R = TypeVar("_R")


class Outbox:
    """The calls to the store. Each is repeated for as long as the store is away."""

    def __init__(
        self,
        report: Callable[[Sequence[Report]], Awaitable[None]],
        log: Callable[[Sequence[LogChunk]], Awaitable[None]],
        problem: Callable[[str | None], Awaitable[None]],
        fix: Callable[[Finding], Awaitable[str | None]],
    ) -> None:
        self._report = report
        self._log = log
        self._problem = problem
        self._fix = fix

    async def report(self, reports: Sequence[Report]) -> None:
        await _until_taken(self._report, reports)

    async def log(self, chunks: Sequence[LogChunk]) -> None:
        await _until_taken(self._log, chunks)

    async def problem(self, problem: str | None) -> None:
        """Why no job can begin here, or that one can."""
        await _until_taken(self._problem, problem)

    async def fix(self, found: Finding) -> str | None:
        """The commit that the job runs; None where the lease is this worker's no more."""
        return await _until_taken(self._fix, found)


async def _until_taken(say: Callable[[_T], Awaitable[_R]], what: _T) -> _R:
    """The calls may be repeated: lease tokens, offsets and the first commit make it harmless."""
    backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
    return await repeat(say, what, backoff, on=StoreAway)
