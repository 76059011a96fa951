"""A reader of the event stream that moves from node to node and must miss nothing (V19)."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import aiohttp

from tests.faults.clients import NO_ANSWER, PAUSE_SECONDS
from tests.faults.cluster import Cluster
from tests.faults.waiting import until

EventKey = tuple[int, int, int]  # shard, batch, n

SILENCE_SECONDS = 3.0  # then it asks another node; comments come in between


class Follower:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._cursor = "1.0.0"  # before the first event
        self.heard: list[EventKey] = []
        self.connects = 0

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
        headers = {"Authorization": f"Bearer {self._cluster.nodes[0].token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            for turn in itertools.count():
                node = self._cluster.nodes[turn % len(self._cluster.nodes)]
                with contextlib.suppress(*NO_ANSWER):
                    await self._connection(http, f"{node.url}/api/v1/events")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _connection(self, http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(url, headers={"Last-Event-ID": self._cursor}) as answer:
            if answer.status != 200:
                return
            self.connects += 1
            async for line in answer.content:
                if line.startswith(b"id:"):
                    self._cursor = line[3:].strip().decode()
                elif line.startswith(b"data:"):
                    shard, batch, n = self._cursor.split(".")
                    self.heard.append((int(shard), int(batch), int(n)))

    async def assert_complete(self) -> None:
        """Check that it has received everything, once and in order."""
        rows = await self._cluster.sql("SELECT shard, batch, n FROM event ORDER BY shard, batch, n")
        written = [(shard, batch, n) for shard, batch, n in rows]

        async def look() -> bool:
            return len(self.heard) >= len(written)

        await until(look, "the reader has heard as many events as were written")
        assert self.heard[: len(written)] == written


@contextlib.asynccontextmanager
async def following(cluster: Cluster) -> AsyncIterator[Follower]:
    """Read from before the first event, so it has to receive everything."""
    follower = Follower(cluster)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
