"""Nodes that record what they receive, and ways to wait for it."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping

from boxsched.cluster.redis_bus import RedisBus
from boxsched.errors import StoreAway
from boxsched.model import WorkerId

UNTIL_SECONDS = 20.0  # generous: only a failure waits that long
HEARD_LOOK_SECONDS = 0.01

_numbers = itertools.count(1)


def new_prefix() -> str:
    """Return a new prefix for a test, so that tests can share a server."""
    return f"boxsched-test-{os.getpid()}-{next(_numbers)}"


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as it is true."""
    async with asyncio.timeout(UNTIL_SECONDS):
        while not condition():  # noqa: ASYNC110 (some of it is the server's)
            await asyncio.sleep(HEARD_LOOK_SECONDS)


def workers(*numbers: int) -> list[WorkerId]:
    return [WorkerId(number) for number in numbers]


class RecordingListener:
    """A listener. ``store_away``: looks fail; ``gate``: looks wait until it is set."""

    def __init__(self) -> None:
        self.shards: list[int] = []
        self.batches: list[tuple[int, int]] = []
        self.missed_times = 0
        self.looked: list[WorkerId] = []
        self.begun: list[WorkerId] = []
        self.refused = 0
        self.store_away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.where: dict[WorkerId, str] = {}

    def woken(self, shard: int) -> None:
        self.shards.append(shard)

    def heard(self, shard: int, batch: int) -> None:
        self.batches.append((shard, batch))

    def missed(self) -> None:
        self.missed_times += 1

    async def look(self, workers: Collection[WorkerId]) -> None:
        self.begun += sorted(workers)
        await self.gate.wait()
        if self.store_away:
            self.refused += 1
            raise StoreAway("no connection")
        self.looked += sorted(workers)

    async def places(self, workers: Collection[WorkerId]) -> Mapping[WorkerId, str]:
        return {worker: self.where[worker] for worker in workers if worker in self.where}


class BusNode:
    """A bus and what it received."""

    def __init__(self, url: str, prefix: str, name: str, visibility: float) -> None:
        self.name = name
        self.stream = f"{prefix}:hints:{name}"
        self.bus = RedisBus(url, prefix=prefix, node=name, visibility=visibility)
        self.listener = RecordingListener()

    async def up_again(self, missed_before: int) -> None:
        """Wait until it is connected again."""
        await until(lambda: self.bus.up and self.listener.missed_times > missed_before)


class BusCluster:
    """Nodes with one prefix; all are closed at the end."""

    def __init__(self, url: str, *, visibility: float = 60.0) -> None:
        self.url = url
        self.prefix = new_prefix()
        self.visibility = visibility
        self._nodes: list[BusNode] = []

    async def node(self, name: str, *, up: bool = True) -> BusNode:
        node = BusNode(self.url, self.prefix, name, self.visibility)
        self._nodes.append(node)
        await node.bus.open(node.listener)
        if up:
            await until(lambda: node.bus.up and node.listener.missed_times)
        return node

    async def close(self) -> None:
        while self._nodes:
            await self._nodes.pop().bus.close()


@contextlib.asynccontextmanager
async def cluster(url: str, *, visibility: float = 60.0) -> AsyncIterator[BusCluster]:
    nodes = BusCluster(url, visibility=visibility)
    try:
        yield nodes
    finally:
        await nodes.close()
