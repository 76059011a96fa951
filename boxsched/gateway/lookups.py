"""Look up what workers should be running: one query at a time, for all requested workers."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import attrs

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Figures, Times
from boxsched.model import WorkerId
from boxsched.protocol.assignments import Assignment


class LevelReceiver(Protocol):
    """Receives a worker's level after a look-up."""

    def give(self, assignments: Sequence[Assignment], *, anyway: bool) -> bool:
        """Send the level if it has changed, or ``anyway``. Return whether it has changed."""


class LevelSource(Protocol):
    """Finds what workers should be running."""

    async def assignments(
        self, ids: Sequence[WorkerId]
    ) -> Mapping[WorkerId, Sequence[Assignment]]: ...


@attrs.define
class _Round:
    """The workers of the next query."""

    since: float = attrs.field(factory=time.monotonic)  # about when its first look-up was requested
    # whether to send the level even if it has not changed
    workers: dict[WorkerId, bool] = attrs.field(factory=dict)
    waiting: list[asyncio.Future[bool]] = attrs.field(factory=list)

    def add(self, workers: Collection[WorkerId], anyway: bool) -> None:
        if not self.workers:
            self.since = time.monotonic()
        for worker in workers:
            self.workers[worker] = anyway or self.workers.get(worker, False)

    def settle(self, news: bool) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(news)

    def fail(self, error: StoreAway) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)
        self.waiting.clear()


class LookUps:
    """Looks up the levels of workers. ``links``: the workers connected here; others are skipped."""

    def __init__(
        self,
        source: LevelSource,
        links: Mapping[WorkerId, LevelReceiver],
        figures: Figures,
        times: Times,
    ) -> None:
        self._source = source
        self._links = links
        self._figures = figures
        self._times = times
        self._next = _Round()
        self._asked = asyncio.Event()

    def look(self, workers: Collection[WorkerId], *, anyway: bool = False) -> None:
        here = [worker for worker in workers if worker in self._links]
        if here:
            self._next.add(here, anyway)
            self._asked.set()

    async def looked(self, workers: Collection[WorkerId]) -> bool:
        """Wait until a query that begins after this call has been processed; return whether any
        level changed.

        Raises StoreAway; then the look-up is repeated in the background.
        """
        self.look(workers)
        if not any(worker in self._links for worker in workers):
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._next.waiting.append(future)
        return await future

    async def run(self) -> None:
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                await self._look_up()
        finally:
            self._next.fail(StoreAway("this node is stopping"))

    async def _look_up(self) -> None:
        round_, self._next = self._next, _Round()
        self._figures.look_ups += 1
        try:
            found = await self._source.assignments(list(round_.workers))
        except StoreAway as error:
            round_.fail(error)
            await asyncio.sleep(self._times.first_retry)
            for worker, anyway in round_.workers.items():
                self.look((worker,), anyway=anyway)
            return
        except asyncio.CancelledError:
            round_.fail(StoreAway("this node is stopping"))
            raise
        news = False
        waited = time.monotonic() - round_.since
        for worker, anyway in round_.workers.items():
            link = self._links.get(worker)
            if link is not None:
                level = found.get(worker, ())
                self._figures.level_seconds += waited * sum(not one.started for one in level)
                news = link.give(level, anyway=anyway) or news
        round_.settle(news)
