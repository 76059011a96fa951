"""Reports of workers that are connected to the leader's own node, passed to it in memory.

A report need not be stored before it is applied: the worker keeps it, and sends it again until it
is acknowledged. So a report that the engine takes here costs no transaction of its own; it is
acknowledged when the batch that applied it is durable. If the engine takes none (it does not lead,
the store is away, a turn has raised), reports go through the inbox, like those of other nodes.
"""

import asyncio
from collections import deque

import attrs

from boxsched.errors import StoreAway
from boxsched.protocol.inbox import JobFinished, Reports

WAITING_AT_MOST = 10_000  # calls
TURN_AT_MOST = 1_000  # calls that one turn takes
CLOSED_SECONDS = 60.0  # after a turn that raised: one of these may be to blame


@attrs.frozen(eq=False)
class Said:
    """Reports of one worker, and a future that is done when they are durable."""

    command: Reports
    at: float  # when it came
    future: asyncio.Future[None]

    @property
    def ends(self) -> int:
        """How many job ends it reports."""
        return sum(isinstance(report, JobFinished) for report in self.command.reports)

    def done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def failed(self) -> None:
        """Make the worker send it again: it was not applied, or that is not known."""
        if not self.future.done():
            self.future.set_exception(StoreAway("not applied: say it again"))
            self.future.exception()  # a caller that went away will never ask for it


class Direct:
    """Reports that wait for the engine's next turn. Seconds are monotonic."""

    def __init__(self) -> None:
        self._waiting: deque[Said] = deque()
        self._closed_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def say(self, command: Reports, now: float) -> asyncio.Future[None] | None:
        """Take reports. The future raises StoreAway if they must be sent again; None: not taken."""
        if now < self._closed_until or len(self._waiting) >= WAITING_AT_MOST:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Said(command, now, future))
        return future

    def take(self) -> list[Said]:
        count = min(len(self._waiting), TURN_AT_MOST)
        return [self._waiting.popleft() for _ in range(count)]

    def close(self, now: float) -> None:
        """A turn with such reports raised: take none for CLOSED_SECONDS."""
        self._closed_until = now + CLOSED_SECONDS
        self.drop()

    def drop(self) -> None:
        while self._waiting:
            self._waiting.popleft().failed()
