"""Leaders that stop, die, freeze, are cut off or stand still (F1 to F4, F25)."""

import asyncio
import time

import pytest
import pytest_asyncio

from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.follower import following
from tests.faults.proxy import BOTH, DOWN, UP
from tests.faults.run_length import REPEATS
from tests.faults.waiting import until

FENCE = b"UPDATE shard SET batch = CASE"  # how an engine's transaction begins

CUTS = {"both ways": BOTH, "up": UP, "down": DOWN, "half-open": None}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180 + 60 * REPEATS)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster: Cluster) -> Cluster:
    """Two nodes, each with a worker that knows no other: so what is measured is the leaders."""
    cluster = shared_cluster
    await cluster.add_nodes(2)
    await cluster.add_worker_each(3)
    servers = {f"s{n}": {"jobs": [cluster.job_record.job("d", 0.1)]} for n in range(2)}
    await cluster.put_project(cluster.job_record.job("j", 0.1), servers=servers)
    return cluster


async def test_a_leader_that_stops(pair: Cluster, figure: Figure) -> None:
    """F1: another leads at once, and nobody who asks is told of it."""
    async with loaded(pair.clients, rate=5, servers=2):
        for _ in range(REPEATS):
            await pair.until_workers()
            leader, epoch = await pair.leader(), await pair.epoch()
            began = time.time()
            ending = asyncio.create_task(leader.terminate())
            await pair.until_epoch(epoch)
            figure("F1 stop to next admission, s", await pair.next_admission(began))
            assert await ending == 0, leader.said[-2000:]
            await leader.start()
    await pair.is_whole()


async def test_a_leader_that_is_killed(pair: Cluster, figure: Figure) -> None:
    """F2; and whoever follows the events misses none, and hears none twice."""
    async with following(pair) as follower:
        async with loaded(pair.clients, rate=5, servers=2):
            for _ in range(REPEATS):
                await pair.until_workers()
                leader, epoch = await pair.leader(), await pair.epoch()
                began = time.time()
                await leader.kill()
                await pair.until_epoch(epoch)
                figure("F2 kill -9 to another leads, s", await pair.led_since(began))
                figure("F2 kill -9 to next admission, s", await pair.next_admission(began))
                await leader.start()
        await pair.is_whole()
        await follower.assert_complete()


async def test_a_frozen_leader_and_its_commit_that_comes_after_the_takeover(
    pair: Cluster, figure: Figure
) -> None:
    """F3: the network keeps a commit while its sender is frozen, and delivers it to a database that
    another leader has written to."""
    async with loaded(pair.clients, rate=5, servers=2):
        for _ in range(REPEATS):
            await pair.until_workers()
            leader, epoch = await pair.leader(), await pair.epoch()
            refused = pair.postgres.stale_writes()
            await leader.database_way.trap(FENCE)
            await leader.database_way.trapped.wait()
            began = time.time()
            await leader.freeze()
            await pair.until_epoch(epoch)
            figure("F3 freeze to next admission, s", await pair.next_admission(began))
            await leader.database_way.release()

            async def look(before: int = refused) -> bool:
                return pair.postgres.stale_writes() > before

            await until(look, "the late commit is seen, and refused")
            leader.thaw()
            await pair.until_joined(leader)
    await pair.is_whole()


async def test_a_leader_that_is_frozen_and_wakes(pair: Cluster) -> None:
    """F3 without our choice of the moment: it wakes with a full load of its own to commit."""
    async with loaded(pair.clients, rate=5, servers=2):
        for _ in range(REPEATS):
            await pair.until_workers()
            leader, epoch = await pair.leader(), await pair.epoch()
            await leader.freeze()
            await pair.until_epoch(epoch)
            leader.thaw()
            await pair.until_joined(leader)
            assert await pair.epoch() == epoch + 1
    await pair.is_whole()


async def test_a_leader_that_is_cut_off_from_the_database(pair: Cluster, figure: Figure) -> None:
    """F4: both ways, one of them, and half-open; it ends before its lock can move (V2)."""
    async with loaded(pair.clients, rate=5, servers=2):
        for _ in range(REPEATS):
            for name, way in CUTS.items():
                await pair.until_workers()
                leader, epoch = await pair.leader(), await pair.epoch()
                began = time.time()
                if way is None:
                    await leader.database_way.hold(UP)
                    await leader.database_way.half_close(DOWN)
                else:
                    await leader.database_way.blackhole(way)
                await pair.until_epoch(epoch)
                figure(f"F4 cut {name} to next admission, s", await pair.next_admission(began))
                await leader.database_way.heal()
                await pair.until_joined(leader)
    await pair.is_whole()


async def test_a_leader_whose_event_loop_stands_still(pair: Cluster, figure: Figure) -> None:
    """F25: its lock session has a thread of its own, and must not keep a dead leader in office."""
    async with loaded(pair.clients, rate=5, servers=2):
        for _ in range(REPEATS):
            await pair.until_workers()
            leader, epoch = await pair.leader(), await pair.epoch()
            began = time.time()
            leader.stall()
            await pair.until_epoch(epoch)
            figure("F25 stall to next admission, s", await pair.next_admission(began))
            leader.unstall()
            await pair.until_joined(leader)
    await pair.is_whole()
