"""What a worker has to say, said until it is durable."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from boxsched.errors import StoreAway
from boxsched.inbox import JobFinished, JobStarted
from boxsched.model import JobId

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0

Report = JobStarted | JobFinished
LogChunk = tuple[JobId, int, int, bytes]  # job, attempt, offset, bytes


class Outbox:
    """The ways to the store, tried again for as long as it is away."""

    def __init__(
        self,
        report: Callable[[Sequence[Report]], Awaitable[None]],
        log: Callable[[Sequence[LogChunk]], Awaitable[None]],
        problem: Callable[[str | None], Awaitable[None]],
    ) -> None:
        self._report = report
        self._log = log
        self._problem = problem

    async def report(self, reports: Sequence[Report]) -> None:
        await _insist(self._report, reports)

    async def log(self, chunks: Sequence[LogChunk]) -> None:
        await _insist(self._log, chunks)

    async def problem(self, problem: str | None) -> None:
        """Why no job can begin here, or that one can."""
        await _insist(self._problem, problem)


async def _insist(say: Callable[[Any], Awaitable[None]], what: object) -> None:
    """The calls may be repeated: lease tokens and offsets make that harmless."""
    wait = FIRST_WAIT_SECONDS
    while True:
        try:
            await say(what)
        except StoreAway:
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        else:
            return
