"""Redis is killed, emptied, set back or frozen (F8 to F10): it holds nothing that may be lost."""

import asyncio
import shutil
import time

import pytest
import pytest_asyncio
import redis

from tests.bus.redis_server import Server
from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.measurement import measure
from tests.faults.members import Node
from tests.faults.run_length import REPEATS, short_or_full
from tests.faults.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180 + 120 * REPEATS)]

APPENDED = "appendonlydir"
LOAD_RATE = short_or_full(10, 30)  # submissions per second; at full length the fault model's
LOAD_BRANCHES = 20
WARM_UP_SUBMISSIONS = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster_with_redis: Cluster) -> Cluster:
    """Two nodes, each with a worker: whichever leads, a hint has to reach the other."""
    cluster = shared_cluster_with_redis
    await cluster.add_nodes(2)
    await cluster.add_worker_each(2)
    await cluster.put_project(cluster.job_record.job("j", 0.1))
    for node in cluster.nodes:
        await until_bus(cluster, node, up=True)
    return cluster


async def until_bus(cluster: Cluster, node: Node, *, up: bool) -> None:
    async def look() -> bool:
        return await cluster.metric(node, "boxsched_bus_up") == up

    await until(look, f"the bus of {node.name} is {'up' if up else 'down'}")


async def next_begins(cluster: Cluster) -> float:
    """Return the seconds until another job has started, as the job recorded it."""
    began, before = time.monotonic(), cluster.job_record.begun()

    async def look() -> bool:
        return cluster.job_record.begun() > before

    await until(look, "a job begins")
    return time.monotonic() - began


def lose_groups(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        for stream in client.scan_iter("boxsched:*:hints:*"):
            client.xgroup_destroy(stream, "nodes")


async def test_nothing_is_lost_with_the_data_of_redis(
    pair: Cluster, redis_server: Server, figure: Figure
) -> None:
    """F8: killed, emptied, without its groups; and F10: set back to an older state."""
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


def freeze(server: Server) -> None:
    server.stop()


def thaw(server: Server) -> None:
    server.cont()


def kill(server: Server) -> None:
    server.kill()


def begin_empty(server: Server) -> None:
    shutil.rmtree(server.socket.parent / APPENDED)
    server.start()


OUTAGES = {"F9 frozen": (freeze, thaw), "F8 killed": (kill, begin_empty)}


@pytest.mark.parametrize("name", OUTAGES)
async def test_submissions_and_jobs_continue_while_redis_is_away(
    idle_boxes: Cluster, redis_server: Server, name: str, figure: Figure
) -> None:
    """They continue without it, and with it when it is back."""
    cluster, (take, give_back) = idle_boxes, OUTAGES[name]
    clients = cluster.add_clients(keep_alive=True)
    for node in cluster.nodes:
        await until_bus(cluster, node, up=True)
    async with loaded(clients, rate=LOAD_RATE, branches=LOAD_BRANCHES) as load:
        await load.more(WARM_UP_SUBMISSIONS)
        for _ in range(REPEATS):
            before = await measure(cluster, clients, short_or_full(3, 30))
            await asyncio.to_thread(take, redis_server)
            during = await measure(cluster, clients, short_or_full(4, 30))
            for node in cluster.nodes:
                await until_bus(cluster, node, up=False)
            await asyncio.to_thread(give_back, redis_server)
            for node in cluster.nodes:
                await until_bus(cluster, node, up=True)
            after = await measure(cluster, clients, short_or_full(3, 30))
            assert during.finished > 0
            for what, its in (("before", before), ("meanwhile", during), ("after", after)):
                its.show(figure, f"{name}: {what}")
            during.compare(figure, f"{name}: meanwhile / before", before)
            after.compare(figure, f"{name}: after / before", before)
    await cluster.is_whole()
    figure(f"{name}: answers 503", clients.figures.away)
    figure(f"{name}: requests without an answer", clients.figures.no_answer)
