"""A node that goes away together with a worker, and nodes with different options."""

import asyncio
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.members import Node
from tests.faults.waiting import until

pytestmark = pytest.mark.timeout(240)

BUILDS = "projects/web/builds"
DEPLOYS = "projects/web/deploys"
EVENT = "SELECT count(*) FROM event WHERE type = %s"


async def asked(cluster: Cluster, key: str, path: str, **body: object) -> str:
    id_ = await cluster.clients.submit(key, path, body)
    assert id_ is not None
    return id_


async def until_event(cluster: Cluster, type_: str) -> None:
    async def look() -> bool:
        ((count,),) = await cluster.sql(EVENT, type_)
        return bool(count)

    await until(look, f"there is {type_}")


async def other_than_leader(cluster: Cluster) -> Node:
    leader = await cluster.leader()
    (other,) = [node for node in cluster.nodes if node is not leader]
    return other


async def test_no_deploy_waits_for_a_worker_that_went_with_its_node(
    cluster: Cluster, figure: Figure
) -> None:
    await cluster.add_nodes(2)
    await cluster.put_project(servers={"s": {"jobs": [cluster.job_record.job("d", 0.1)]}})
    node = await other_than_leader(cluster)
    (leader,) = [each for each in cluster.nodes if each is not node]
    clients = cluster.add_clients([leader.url])
    worker = await cluster.add_worker(1, nodes=[node])
    killed = time.monotonic()
    await asyncio.gather(node.kill(), worker.kill())
    await until_event(cluster, "worker.disconnected")
    figure("node and worker killed, to nothing new for it, s", time.monotonic() - killed)
    deploy = await clients.submit("deploy", DEPLOYS, {"server": "s"})
    assert deploy is not None
    await cluster.add_worker(1, nodes=[leader])
    await cluster.until_job(deploy, "finished")
    ((worker_of,),) = await cluster.sql(
        "SELECT w.name FROM job AS j JOIN box AS b ON b.id = j.box JOIN worker AS w"
        " ON w.id = b.worker"
    )
    assert worker_of == "worker-2"


async def test_a_leader_with_a_shorter_lost_after_waits_for_the_workers_own(
    cluster: Cluster, figure: Figure
) -> None:
    """The job record would show two attempts at once."""
    await cluster.add_node("--lost-after", "5")
    node = await cluster.add_node("--lost-after", "30")
    assert await other_than_leader(cluster) is node
    await cluster.put_project(cluster.job_record.job("j", 120.0, again=1.0))
    worker = await cluster.add_worker(1, nodes=[node])
    build = await asked(cluster, "build", BUILDS, branch="b")
    await cluster.until_begun(build)
    here = await cluster.add_worker(1, nodes=[cluster.nodes[0]])
    cut = time.monotonic()
    await worker.cut()
    await cluster.until_begun(build, times=2)
    took = time.monotonic() - cut
    figure("cut to the next attempt, of 30 s at the worker, s", took)
    assert took > 30.0, "its supervisor had not ended it"
    job = await cluster.until_job(build, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 2)
    assert here.runs
    await worker.heal()
    await cluster.is_whole()
