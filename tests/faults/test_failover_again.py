"""Failovers under load: repeated, and together with other faults."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.store.operating.check import check
from tests.cluster.primary_and_standby import PrimaryAndStandby, pair, standby_of
from tests.faults.clients import loaded
from tests.faults.cluster import closing_cluster
from tests.faults.test_failover import TwoServers, submitted

pytestmark = pytest.mark.timeout(400)

both_kinds = pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[TwoServers]:
    with pair() as two:
        async with closing_cluster(TwoServers(tmp_path, two)) as cluster:
            yield cluster


async def begun(cluster: TwoServers, *, synchronous: bool) -> None:
    await cluster.add_nodes(2)
    await cluster.add_worker(4)
    servers = {f"s{n}": {"jobs": [cluster.job_record.job("d", 0.1)]} for n in range(2)}
    await cluster.put_project(cluster.job_record.job("j", 0.2), servers=servers)
    if synchronous:
        await asyncio.to_thread(cluster.two.wait_for_second)


async def agrees(cluster: TwoServers, *, synchronous: bool) -> None:
    """Check the database. Without a synchronous standby the last confirmed changes may be lost."""
    if synchronous:
        await cluster.is_whole()
        return
    await cluster.until_idle()
    assert not cluster.job_record.violations()
    assert await check(cluster.database) == []
    assert not [program.name for program in cluster.programs if program.raised]


async def fails_over(cluster: TwoServers, pair: PrimaryAndStandby) -> None:
    """Fail over to the pair's second; the first stays away."""
    pair.first.kill()
    await asyncio.to_thread(pair.promote)
    cluster.database = pair.second.url("postgres")


@both_kinds
async def test_the_old_primary_comes_back_under_load(
    cluster: TwoServers, synchronous: bool
) -> None:
    """Clients repeat their submissions under the same keys meanwhile."""
    await begun(cluster, synchronous=synchronous)
    async with loaded(cluster.clients, rate=12, servers=2) as load:
        await load.more(40)
        await cluster.fail_over()
        await load.more(60)
    await agrees(cluster, synchronous=synchronous)
    on_old = cluster.two.asked(cluster.two.first, "SELECT count(*) FROM workload")[0][0]
    await submitted(cluster, 10)
    assert cluster.two.asked(cluster.two.first, "SELECT count(*) FROM workload") == [(on_old,)]
    await agrees(cluster, synchronous=synchronous)


@both_kinds
async def test_a_failover_while_both_nodes_are_killed_loses_nothing(
    cluster: TwoServers, synchronous: bool
) -> None:
    await begun(cluster, synchronous=synchronous)
    async with loaded(cluster.clients, rate=12, servers=2) as load:
        await load.more(40)
        await asyncio.gather(
            *(node.kill() for node in cluster.nodes), cluster.fail_over(comes_back=True)
        )
        await asyncio.gather(*(node.start() for node in cluster.nodes))
        await load.more(40)
    await agrees(cluster, synchronous=synchronous)


@both_kinds
async def test_nothing_is_lost_by_a_failover_and_another_one_back(
    cluster: TwoServers, synchronous: bool
) -> None:
    """A new standby takes the first one's place, and is then promoted."""
    await begun(cluster, synchronous=synchronous)
    with contextlib.ExitStack() as servers:
        async with loaded(cluster.clients, rate=8, servers=2) as load:
            await load.more(30)
            await fails_over(cluster, cluster.two)
            await load.more(30)
            second, port = cluster.two.second, cluster.two.first.port
            standby = standby_of(second, port)
            cluster.two.first = await asyncio.to_thread(servers.enter_context, standby)
            back = PrimaryAndStandby(second, cluster.two.first)
            if synchronous:
                await asyncio.to_thread(back.wait_for_second)
            await load.more(30)
            await fails_over(cluster, back)
            await load.more(30)
        await agrees(cluster, synchronous=synchronous)
