"""Any process is killed at any moment (F18), any fault happens while many clients submit, and the
same request is sent twice at once (F26)."""

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
from tests.faults.concurrent_clients import ConcurrentClients
from tests.faults.conftest import Figure
from tests.faults.follower import following
from tests.faults.random_faults import RandomFaults, cuts, freezes, kills
from tests.faults.run_length import RANDOM_FAULTS, REPEATS, SUBMISSIONS, short_or_full

FAULTS_SECONDS = short_or_full(8, 180)
PAUSE_SECONDS = (0.3, 0.9)  # between two kills
FAULTS_SEED = int(os.environ.get("BOXSCHED_TEST_SEED", "1"))
CLIENTS = 48  # clients at once
BRANCHES = 500

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240 + 3 * FAULTS_SECONDS),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster_with_redis: Cluster) -> Cluster:
    cluster = shared_cluster_with_redis
    await cluster.add_nodes(2)
    await cluster.worker_token()
    await asyncio.gather(cluster.add_worker(2), cluster.add_worker(2))
    return cluster


@pytest.mark.parametrize("seed", range(REPEATS))
async def test_random_kills_lose_nothing(
    pair: Cluster, redis_server: Server, seed: int, figure: Figure
) -> None:
    """F18: nothing answered is lost, nothing runs twice, and in the end everything is done."""
    servers = {f"s{n}": {"jobs": [pair.job_record.job("d", 0.1)]} for n in range(2)}
    rules = [["b0", "queued"], ["b1", "all"]]
    jobs = [pair.job_record.job("short", 0.1), pair.job_record.job("long", 0.5)]
    await pair.put_project(*jobs, servers=servers, cancellation=rules)
    chance = random.Random(seed)

    async def calm() -> None:
        await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))

    random_faults = RandomFaults(pair, chance, kills(pair, redis_server), calm)
    until = time.monotonic() + FAULTS_SECONDS
    async with following(pair) as follower:
        async with loaded(pair.clients, rate=4, servers=2):
            await random_faults.run(lambda: time.monotonic() > until)
        await pair.is_whole()
        await follower.assert_complete()
    figure("F18 kills", random_faults.done.total())
    figure("F18 jobs begun", pair.job_record.begun())


def show(
    figure: Figure, random_faults: RandomFaults, load: ConcurrentClients, seconds: float
) -> None:
    figure("random faults: seconds", seconds)
    figure("random faults: submissions accepted", load.accepted)
    figure("random faults: 201 a second", load.accepted / seconds)
    figure("random faults: requests without an answer", load.clients.figures.no_answer)
    figure("random faults: answers 503", load.clients.figures.away)
    figure("random faults: faults", random_faults.done.total())
    for kind, count in random_faults.done.items():
        figure(f"faults: {kind}", count)
    figure("processes that ended by themselves", len(random_faults.ended_alone))


@pytest.mark.timeout(300 + SUBMISSIONS // 20)
async def test_no_submission_of_48_clients_is_lost_under_random_faults(
    idle_boxes: Cluster, redis_server: Server, figure: Figure
) -> None:
    """None of the accepted submissions is lost; each key is one build, and all of them end."""
    cluster, chance = idle_boxes, random.Random(FAULTS_SEED)
    to_nodes = [await cluster.proxied(node.port) for node in cluster.nodes]
    faults = kills(cluster, redis_server) + freezes(cluster, chance)
    urls = [f"http://127.0.0.1:{way.port}" for way in to_nodes]

    def enough(load: ConcurrentClients) -> bool:
        return load.accepted >= SUBMISSIONS and random_faults.done.total() >= RANDOM_FAULTS

    load = ConcurrentClients(cluster.add_clients(urls, keep_alive=True), BRANCHES, enough)

    async def calm() -> None:
        await load.more(chance.expovariate(RANDOM_FAULTS / SUBMISSIONS))

    random_faults = RandomFaults(cluster, chance, faults + cuts(cluster, to_nodes, chance), calm)
    stale, began = cluster.postgres.stale_writes(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(CLIENTS))
        group.create_task(random_faults.run(lambda: load.enough(load)))
    ended = time.monotonic()
    figure("random faults: stale writes refused", cluster.postgres.stale_writes() - stale)
    show(figure, random_faults, load, ended - began)
    await cluster.until_idle()
    idle = time.monotonic()
    figure("random faults: seconds after it until idle", idle - ended)
    await cluster.is_whole()
    figure("seconds to check the result", time.monotonic() - idle)


async def test_the_same_request_sent_to_two_nodes_at_once_is_done_once(pair: Cluster) -> None:
    """F26: one key, one workload, whichever node is asked, however often; another body is
    refused."""
    await pair.put_project(pair.job_record.job("j", 0.05))
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
