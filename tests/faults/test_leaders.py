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
    """Two nodes, each with a worker that knows no other node, so only the leaders matter."""
    cluster = shared_cluster
    await cluster.add_nodes(2)
    await cluster.add_worker_each(3)
    servers = {f"s{n}": {"jobs": [cluster.job_record.job("d", 0.1)]} for n in range(2)}
    await cluster.put_project(cluster.job_record.job("j", 0.1), servers=servers)
    return cluster


async def test_when_a_leader_stops_another_leads_without_an_error(
    pair: Cluster, figure: Figure
) -> None:
    """F1: another node leads at once, and no caller gets an error."""
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


async def test_when_a_leader_is_killed_readers_of_events_miss_nothing(
    pair: Cluster, figure: Figure
) -> None:
    """F2: readers of the events receive each event exactly once."""
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


async def test_a_commit_of_a_frozen_leader_that_arrives_after_the_takeover_is_refused(
    pair: Cluster, figure: Figure
) -> None:
    """F3: the network holds a commit while its sender is frozen, and delivers it to a database that
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


async def test_a_frozen_leader_that_wakes_is_refused(pair: Cluster) -> None:
    """F3 at a random moment: it wakes with a full load of its own to commit."""
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


async def test_a_leader_that_is_cut_off_ends_before_its_lock_can_move(
    pair: Cluster, figure: Figure
) -> None:
    """F4: both directions, one direction, and half-open; it ends before its lock can move (V2)."""
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


async def test_a_leader_whose_event_loop_stands_still_is_replaced(
    pair: Cluster, figure: Figure
) -> None:
    """F25: its lock session has its own thread, which must not keep a dead leader in office."""
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
