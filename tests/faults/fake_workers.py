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

from boxsched.backoff import Backoff
from boxsched.protocol import inbox, wire
from boxsched.protocol.timing import HEARTBEAT_SECONDS
from boxsched.states import Result
from boxsched.worker.remote.pace import Pace
from tests.faults.clients import NO_ANSWER

PACE = Pace()  # a worker's pauses


@attrs.define(eq=False)
class FakeWorker:
    """Holds its jobs until ``finish``. Pauses between two tries as a worker does, and sends reports
    again on its next connection if they were not acknowledged.

    ``stale``: leases that a node said are not its own any more.
    """

    name: str
    urls: Sequence[str]
    token: str
    chance: random.Random
    connected: bool = False
    connects: int = 0
    finishing: bool = False
    holds: dict[tuple[int, int], wire.Task] = attrs.field(factory=dict)
    ended: set[tuple[int, int]] = attrs.field(factory=set)
    stale: list[tuple[int, int]] = attrs.field(factory=list)
    _unanswered: dict[int, inbox.JobStarted | inbox.JobFinished] = attrs.field(factory=dict)
    _socket: aiohttp.ClientWebSocketResponse | None = None
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def run(self, http: aiohttp.ClientSession) -> None:
        """Connect again and again, forever."""
        backoff = Backoff(PACE.first_wait, PACE.longest_wait)
        for turn in itertools.count(self.chance.randrange(len(self.urls))):
            before, began = self.connects, time.monotonic()
            longest = PACE.longest_wait
            try:
                await self._connection(http, self.urls[turn % len(self.urls)])
            except aiohttp.ClientConnectorError:
                longest = PACE.longest_wait_unheard
            except NO_ANSWER:
                pass
            self.connected = False
            if self.connects > before and time.monotonic() - began >= PACE.steady:
                backoff.reset()
            await asyncio.sleep(self.chance.uniform(0, min(backoff.next(), longest)))

    async def _connection(self, http: aiohttp.ClientSession, url: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with http.ws_connect(f"{url}{wire.PATH}", headers=headers) as socket:
            self._socket = socket
            holds = (*self.holds, *((one.job, one.lease_token) for one in self._finished()))
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
            unanswered, self._unanswered = self._unanswered, {}
            for report in unanswered.values():
                await self._report(report)
        elif isinstance(said, wire.Level):
            tasks = {(task.job, task.lease_token): task for task in said.tasks}
            for lease in tasks.keys() - self.holds.keys() - self.ended:
                self.holds[lease] = tasks[lease]
                await self._report(inbox.JobStarted(*lease, time.time()))
            if self.finishing:
                await self.finish()
        elif isinstance(said, wire.Ack):
            self._unanswered.pop(said.number, None)
            self.stale += said.stale
        elif isinstance(said, wire.Leave) and self._socket is not None:
            await self._socket.close()

    async def finish(self) -> None:
        self.finishing = True
        for lease in list(self.holds):
            self.ended.add(lease)
            del self.holds[lease]
            await self._report(
                inbox.JobFinished(*lease, time.time(), Result.PASSED, 0, None),
            )

    def _finished(self) -> list[inbox.JobFinished]:
        return [one for one in self._unanswered.values() if isinstance(one, inbox.JobFinished)]

    async def _report(self, report: inbox.JobStarted | inbox.JobFinished) -> None:
        number = next(self._numbers)
        self._unanswered[number] = report
        with contextlib.suppress(ConnectionError):  # then it is sent on the next connection
            await self._say(wire.Said(number, (report,)))

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                await self._say(wire.Beat(next(self._numbers)))

    async def _say(self, message: wire.FromWorker) -> None:
        assert self._socket is not None
        await self._socket.send_str(wire.encode(message).decode())
