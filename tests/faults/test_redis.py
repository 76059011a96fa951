"""Redis killed, emptied, turned back, frozen (F8 to F10): it holds nothing that may be lost."""

import asyncio
import shutil
import statistics
import time

import pytest
import pytest_asyncio
import redis

from tests.bus.redis_server import Server
from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.members import Node
from tests.faults.scale import REPEATS, lasting
from tests.faults.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180 + 90 * REPEATS)]

APPENDED = "appendonlydir"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster_with_redis: Cluster) -> Cluster:
    """Two nodes, each with a worker: whoever leads, a hint has to reach the other."""
    cluster = shared_cluster_with_redis
    await cluster.add_nodes(2)
    await cluster.add_worker_each(2)
    await cluster.put_project(cluster.book.job("j", 0.1))
    for node in cluster.nodes:
        await until_bus(cluster, node, up=True)
    return cluster


async def until_bus(cluster: Cluster, node: Node, *, up: bool) -> None:
    async def look() -> bool:
        return await cluster.metric(node, "boxsched_bus_up") == up

    await until(look, f"the bus of {node.name} is {'up' if up else 'down'}")


async def next_begins(cluster: Cluster) -> float:
    """Seconds until another job has begun, by the job's own word."""
    began, before = time.monotonic(), cluster.book.begun()

    async def look() -> bool:
        return cluster.book.begun() > before

    await until(look, "a job begins")
    return time.monotonic() - began


def lose_groups(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for stream in client.scan_iter("boxsched:*:hints:*"):
            client.xgroup_destroy(stream, "nodes")


async def test_redis_loses_what_it_had(pair: Cluster, redis_server: Server, figure: Figure) -> None:
    """F8: killed, emptied, without its groups, and F10: turned back to an older state of it."""
    folder = redis_server.socket.parent
    async with loaded(pair.clients, rate=4):
        for _ in range(REPEATS):
            await next_begins(pair)
            await asyncio.to_thread(shutil.copytree, folder / APPENDED, folder / "older")
            await asyncio.to_thread(redis_server.tell, "FLUSHALL")
            figure("F8 FLUSHALL to a job's start, s", await next_begins(pair))
            await asyncio.to_thread(lose_groups, redis_server.url)
            figure("F8 groups deleted to a job's start, s", await next_begins(pair))
            await asyncio.to_thread(redis_server.kill)
            figure("F8 kill -9 to a job's start, s", await next_begins(pair))
            shutil.rmtree(folder / APPENDED)
            (folder / "older").rename(folder / APPENDED)
            await asyncio.to_thread(redis_server.start)
            for node in pair.nodes:
                await until_bus(pair, node, up=True)
            figure("F10 older state to a job's start, s", await next_begins(pair))
    await pair.is_whole()


async def test_redis_is_frozen(pair: Cluster, redis_server: Server, figure: Figure) -> None:
    """F9: submissions and jobs go on without it, and with it when it is back."""
    figures = pair.clients.figures
    async with loaded(pair.clients, rate=4):
        for _ in range(REPEATS):
            figures.answer_seconds.clear()
            await asyncio.sleep(lasting(2, 10))  # how fast it is when all is well
            well, begun = statistics.median(figures.answer_seconds), pair.book.begun()
            redis_server.stop()
            figures.answer_seconds.clear()
            await asyncio.sleep(lasting(4, 30))  # so long it is frozen
            assert pair.book.begun() > begun
            frozen = statistics.median(figures.answer_seconds)
            for node in pair.nodes:
                await until_bus(pair, node, up=False)
            redis_server.cont()
            for node in pair.nodes:
                await until_bus(pair, node, up=True)
            figure("F9 median 201 while all is well, s", well)
            figure("F9 median 201 while Redis is frozen, s", frozen)
    await pair.is_whole()
    assert figures.away == 0
