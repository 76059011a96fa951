"""Fake workers that only send and receive messages, many in one process, to test a node under many
connections."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterator, Sequence

import aiohttp
import attrs

from boxsched.protocol import inbox, wire
from boxsched.protocol.timing import HEARTBEAT_SECONDS
from boxsched.states import Result
from tests.faults.clients import NO_ANSWER

MOST_WAIT_SECONDS = 2.0  # between two tries: a random time up to that


@attrs.define(eq=False)
class FakeWorker:
    """Holds its jobs until ``finish``; repeats messages that were not acknowledged."""

    name: str
    urls: Sequence[str]
    token: str
    chance: random.Random
    connected: bool = False
    connects: int = 0
    finishing: bool = False
    holds: dict[tuple[int, int], wire.Task] = attrs.field(factory=dict)
    ended: set[tuple[int, int]] = attrs.field(factory=set)
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def run(self, http: aiohttp.ClientSession) -> None:
        """Connect again and again, forever."""
        for turn in itertools.count(self.chance.randrange(len(self.urls))):
            with contextlib.suppress(*NO_ANSWER):
                await self._connection(http, self.urls[turn % len(self.urls)])
            self.connected = False
            await asyncio.sleep(self.chance.uniform(0, MOST_WAIT_SECONDS))  # its own jitter

    async def _connection(self, http: aiohttp.ClientSession, url: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with http.ws_connect(f"{url}{wire.PATH}", headers=headers) as socket:
            self._socket = socket
            holds = tuple(self.holds)
            hello = wire.Hello(
                wire.VERSION, self.name, self.name, ("default",), "protocol=1", "boot", holds
            )
            await self._say(hello)
            beating = asyncio.create_task(self._beat())
            try:
                async for message in socket:
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        await self._hear(wire.from_node.decode(message.data))
            finally:
                beating.cancel()

    async def _hear(self, said: wire.FromNode) -> None:
        if isinstance(said, wire.Welcome):
            self.connected = True
            self.connects += 1
        elif isinstance(said, wire.Level):
            tasks = {(task.job, task.lease_token): task for task in said.tasks}
            for lease in tasks.keys() - self.holds.keys() - self.ended:
                self.holds[lease] = tasks[lease]
                started = inbox.JobStarted(*lease, time.time())
                await self._say(wire.Said(next(self._numbers), (started,)))
            if self.finishing:
                await self.finish()

    async def finish(self) -> None:
        self.finishing = True
        for lease in list(self.holds):
            finished = inbox.JobFinished(*lease, time.time(), Result.PASSED, 0, None)
            await self._say(wire.Said(next(self._numbers), (finished,)))
            self.ended.add(lease)
            del self.holds[lease]

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                await self._say(wire.Beat(next(self._numbers)))

    async def _say(self, message: wire.FromWorker) -> None:
        assert self._socket is not None
        await self._socket.send_str(wire.encode(message).decode())
