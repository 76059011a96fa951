"""Any process killed at any moment (F18), any fault at any moment under a crowd of clients, and the
same asked twice at once (F26)."""

import asyncio
import os
import random
import time
from collections import Counter

import pytest
import pytest_asyncio

from tests.bus.redis_server import Server
from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.crowd import Crowd
from tests.faults.follower import followed
from tests.faults.scale import REPEATS, STORM_FAULTS, SUBMISSIONS, lasting
from tests.faults.storm import Storm, cuts, freezes, kills

STORM_SECONDS = lasting(8, 180)
PAUSE_SECONDS = (0.3, 0.9)  # between two kills
STORM_SEED = int(os.environ.get("BOXSCHED_TEST_SEED", "1"))
CROWD_SIZE = 48  # clients at once
CROWD_BRANCHES = 500

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240 + 3 * STORM_SECONDS),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster_with_redis: Cluster) -> Cluster:
    cluster = shared_cluster_with_redis
    await cluster.add_nodes(2)
    await cluster.worker_token()
    await asyncio.gather(cluster.add_worker(2), cluster.add_worker(2))
    return cluster


@pytest.mark.parametrize("seed", range(REPEATS))
async def test_a_storm(pair: Cluster, redis_server: Server, seed: int, figure: Figure) -> None:
    """F18: nothing answered is lost, nothing runs twice, and after it all is done."""
    servers = {f"s{n}": {"jobs": [pair.book.job("d", 0.1)]} for n in range(2)}
    rules = [["b0", "queued"], ["b1", "all"]]
    jobs = [pair.book.job("short", 0.1), pair.book.job("long", 0.5)]
    await pair.put_project(*jobs, servers=servers, cancellation=rules)
    chance = random.Random(seed)

    async def calm() -> None:
        await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))

    storm = Storm(pair, chance, kills(pair, redis_server), calm)
    until = time.monotonic() + STORM_SECONDS
    async with followed(pair) as follower:
        async with loaded(pair.clients, rate=4, servers=2):
            await storm.run(lambda: time.monotonic() > until)
        await pair.is_whole()
        await follower.heard_all()
    figure("F18 kills", storm.done.total())
    figure("F18 jobs begun", pair.book.begun())


def show(figure: Figure, storm: Storm, crowd: Crowd, seconds: float) -> None:
    figure("storm: seconds", seconds)
    figure("storm: submissions accepted", crowd.accepted)
    figure("storm: 201 a second", crowd.accepted / seconds)
    figure("storm: requests without an answer", crowd.clients.figures.no_answer)
    figure("storm: answers 503", crowd.clients.figures.away)
    figure("storm: faults", storm.done.total())
    for kind, count in storm.done.items():
        figure(f"storm: faults: {kind}", count)
    figure("storm: processes that ended by no hand of ours", len(storm.ended_alone))


@pytest.mark.timeout(300 + SUBMISSIONS // 20)
async def test_a_crowd_in_a_storm(
    idle_boxes: Cluster, redis_server: Server, figure: Figure
) -> None:
    """None of so many accepted submissions is lost through so many faults; each key is one build,
    and all of them end."""
    cluster, chance = idle_boxes, random.Random(STORM_SEED)
    to_nodes = [await cluster.proxied(node.port) for node in cluster.nodes]
    faults = kills(cluster, redis_server) + freezes(cluster, chance)
    urls = [f"http://127.0.0.1:{way.port}" for way in to_nodes]

    def enough(crowd: Crowd) -> bool:
        return crowd.accepted >= SUBMISSIONS and storm.done.total() >= STORM_FAULTS

    crowd = Crowd(cluster.add_clients(urls, lasting=True), CROWD_BRANCHES, enough)

    async def calm() -> None:
        await crowd.more(chance.expovariate(STORM_FAULTS / SUBMISSIONS))

    storm = Storm(cluster, chance, faults + cuts(cluster, to_nodes, chance), calm)
    stale, began = cluster.postgres.stale_writes(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run(CROWD_SIZE))
        group.create_task(storm.run(lambda: crowd.enough(crowd)))
    ended = time.monotonic()
    figure("storm: stale writes refused", cluster.postgres.stale_writes() - stale)
    show(figure, storm, crowd, ended - began)
    await cluster.until_idle()
    idle = time.monotonic()
    figure("storm: seconds after it until idle", idle - ended)
    await cluster.is_whole()
    figure("storm: seconds to judge it", time.monotonic() - idle)


async def test_the_same_asked_of_two_nodes_at_once(pair: Cluster) -> None:
    """F26: one key, one workload, whoever is asked, however often; another body is refused."""
    await pair.put_project(pair.book.job("j", 0.05))
    clients, path = pair.clients, "projects/web/builds"
    for n in range(10):
        body = {"branch": f"b{n}"}
        asking = [
            clients.submit(f"k{n}", path, body, urls=[node.url])
            for node in pair.nodes
            for _ in range(5)
        ]
        ids = set(await asyncio.gather(*asking))
        assert len(ids) == 1 and None not in ids
    for node in pair.nodes:
        other = {"branch": "other", "message": "k0"}
        reply = await clients.once(node.url, "POST", path, other, **{"Idempotency-Key": "k0"})
        assert reply.status == 409
    messages = Counter(each["message"] for each in (await clients.workloads()).values())
    assert [messages[f"k{n}"] for n in range(10)] == [1] * 10
    await pair.is_whole()
