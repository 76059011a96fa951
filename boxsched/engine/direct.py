"""Reports of workers that are connected to the leader's own node, passed to it in memory.

A report does not have to be stored before it is applied, because the worker keeps it and sends it
again until it is acknowledged. So a report that the engine takes here needs no separate
transaction; it is acknowledged when the batch that applied it is durable. If the engine takes no
reports (it does not lead, the store is away, a turn has raised), they go through the inbox, like
those of other nodes.
"""

import asyncio
from collections import deque

import attrs

from boxsched.errors import StoreAway
from boxsched.protocol.inbox import JobFinished, Reports

WAITING_AT_MOST = 10_000  # calls
TURN_AT_MOST = 1_000  # calls that one turn takes
CLOSED_SECONDS = 60.0  # after a turn that raised, because one of these may be the cause


@attrs.frozen(eq=False)
class WaitingReports:
    """Reports of one worker, and a future that is done when they are durable."""

    command: Reports
    at: float  # when it arrived
    future: asyncio.Future[None]

    @property
    def ends(self) -> int:
        """Return how many ends of jobs it reports."""
        return sum(isinstance(report, JobFinished) for report in self.command.reports)

    def done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def failed(self) -> None:
        """Make the worker send it again, because it may not have been applied."""
        if not self.future.done():
            self.future.set_exception(StoreAway("not applied: send it again"))
            self.future.exception()  # marks the error as read: the caller may have been cancelled


class Direct:
    """Reports that wait for the engine's next turn. Seconds are monotonic."""

    def __init__(self) -> None:
        self._waiting: deque[WaitingReports] = deque()
        self._closed_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def say(self, command: Reports, now: float) -> asyncio.Future[None] | None:
        """Take reports. The future raises StoreAway if they must be sent again; None: not taken."""
        if now < self._closed_until or len(self._waiting) >= WAITING_AT_MOST:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(WaitingReports(command, now, future))
        return future

    def take(self) -> list[WaitingReports]:
        count = min(len(self._waiting), TURN_AT_MOST)
        return [self._waiting.popleft() for _ in range(count)]

    def close(self, now: float) -> None:
        """Take no reports for CLOSED_SECONDS, because a turn with such reports raised."""
        self._closed_until = now + CLOSED_SECONDS
        self.drop()

    def drop(self) -> None:
        while self._waiting:
            self._waiting.popleft().failed()
