"""A TCP proxy whose network fails when the test says so.

``UP`` is the direction from the client to the server, ``DOWN`` the other, ``BOTH`` both. Held data
arrives late, as after a short network failure. Data in a black hole is lost, so those connections
are reset by ``heal``.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import attrs

from tests.faults.link import (
    BOTH,
    DOWN,
    UP,
    Condition,
    Direction,
    NetworkConditions,
    ProxiedConnection,
)

__all__ = ["BOTH", "DOWN", "UP", "Direction", "Proxy", "proxied"]


class Proxy:
    """Listens on ``port`` and passes on to ``server``; each fault lasts until ``heal``."""

    def __init__(self, server: int, chance: random.Random | None = None) -> None:
        self.server = server
        self.port = 0
        self.accepted = 0
        self._conditions = NetworkConditions(chance or random.Random(1))
        self._refusing = False
        self._links: set[ProxiedConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._listening is not None
        self._listening.close()
        await self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = ProxiedConnection(self._conditions, self.server, reader, writer)
        if self._refusing:
            link.reset()
            return
        self._links.add(link)
        task = asyncio.create_task(self._serve(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, link: ProxiedConnection) -> None:
        try:
            await link.run()
        except OSError:
            pass  # the server is not there, or either side ended
        finally:
            link.reset()
            self._links.discard(link)

    @property
    def connections(self) -> int:
        return len(self._links)

    @property
    def trapped(self) -> asyncio.Event:
        """Set as soon as the ``trap`` holds a connection."""
        return self._conditions.trapped

    # --- Faults -----------------------------------------------------------------------------

    async def delay(self, seconds: float, jitter: float = 0.0, way: Direction = BOTH) -> None:
        await self._set(way, delay=seconds, jitter=jitter)

    async def limit(self, bytes_a_second: float | None, way: Direction = BOTH) -> None:
        await self._set(way, rate=bytes_a_second)

    async def slice(self, size: int | None, way: Direction = BOTH) -> None:
        await self._set(way, slice=size)

    async def hold(self, way: Direction = BOTH) -> None:
        """Nothing passes, not even an end; everything passes after ``release`` or ``heal``."""
        await self._set(way, held=True)

    async def trap(self, word: bytes, way: Direction = UP) -> None:
        """Hold the next connection that sends ``word``, including the word, until ``release``."""
        self.trapped.clear()
        await self._set(way, trap=word)

    async def release(self) -> None:
        for link in self._links:
            link.held = Direction(0)
        await self._set(BOTH, held=False, trap=None)

    async def blackhole(self, way: Direction = BOTH) -> None:
        """Data is lost without an error on either side; ends are lost, too."""
        await self._set(way, swallowed=True)

    async def refuse(self) -> None:
        """Reset all connections, now and from now on."""
        self._refusing = True
        await self.reset()

    async def reset(self) -> None:
        for link in tuple(self._links):
            link.reset()

    async def half_close(self, way: Direction = UP) -> None:
        """End that direction of each connection; the other continues."""
        for link in tuple(self._links):
            link.end(way)

    async def heal(self) -> None:
        """End all faults; connections that lost data are reset."""
        self._refusing = False
        for link in tuple(self._links):
            if link.lost:
                link.reset()
        for way in BOTH:
            self._conditions.by_direction[way] = Condition()
        await self.release()

    async def _set(self, ways: Direction, **how: Any) -> None:
        for way in ways:
            self._conditions.by_direction[way] = attrs.evolve(
                self._conditions.by_direction[way], **how
            )
        async with self._conditions.changed:
            self._conditions.changed.notify_all()


@contextlib.asynccontextmanager
async def proxied(server: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(server)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
