"""Nodes that must not lead: behind a transaction pool, on a copied data folder, under another
cluster's lock key (F32, F33); and wrong clocks, which must not matter (F23, F24)."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.clients import loaded
from tests.faults.cluster import Cluster
from tests.faults.members import Node, free_port, moved
from tests.faults.proxy import BOTH
from tests.faults.waiting import until_true

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
HOUR, DAY = 3_600, 86_400

_POOLING = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
max_client_conn = 100
"""


@contextlib.asynccontextmanager
async def pooled(server: int, mode: str) -> AsyncIterator[int]:
    """Run a PgBouncer; yield its port. It refuses to run as root, like PostgreSQL."""
    assert PGBOUNCER is not None
    port, user = free_port(), "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="boxsched-pooling-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        users = folder / "users"
        users.write_text('"boxsched" ""\n')
        settings = folder / "settings"
        settings.write_text(_POOLING.format(server=server, port=port, mode=mode, users=users))
        process = await asyncio.create_subprocess_exec(
            PGBOUNCER, "--quiet", str(settings), user=user, stderr=subprocess.DEVNULL
        )
        try:
            await until_true(lambda: listens(port), "PgBouncer listens")
            yield port
        finally:
            process.kill()
            await process.wait()


def listens(port: int) -> bool:
    wanted = f":{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text()


@pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer here")
async def test_no_node_leads_behind_a_transaction_pool(cluster: Cluster) -> None:
    """F32: it is refused at once, with the reason; a session pool is fine."""
    async with pooled(cluster.postgres.port, "transaction") as port:
        node = Node(cluster.folder, "pooled", "--database", moved(cluster.database, port))
        await node.spawn()
        assert await node.ended() != 0
        assert "pools transactions" in node.said, node.said
        assert "Traceback" not in node.said
    async with pooled(cluster.postgres.port, "session") as port:
        node.options[-1] = moved(cluster.database, port)
        await node.start()
        cluster.nodes.append(node)
        await cluster.leader()


async def test_a_node_on_a_copied_data_folder_ends_with_the_reason(cluster: Cluster) -> None:
    """F33: the copy ends and gives the reason; the first node is unaffected."""
    first = await cluster.add_node("--boxes", "1")
    await cluster.leader()
    await cluster.put_project(cluster.job_record.job("j", 1.0))
    clients, epoch = cluster.clients, await cluster.epoch()
    build = await clients.submit("k1", "projects/web/builds", {"branch": "b1"})
    assert build is not None
    await cluster.until_begun(build)
    double = Node(cluster.folder, "double", "--boxes", "1", "--database", cluster.database)
    shutil.copytree(first.data, double.data, ignore=shutil.ignore_patterns("worker"))
    await double.spawn()
    assert await double.ended() != 0
    assert "--name" in double.said, double.said
    assert "Traceback" not in double.said
    for id_ in (build, await clients.submit("k2", "projects/web/builds", {"branch": "b2"})):
        assert id_ is not None
        job = await cluster.until_job(id_, "finished")
        assert (job["result"], job["attempt"]) == ("passed", 1)
    assert await cluster.leader() is first
    assert await cluster.epoch() == epoch
    await cluster.is_whole()


async def test_a_second_cluster_under_one_lock_key_is_refused(cluster: Cluster) -> None:
    """F33: in one database, each in its own schema; with its own lock key the second is
    accepted."""
    await cluster.add_nodes(1)
    (first,) = cluster.nodes
    epoch = await cluster.epoch()
    await cluster.sql("CREATE SCHEMA other")
    url = f"{cluster.database}?options=-csearch_path%3Dother"
    other = Node(cluster.folder, "other", "--boxes", "0", "--database", url)
    await other.spawn()
    assert await other.ended() != 0
    assert "--lock-key" in other.said, other.said
    assert "Traceback" not in other.said
    assert await cluster.leader() is first
    assert await cluster.epoch() == epoch
    other.options += ["--lock-key", "another"]
    await other.start()
    await other.says("acquired leader lease")
    assert first.runs
    await other.terminate()


async def test_wrong_clocks_change_nothing(cluster: Cluster) -> None:
    """F23: an hour behind, a day ahead, and jumping; leases use only clocks that cannot be set."""
    await cluster.add_node(start=False)
    await cluster.add_node(start=False)
    worker_clock = cluster.folder / "worker.wall"
    worker_clock.write_text("0")
    for node, wrong in zip(cluster.nodes, (-HOUR, DAY), strict=True):
        (cluster.folder / f"{node.name}.wall").write_text(str(wrong))
        node.environment["FAULT_WALL"] = str(cluster.folder / f"{node.name}.wall")
        await node.start()
    worker = await cluster.add_worker(3, environment={"FAULT_WALL": str(worker_clock)})
    await cluster.put_project(cluster.job_record.job("j", 0.2))
    long = await cluster.clients.submit(
        "long",
        "projects/web/builds",
        {"branch": "l", "jobs": [cluster.job_record.job("long", 6.0)]},
    )
    assert long is not None
    await cluster.until_begun(long)
    async with loaded(cluster.clients, rate=5) as load:
        for jump in (DAY, -DAY, 0):
            for node in cluster.nodes:
                (cluster.folder / f"{node.name}.wall").write_text(str(jump))
            worker_clock.write_text(str(-jump))
            await load.more(5)
        leader, epoch = await cluster.leader(), await cluster.epoch()
        await leader.kill()
        await cluster.until_epoch(epoch)
        await leader.start()
    job = await cluster.until_job(long, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 1)
    assert worker.runs
    await cluster.is_whole()


@pytest.mark.parametrize("rate", [0.5, 2.0])
async def test_a_leader_whose_clock_has_a_wrong_rate_does_no_harm(
    cluster: Cluster, rate: float
) -> None:
    """F24: a slow clock trusts its lock for too long, and the fence refuses its writes; a fast
    clock gives up early, and keeps the lead while the database answers."""
    wrong = await cluster.add_node(start=False)
    wrong.environment["FAULT_RATE"] = str(rate)
    await wrong.start()
    assert await cluster.leader() is wrong
    right = await cluster.add_node()
    await cluster.add_worker(3, nodes=[right])
    await cluster.put_project(cluster.job_record.job("j", 0.1))
    epoch = await cluster.epoch()
    async with loaded(cluster.clients, rate=5) as load:
        await load.more(20)
        assert await cluster.epoch() == epoch, "it leads through all of that"
        await wrong.database_way.hold(BOTH)
        assert await cluster.until_epoch(epoch) == epoch + 1
        await wrong.database_way.heal()  # its delayed data arrives now
        await load.more(20)
        assert await cluster.leader() is right
    assert wrong.runs
    await cluster.is_whole()
