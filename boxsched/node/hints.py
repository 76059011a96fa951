"""Hints that reach this node over the bus, passed to its engines, feed and workers."""

from collections.abc import Collection, Mapping

import attrs

from boxsched.cluster.leadership import Leadership
from boxsched.feed import EventFeed
from boxsched.gateway import Gateway
from boxsched.model import WorkerId
from boxsched.node.in_process import LocalWorker
from boxsched.store.store import Store


@attrs.frozen
class Hints:
    """The node's side of the bus. ``cluster.bus.Listener`` documents the calls."""

    store: Store
    feed: EventFeed
    leadership: Leadership
    gateway: Gateway
    worker: LocalWorker

    def woken(self, shard: int) -> None:
        engine = self.leadership.engines.get(shard)
        if engine is not None:
            engine.wake()

    def heard(self, shard: int, batch: int) -> None:
        self.feed.heard(shard, batch)

    def missed(self) -> None:
        self.feed.recheck()
        for engine in self.leadership.engines.values():
            engine.wake()
        self.worker.look()
        self.gateway.look(self.gateway.connected)

    async def look(self, workers: Collection[WorkerId]) -> None:
        if self.worker.id in workers:
            self.worker.look()
        await self.gateway.looked(workers)

    async def places(self, workers: Collection[WorkerId]) -> Mapping[WorkerId, str]:
        return await self.store.places(workers)
