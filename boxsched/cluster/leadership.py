"""What a node's leadership promises, and SQLite's, in which one node leads the only shard.

``ElectedLeadership`` (``elected``) is PostgreSQL's: any number of nodes, and locks say who leads.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from boxsched.cluster.shares import View
from boxsched.engine.engine import Engine
from boxsched.errors import BoxschedError
from boxsched.protocol.lock_keys import node_number

EngineOf = Callable[[int, Callable[[], bool]], Engine]  # shard, whether it may lead now


class LeadershipFailed(BoxschedError):
    """This node can never lead as it was started: read the message."""

    code = "leadership_failed"


class Leadership(Protocol):
    @property
    def engines(self) -> Mapping[int, Engine]:
        """Of each shard that this node leads, or is about to lead."""

    @property
    def led(self) -> frozenset[int]:
        """The shards that this node leads, loaded and serving."""

    @property
    def view(self) -> View | None:
        """Which nodes are alive and which lead, as last seen; None while that is not known."""

    async def claim(self) -> None:
        """Refuse to be a second node of this name, before anything is written in its name."""

    async def start(self) -> None:
        """Begin to lead the shards that are free, now and later."""

    async def run(self) -> None: ...

    async def close(self) -> None:
        """Wait for current turns to end; then every shard is free for other nodes."""


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
    def view(self) -> View | None:
        return View(self._node, frozenset({self._node}), dict.fromkeys(self.led, self._node))

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
