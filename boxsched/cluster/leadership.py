"""The interface of a node's leadership, and the one for SQLite: one node leads the only shard.

``ElectedLeadership`` (``elected``) is PostgreSQL's: any number of nodes, and locks say who leads.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from boxsched.cluster.shares import LockView
from boxsched.engine.engine import Engine
from boxsched.errors import BoxschedError
from boxsched.protocol.lock_keys import node_number

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

    async def run(self) -> None: ...

    async def close(self) -> None:
        """Wait for the current turns to end, and free all shards for other nodes."""


class SoleLeadership:
    """The only node leads the only shard; the lock on its data folder keeps a second node out."""

    def __init__(self, engine_of: EngineOf, shard: int, node: str) -> None:
        self._shard = shard
        self._node = node_number(node)
        self._over = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._engine = engine_of(shard, lambda: not self._over)

    @property
    def engines(self) -> Mapping[int, Engine]:
        return {self._shard: self._engine}

    @property
    def led(self) -> frozenset[int]:
        return frozenset({self._shard} if self._engine.leads else ())

    @property
    def view(self) -> LockView | None:
        return LockView(self._node, frozenset({self._node}), dict.fromkeys(self.led, self._node))

    async def claim(self) -> None:
        """Nothing to do: the data folder is locked already."""

    async def start(self) -> None:
        """Load the shard and run its first turn before the first request."""
        await self._engine.load()
        await self._engine.turn()

    async def run(self) -> None:
        self._ended.clear()
        try:
            await self._engine.run()
        finally:
            self._ended.set()

    async def close(self) -> None:
        self._over = True
        self._engine.wake()
        await self._ended.wait()
