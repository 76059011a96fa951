"""Many clients at once, each of which submits again as soon as it is answered."""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import attrs

from tests.faults.clients import Clients
from tests.faults.waiting import until_true

BUILDS = "projects/web/builds"
STALLED_SECONDS = 120.0  # the longest time without an accepted submission
ANSWER_PATIENCE_SECONDS = 600.0  # repeating the same key at any node


@attrs.define
class ConcurrentClients:
    """Submits builds on ``branches`` branches until ``enough`` is true."""

    clients: Clients
    branches: int
    enough: Callable[["ConcurrentClients"], bool]
    accepted: int = 0
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)

    async def run(self, size: int) -> None:
        """Return when every started request has its answer."""
        async with asyncio.TaskGroup() as group:
            for _ in range(size):
                group.create_task(self._submit_on())

    async def more(self, count: float) -> None:
        """Return when this many more have been accepted, or enough."""
        goal = self.accepted + count
        await until_true(
            lambda: self.accepted >= goal or self.enough(self),
            "more submissions are accepted",
            within=STALLED_SECONDS,
        )

    async def _submit_on(self) -> None:
        while not self.enough(self):
            number = next(self._numbers)
            answered = await self.clients.submit(
                f"load-{number}",
                BUILDS,
                {"branch": f"b{number % self.branches}"},
                patience=ANSWER_PATIENCE_SECONDS,
            )
            self.accepted += answered is not None
