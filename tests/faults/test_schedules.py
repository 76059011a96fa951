"""The node that submits the builds of schedules is killed or frozen: one build each time."""

import pytest
import pytest_asyncio

from tests.faults.cluster import Cluster
from tests.faults.run_length import REPEATS
from tests.faults.waiting import until

SCHEDULES = 150
DUE = "UPDATE schedule SET next_at = floor(extract(epoch FROM clock_timestamp()))"  # each time once

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180 + 60 * REPEATS)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster: Cluster) -> Cluster:
    """Two nodes, and a worker whose jobs pass at once."""
    await shared_cluster.add_nodes(2)
    await shared_cluster.add_worker(4, "--box-driver", "none")
    return shared_cluster


async def scheduled(pair: Cluster) -> None:
    schedules = [{"cron": "0 0 1 1 *", "branch": f"b{n}"} for n in range(SCHEDULES)]
    await pair.put_project({"name": "test", "commands": ["true"]}, schedules=schedules)


async def until_builds(pair: Cluster, more: int, before: int) -> None:
    async def look() -> bool:
        ((count,),) = await pair.sql("SELECT count(*) FROM workload")
        return int(count) >= before + more

    await until(look, f"{more} builds")


async def one_build_each(pair: Cluster, times: int) -> None:
    async def look() -> bool:
        await pair.until_idle()
        now = "extract(epoch FROM clock_timestamp())"
        ((due,),) = await pair.sql(f"SELECT count(*) FROM schedule WHERE next_at <= {now}")
        return int(due) == 0

    await until(look, "no schedule is due")
    rows = await pair.sql("SELECT branch, count(*) FROM workload GROUP BY branch")
    assert {branch: int(count) for branch, count in rows} == {
        f"b{n}": times for n in range(SCHEDULES)
    }


async def test_a_leader_that_is_killed_between_a_time_and_its_build_causes_one_build(
    pair: Cluster,
) -> None:
    await scheduled(pair)
    for again in range(1, REPEATS + 1):
        leader, epoch = await pair.leader(), await pair.epoch()
        ((before,),) = await pair.sql("SELECT count(*) FROM workload")
        await pair.sql(DUE)
        await until_builds(pair, 1, int(before))
        await leader.kill()
        await pair.until_epoch(epoch)
        await one_build_each(pair, again)
        await leader.start()
    await pair.is_whole()


async def test_a_leader_that_is_frozen_and_continues_later(pair: Cluster) -> None:
    await scheduled(pair)
    ((before,),) = await pair.sql("SELECT count(*) FROM workload")
    times = int(before) // SCHEDULES
    for again in range(1, REPEATS + 1):
        leader, epoch = await pair.leader(), await pair.epoch()
        ((before,),) = await pair.sql("SELECT count(*) FROM workload")
        await pair.sql(DUE)
        await until_builds(pair, 1, int(before))
        await leader.freeze()
        await pair.until_epoch(epoch)
        await until_builds(pair, SCHEDULES, int(before))
        leader.thaw()
        await one_build_each(pair, times + again)
    await pair.is_whole()
