"""The interface of a node's leadership, and the one for SQLite: one node leads all shards.

``ElectedLeadership`` (``elected``) is PostgreSQL's: any number of nodes, and locks say who leads.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from boxsched.cluster.shares import LockView
from boxsched.engine.engine import Engine
from boxsched.errors import BoxschedError, StoreAway
from boxsched.protocol.lock_keys import node_number
from boxsched.store.store import Store

RETRY_SECONDS = 0.5  # before the next look for new shards, while the store is away

# arguments: the shard, and a function that says whether it may lead now
EngineOf = Callable[[int, Callable[[], bool]], Engine]


class LeadershipFailed(BoxschedError):
    """This node cannot lead with its present options: read the message."""

    code = "leadership_failed"


class Leadership(Protocol):
    @property
    def engines(self) -> Mapping[int, Engine]:
        """The engines of the shards that this node leads or is about to lead."""

    @property
    def led(self) -> frozenset[int]:
        """The shards that this node leads, loaded and serving."""

    @property
    def view(self) -> LockView | None:
        """Which nodes are alive and which lead, as last seen; None if not known."""

    async def claim(self) -> None:
        """Raise LeadershipFailed if another node has this name, before anything is written under
        it.
        """

    async def start(self) -> None:
        """Start to lead shards that are free, now and later."""

    def look(self) -> None:
        """Look for new shards soon: there may be one."""

    async def run(self) -> None: ...

    async def close(self) -> None:
        """Wait for the current turns to end, and free all shards for other nodes."""


class SoleLeadership:
    """The only node leads all shards; the lock on its data folder keeps a second node out."""

    def __init__(self, engine_of: EngineOf, store: Store, node: str) -> None:
        self._engine_of = engine_of
        self._store = store
        self._node = node_number(node)
        self._over = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._changed = asyncio.Event()
        self._engines: dict[int, Engine] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def engines(self) -> Mapping[int, Engine]:
        return self._engines

    @property
    def led(self) -> frozenset[int]:
        return frozenset(shard for shard, engine in self._engines.items() if engine.leads)

    @property
    def view(self) -> LockView | None:
        return LockView(self._node, frozenset({self._node}), dict.fromkeys(self.led, self._node))

    async def claim(self) -> None:
        """Nothing to do: the data folder is locked already."""

    async def start(self) -> None:
        """Load each shard and run its first turn before the first request."""
        for engine in await self._new_engines():
            await engine.load()
            await engine.turn()

    def look(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Run the engines of all shards, also of new ones. Raises the error of a failed engine."""
        self._ended.clear()
        try:
            for shard, engine in self._engines.items():
                self._begin(shard, engine)
            while not self._over:
                await self._changed.wait()
                self._changed.clear()
                for task in [task for task in self._tasks if task.done()]:
                    self._tasks.discard(task)
                    task.result()
                if not self._over:
                    await self._look()
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._ended.set()

    async def close(self) -> None:
        self._over = True
        self._changed.set()
        for engine in self._engines.values():
            engine.wake()
        await self._ended.wait()

    async def _look(self) -> None:
        try:
            for engine in await self._new_engines():
                self._begin(engine.shard, engine)
        except StoreAway:
            await asyncio.sleep(RETRY_SECONDS)
            self._changed.set()

    async def _new_engines(self) -> list[Engine]:
        """Create the engines of the shards that have none."""
        shards = [head.id for head in await self._store.shards()]
        new = [shard for shard in shards if shard not in self._engines]
        for shard in new:
            self._engines[shard] = self._engine_of(shard, lambda: not self._over)
        return [self._engines[shard] for shard in new]

    def _begin(self, shard: int, engine: Engine) -> None:
        task = asyncio.create_task(engine.run(), name=f"engine of shard {shard}")
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._changed.set())
