"""A database that is cut off, killed, frozen or slow (F5 to F7)."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.members import Node
from tests.faults.run_length import REPEATS, short_or_full

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180 + 90 * REPEATS)]

BUILDS = "projects/web/builds"
numbers = itertools.count()
AWAY_SECONDS = 10.0  # the longest time for an answer that says the database is away


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster: Cluster) -> Cluster:
    cluster = shared_cluster
    await cluster.add_nodes(2)
    await cluster.add_worker(4)
    await cluster.put_project(cluster.job_record.job("j", 0.1))
    return cluster


async def submitted(cluster: Cluster, key: str, branch: str, gate: Path) -> str:
    body = {"branch": branch, "jobs": [cluster.job_record.job("long", 0.0, gate=gate)]}
    id_ = await cluster.clients.submit(key, BUILDS, body)
    assert id_ is not None
    return id_


async def until_served(cluster: Cluster, node: Node) -> None:
    """Check that it accepts a submission, and that submitted builds end."""
    key = f"{node.name}-{next(numbers)}"
    id_ = await cluster.clients.submit(key, BUILDS, {"branch": key}, urls=[node.url])
    assert id_ is not None
    await cluster.until_job(id_, "finished")


async def until_taken(cluster: Cluster, since: float) -> float:
    """Return the seconds until every node has answered a submission with 201."""
    keys = [f"{node.name}-{next(numbers)}" for node in cluster.nodes]
    ids = await asyncio.gather(
        *(
            cluster.clients.submit(key, BUILDS, {"branch": key}, urls=[node.url])
            for key, node in zip(keys, cluster.nodes, strict=True)
        )
    )
    assert all(ids)
    return time.time() - since


async def says_that_it_is_away(cluster: Cluster, node: Node, figure: Figure) -> None:
    began = time.monotonic()
    body = {"branch": "away", "message": "away"}
    reply = await cluster.tried(node, "POST", BUILDS, body)
    took = time.monotonic() - began
    assert reply is not None and reply.status == 503, reply
    assert int(reply.headers["Retry-After"]) > 0
    assert took < AWAY_SECONDS
    figure("F5 503 within, s", took)


async def test_while_every_node_is_cut_off_jobs_continue_and_callers_are_told(
    pair: Cluster, figure: Figure
) -> None:
    """F5: callers are told, running jobs continue, and everything works as soon as it heals."""
    for n in range(REPEATS):
        gate = pair.folder / f"gate-{n}"
        long = await submitted(pair, f"long-{n}", "long", gate)
        await pair.until_begun(long)
        for node in pair.nodes:
            await node.database_way.blackhole()
        for node in pair.nodes:
            await says_that_it_is_away(pair, node, figure)
        await pair.until_ticks(long, short_or_full(3, 20))  # length of the outage
        healed = time.monotonic()
        for node in pair.nodes:
            await node.database_way.heal()
        for node in pair.nodes:
            await until_served(pair, node)
        figure("F5 heal to served by every node, s", time.monotonic() - healed)
        gate.touch()
        job = await pair.until_job(long, "finished")
        assert (job["result"], job["attempt"]) == ("passed", 1)
        log = await pair.clients.get(f"jobs/{job['id']}/log")
        assert log == pair.job_record.log_of(long)
    await pair.is_whole()


async def test_nothing_answered_is_lost_when_the_database_is_killed(
    pair: Cluster, figure: Figure
) -> None:
    """F6: one backend, which ends them all, and then the whole server; nothing answered is lost."""
    async with loaded(pair.clients, rate=4) as load:
        for _ in range(REPEATS):
            await load.more(8)
            backends = await pair.sql(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'boxsched'"
            )
            ready = pair.postgres.times_ready()
            pair.postgres.kill_backend(backends[0][0])
            await pair.postgres.recovers(ready)
            back = time.time()
            figure("F6 backend killed, recovered to 201, s", await until_taken(pair, back))
            figure("F6 backend killed, recovered to admission, s", await pair.next_admission(back))
            await load.more(8)
            await asyncio.to_thread(pair.postgres.kill)
            await asyncio.to_thread(pair.postgres.start)
            back = time.time()
            figure("F6 database back to 201, s", await until_taken(pair, back))
            figure("F6 database back to admission, s", await pair.next_admission(back))
    await pair.is_whole()


async def test_a_frozen_database_changes_the_leader_at_most_once(
    pair: Cluster, figure: Figure
) -> None:
    """F7: leadership does not flap."""
    async with loaded(pair.clients, rate=4):
        for _ in range(REPEATS):
            epoch = await pair.epoch()
            await asyncio.to_thread(pair.postgres.freeze)
            await asyncio.sleep(short_or_full(5, 10))  # how long it is frozen
            thawed = time.time()
            await asyncio.to_thread(pair.postgres.thaw)
            figure("F7 thaw to 201, s", await until_taken(pair, thawed))
            figure("F7 thaw to admission, s", await pair.next_admission(thawed))
            for node in pair.nodes:
                await until_served(pair, node)
            assert await pair.epoch() <= epoch + 1
    await pair.is_whole()


async def test_with_a_slow_way_to_the_database_no_node_loses_the_lead(pair: Cluster) -> None:
    """F7: 200 ms per round trip, and no node loses its leadership."""
    epoch = await pair.epoch()
    for node in pair.nodes:
        await node.database_way.delay(0.1, jitter=0.05)
    async with loaded(pair.clients, rate=4) as load:
        await load.more(6)
    await pair.until_idle()
    for node in pair.nodes:
        await node.database_way.heal()
    assert await pair.epoch() == epoch
    await pair.is_whole()
