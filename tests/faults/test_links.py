"""Links that are down: F4 and F14 with the kernel's own network, without a proxy."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.clients import loaded
from tests.faults.cluster import Cluster, closing_cluster
from tests.faults.conftest import Figure
from tests.faults.members import Node, Worker
from tests.faults.namespaces import Network, Spoke, networked
from tests.faults.postgres import durable
from tests.faults.run_length import REPEATS, short_or_full

pytestmark = pytest.mark.timeout(180 + 60 * REPEATS)


@pytest.fixture
def network() -> Iterator[Network]:
    with networked() as network:
        yield network


@pytest.fixture
async def cluster(network: Network, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A network whose hub has the PostgreSQL and the test's clients."""
    with durable(everywhere=True) as postgres, postgres.database() as url:
        async with closing_cluster(Cluster(tmp_path, postgres, url)) as cluster:
            yield cluster


async def add_node(cluster: Cluster, spoke: Spoke, *, in_hub: bool = False) -> None:
    """Start a worker at one end of the link or the other."""
    host = spoke.hub_address if in_hub else spoke.address
    there = cluster.database.replace("127.0.0.1", spoke.hub_address)
    name = f"node-{len(cluster.nodes) + 1}"
    options = ("--boxes", "0", "--host", host, "--database", there, "--lost-after", "30")
    node = Node(cluster.folder, name, *options)
    node.host, node.within = host, [] if in_hub else spoke.namespace.within
    cluster.nodes.append(node)
    await node.start()


async def add_worker(cluster: Cluster, *urls: str, at: Spoke | None = None) -> None:
    options = [part for url in urls for part in ("--url", url)]
    options += ["--boxes", "2", "--token", await cluster.worker_token()]
    worker = Worker(cluster.folder, "worker-1", *options)
    if at is not None:
        worker.within = at.namespace.within
    cluster.workers.append(worker)
    await worker.spawn()
    await cluster.until_worker(worker, "connected")


async def test_when_a_leaders_link_is_down_another_leads(
    cluster: Cluster, network: Network, figure: Figure
) -> None:
    """F4: cut off from the database, its worker and all clients; the other node leads, and nothing
    is lost."""
    spokes = [network.spoke(), network.spoke()]
    for spoke in spokes:
        await add_node(cluster, spoke)
    await add_worker(cluster, *(node.url for node in cluster.nodes))
    await cluster.put_project(cluster.job_record.job("j", 0.1))
    async with loaded(cluster.clients, rate=5) as load:
        for _ in range(REPEATS):
            await load.more(10)
            leader, epoch = await cluster.leader(), await cluster.epoch()
            spoke = spokes[cluster.nodes.index(leader)]
            began = time.time()
            spoke.down()
            await cluster.until_epoch(epoch)
            figure("F4 link down to another leads, s", await cluster.led_since(began))
            # If the only worker was at the cut node, it notices that after 15 s of silence.
            figure("F4 link down to next admission, s", await cluster.next_admission(began))
            spoke.up()
            await cluster.until_joined(leader)
    await cluster.is_whole()


async def test_a_jobs_log_is_complete_after_its_workers_link_was_down(
    cluster: Cluster, network: Network
) -> None:
    """F14, shorter than its lease: its job is unaffected."""
    spoke = network.spoke()
    for _ in range(2):
        await add_node(cluster, spoke, in_hub=True)
    await add_worker(cluster, *(node.url for node in cluster.nodes), at=spoke)
    for n in range(REPEATS):
        gate = cluster.folder / f"gate-{n}"
        await cluster.put_project(cluster.job_record.job("j", 0.0, gate=gate))
        build = await cluster.clients.submit(f"k{n}", "projects/web/builds", {"branch": "b"})
        assert build is not None
        await cluster.until_begun(build)
        spoke.down()
        await cluster.until_ticks(build, short_or_full(2, 5))  # how long the link is down
        spoke.up()
        gate.touch()
        job = await cluster.until_job(build, "finished")
        assert (job["result"], job["attempt"]) == ("passed", 1)
        log = await cluster.clients.get(f"jobs/{job['id']}/log")
        assert log == cluster.job_record.log_of(build)
    await cluster.is_whole()
