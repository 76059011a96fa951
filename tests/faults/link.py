"""One connection through the proxy: two directions, each with its own conditions."""

import asyncio
import contextlib
import enum
import random
import socket
import struct
from collections import deque
from collections.abc import Callable

import attrs

READ_BYTES = 1 << 16
LIMITED_BYTES = 1 << 10  # one piece, if the rate is limited
QUEUED_BYTES = 4 << 20  # in one direction; beyond it reading stops
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time


class Direction(enum.Flag):
    UP = enum.auto()
    DOWN = enum.auto()


UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.UP | Direction.DOWN


@attrs.define
class Condition:
    """The conditions of one direction, for every connection."""

    delay: float = 0.0  # seconds, of each piece
    jitter: float = 0.0  # a random addition up to this; order is kept
    rate: float | None = None  # bytes per second
    slice: int | None = None  # bytes per piece, each sent by itself
    held: bool = False  # kept, and passed on after the release
    swallowed: bool = False
    trap: bytes | None = None  # the connection that sends this word next is held


@attrs.define
class NetworkConditions:
    """What all connections of a proxy use; ``changed`` is notified of every change."""

    chance: random.Random
    by_direction: dict[Direction, Condition] = attrs.field(
        factory=lambda: {UP: Condition(), DOWN: Condition()}
    )
    changed: asyncio.Condition = attrs.field(factory=asyncio.Condition)
    trapped: asyncio.Event = attrs.field(factory=asyncio.Event)


class ProxiedConnection:
    def __init__(
        self,
        conditions: NetworkConditions,
        server: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.conditions = conditions
        self.lost = False  # something was swallowed, so later data is useless
        self.held = Direction(0)
        self.ended = Direction(0)
        self._server = server
        self._reader = reader
        self._writers = {DOWN: writer}

    async def run(self) -> None:
        early = await self._early()
        if early is None:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server)
        self._writers[UP] = writer
        async with asyncio.TaskGroup() as group:
            group.create_task(DirectionPump(self, UP, self._reader, writer).run(early))
            group.create_task(DirectionPump(self, DOWN, reader, self._writers[DOWN]).run(b""))

    async def _early(self) -> bytes | None:
        """Wait for the end of a cut before connecting; return the data received until then, or None
        if the caller gave up."""
        said = b""
        passing = asyncio.create_task(self.until_passing(BOTH))
        try:
            while not self._passes(BOTH):
                reading = asyncio.create_task(self._reader.read(READ_BYTES))
                await asyncio.wait((reading, passing), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait((reading,))
                elif heard := reading.result():
                    said += heard
                else:
                    return None
        finally:
            passing.cancel()
        return said

    def _passes(self, ways: Direction) -> bool:
        weathers = [self.conditions.by_direction[way] for way in ways]
        return not self.held & ways and not any(w.held or w.swallowed for w in weathers)

    async def until_passing(self, ways: Direction) -> None:
        await self._until(lambda: self._passes(ways))

    async def _until(self, well: Callable[[], bool]) -> None:
        if not well():
            async with self.conditions.changed:
                await self.conditions.changed.wait_for(well)

    def hears(self, way: Direction, said: bytes) -> None:
        """Look for the trap's word."""
        by_direction = self.conditions.by_direction[way]
        if by_direction.trap is not None and by_direction.trap in said:
            by_direction.trap = None
            self.held |= way
            self.conditions.trapped.set()

    def end(self, ways: Direction) -> None:
        for way in ways & ~self.ended:
            self.ended |= way
            if way in self._writers:
                self._writers[way].write_eof()

    def reset(self) -> None:
        for writer in self._writers.values():
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()


class DirectionPump:
    """One direction of a connection: received data is queued with the time when it is due."""

    def __init__(
        self,
        link: ProxiedConnection,
        way: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._link = link
        self._way = way
        self._reader = reader
        self._writer = writer
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def _weather(self) -> Condition:
        return self._link.conditions.by_direction[self._way]

    async def run(self, early: bytes) -> None:
        """``early`` was read before."""
        if early:
            self._put(0.0, early)
        passing = asyncio.create_task(self._pass_on_or_reset())
        try:
            await self._take()
            await passing
        finally:
            passing.cancel()

    async def _take(self) -> None:
        due, loop = 0.0, asyncio.get_running_loop()
        while True:
            try:
                said = await self._reader.read(READ_BYTES)
            except ConnectionResetError:
                said = b""
            if self._weather.swallowed:
                self._link.lost = True
                if said:
                    continue
                await self._link.until_passing(self._way)  # the end is passed on late
            self._link.hears(self._way, said)
            late = self._weather.delay + self._link.conditions.chance.uniform(
                0, self._weather.jitter
            )
            due = max(due, loop.time() + late)
            self._put(due, said)
            if not said:
                return
            while self._queued > QUEUED_BYTES:
                self._room.clear()
                await self._room.wait()

    def _put(self, due: float, said: bytes) -> None:
        self._queue.append((due, said))
        self._queued += len(said)
        self._news.set()

    async def _pass_on_or_reset(self) -> None:
        try:
            await self._pass_on()
        except OSError:  # the receiver is gone: the sender learns it with its next data
            await self._link.until_passing(BOTH & ~self._way)
            self._link.reset()

    async def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._news.clear()
                await self._news.wait()
            due, said = self._queue.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._link.until_passing(self._way)
            if not said:
                self._link.end(self._way)
                return
            if self._way not in self._link.ended:
                await self._send(said)
            self._queued -= len(said)
            self._room.set()

    async def _send(self, said: bytes) -> None:
        by_direction = self._weather
        size = by_direction.slice or (READ_BYTES if by_direction.rate is None else LIMITED_BYTES)
        for start in range(0, len(said), size):
            piece = said[start : start + size]
            self._writer.write(piece)
            await self._writer.drain()
            if by_direction.rate is not None:
                await asyncio.sleep(len(piece) / by_direction.rate)
            elif by_direction.slice is not None:
                await asyncio.sleep(0)  # so that the next piece is its own segment
