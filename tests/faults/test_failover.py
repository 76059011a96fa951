"""A primary and its standby under nodes and a worker: failovers, old primaries, slow commits."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.store.operating.check import check
from tests.cluster.primary_and_standby import PrimaryAndStandby, pair
from tests.contract.postgres_server import PostgresServer
from tests.faults.cluster import Cluster, closing_cluster
from tests.faults.job_record import TICK_SECONDS
from tests.faults.members import Node
from tests.faults.waiting import until_true

pytestmark = pytest.mark.timeout(300)

BUILDS = "projects/web/builds"
numbers = itertools.count()


class TwoServers(Cluster):
    """Its nodes know both servers; direct queries go to ``now``."""

    def __init__(self, folder: Path, two: PrimaryAndStandby) -> None:
        super().__init__(folder, None, two.first.url("postgres"))  # type: ignore[arg-type]
        self.two = two

    async def add_node(self, *options: str, start: bool = True) -> Node:
        name = f"node-{len(self.nodes) + 1}"
        node = Node(self.folder, name, "--boxes", "0", "--retry-interval", "0.5", *options)
        node.options += ["--database", self.two.url]
        self.nodes.append(node)
        if start:
            await node.start()
        return node

    def ask_database(self, statement: str, *values: object) -> list[tuple]:
        return self.two.asked(self.now, statement, *values)

    @property
    def now(self) -> PostgresServer:
        first, second = self.two.first, self.two.second
        return second if self.database == second.url("postgres") else first

    async def fail_over(self, *, comes_back: bool = True) -> None:
        self.two.first.kill()
        await asyncio.to_thread(self.two.promote)
        if comes_back:
            await asyncio.to_thread(self.two.come_back)
        self.database = self.two.second.url("postgres")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[TwoServers]:
    with pair() as two:
        async with closing_cluster(TwoServers(tmp_path, two)) as cluster:
            yield cluster


async def begun(cluster: TwoServers, *, synchronous: bool) -> None:
    await cluster.add_nodes(2)
    await cluster.add_worker(4)
    await cluster.put_project(cluster.job_record.job("j", 0.1))
    if synchronous:
        await asyncio.to_thread(cluster.two.wait_for_second)


async def submitted(cluster: TwoServers, count: int) -> list[str]:
    async def one(key: str) -> str:
        id_ = await cluster.clients.submit(key, BUILDS, {"branch": key})
        assert id_ is not None
        return id_

    return list(await asyncio.gather(*(one(f"k{next(numbers)}") for _ in range(count))))


async def test_nothing_that_was_answered_is_lost_to_an_old_primary(cluster: TwoServers) -> None:
    """The standby was synchronous; the old primary comes back under the same URL at once."""
    await begun(cluster, synchronous=True)
    submitting = asyncio.create_task(submitted(cluster, 60))
    await until_true(lambda: cluster.job_record.begun() >= 5, "some of them run")
    await cluster.fail_over()
    await submitting
    before = cluster.two.asked(cluster.two.first, "SELECT count(*) FROM workload")
    await submitted(cluster, 20)
    node = cluster.nodes[0]
    await node.terminate()
    await node.start()
    await submitted(cluster, 20)
    await cluster.is_whole()
    assert cluster.two.asked(cluster.two.first, "SELECT count(*) FROM workload") == before
    held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'boxsched'"
    await until_true(
        lambda: cluster.two.asked(cluster.two.first, held) == [(0,)], "no session is on the old one"
    )


async def test_a_failover_that_lost_commits_gives_nothing_twice(cluster: TwoServers) -> None:
    await begun(cluster, synchronous=False)
    await submitted(cluster, 10)
    await cluster.until_idle()
    await asyncio.to_thread(cluster.two.caught_up)
    cluster.two.hold()
    lost = await submitted(cluster, 20)
    await until_true(lambda: cluster.job_record.begun() >= 15, "some of them run")
    await cluster.fail_over(comes_back=False)
    with contextlib.suppress(ProcessLookupError):
        cluster.two.let_go()
    kept = await submitted(cluster, 20)
    assert not set(lost) & set(kept)
    await cluster.until_idle()
    assert not cluster.job_record.violations()
    assert await check(cluster.database) == []
    said = "".join(node.said for node in cluster.nodes)
    assert "new history" in said and "may be missing" in said
    assert not [program.name for program in cluster.programs if program.raised]


async def test_commits_that_take_a_second_are_no_outage(cluster: TwoServers) -> None:
    """The synchronous standby lags: everything continues at its speed, under one epoch."""
    await begun(cluster, synchronous=True)
    await submitted(cluster, 4)
    await cluster.until_idle()
    epoch = await cluster.epoch()
    await asyncio.to_thread(cluster.two.lag, 1.0)
    await submitted(cluster, 40)
    await cluster.until_idle()
    assert await cluster.epoch() == epoch
    await asyncio.to_thread(cluster.two.lag, 0.0)
    await cluster.is_whole()


async def test_a_standby_that_stalls_does_not_count_as_a_workers_silence(
    cluster: TwoServers,
) -> None:
    """For longer than a worker may be silent; its job runs all the time."""
    await begun(cluster, synchronous=True)
    await cluster.put_project(cluster.job_record.job("long", 45.0))
    (id_,) = await submitted(cluster, 1)
    await cluster.until_begun(id_)
    ticks = len(cluster.job_record.marks("tick")) + 20.0 / TICK_SECONDS
    await asyncio.to_thread(cluster.two.hold)
    await until_true(lambda: len(cluster.job_record.marks("tick")) >= ticks, "20 s go by")
    await asyncio.to_thread(cluster.two.let_go)
    await cluster.is_whole()
    found = await cluster.sql(
        "SELECT type FROM event WHERE type IN ('job.unknown', 'worker.silent', 'worker.lost')"
    )
    assert found == []
