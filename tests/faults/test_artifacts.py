"""Artifacts of builds on external workers, on two nodes, through the ends of nodes and workers."""

import hashlib
from pathlib import Path
from typing import Any

import aiohttp

from tests.faults.cluster import Cluster
from tests.faults.members import Node
from tests.faults.waiting import until, until_true

BUILDS, DEPLOYS = "projects/web/builds", "projects/web/deploys"
BIG_BYTES = 48 << 20
BIG = (
    f"openssl enc -aes-128-ctr -nosalt -K 00 -iv 00 < /dev/zero 2> /dev/null | head -c {BIG_BYTES}"
)


def job(name: str, *commands: str, **settings: object) -> dict[str, object]:
    return {"name": name, "commands": commands, "show_commands": False, **settings}


async def run(cluster: Cluster, key: str, path: str, **body: object) -> Any:
    """Return the finished job of a new workload."""
    id_ = await cluster.clients.submit(key, path, body)
    assert id_ is not None
    return await cluster.until_job(id_, "finished")


async def content(node: Node, job: str, path: str) -> bytes:
    url = f"{node.url}/api/v1/jobs/{job}/artifacts/{path}"
    headers = {"Authorization": f"Bearer {node.token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_a_cluster_without_a_shared_folder_keeps_artifacts_in_the_database(
    cluster: Cluster,
) -> None:
    await cluster.add_nodes(2)
    await cluster.add_worker(1)
    make = "mkdir -p out/x; echo one > out/x/a; head -c 3000000 /dev/zero > out/b; chmod +x out/b"
    ship = job("ship", "cat out/x/a; [ -x out/b ]; sha256sum < out/b")
    await cluster.put_project(
        job("make", make, artifacts=["out/*"]), servers={"production": {"jobs": [ship]}}
    )
    built = await run(cluster, "b", BUILDS, branch="main")
    assert built["result"] == "passed", built
    found = (await cluster.clients.get(f"jobs/{built['id']}/artifacts"))["artifacts"]
    zeros = hashlib.sha256(bytes(3_000_000)).hexdigest()
    assert [(one["path"], one["size"]) for one in found] == [("out/b", 3_000_000), ("out/x/a", 4)]
    assert found[0]["sha256"] == zeros
    for node in cluster.nodes:
        assert await content(node, built["id"], "out/x/a") == b"one\n"
        assert await content(node, built["id"], "out/b") == bytes(3_000_000)

    shipped = await run(
        cluster, "d", DEPLOYS, server="production", build=built["id"].partition("-")[0]
    )
    log = await cluster.clients.get(f"jobs/{shipped['id']}/log")
    assert shipped["result"] == "passed", log
    assert f"one\n{zeros}" in log

    await cluster.put_project(job("make", "head -c 70000000 /dev/zero > big", artifacts=["big"]))
    refused = await run(cluster, "c", BUILDS, branch="main")
    assert refused["result"] == "failed"
    assert "--log-store" in refused["reason"]
    await cluster.is_whole()


async def uploading(folder: Path) -> None:
    await until_true(
        lambda: any(one.stat().st_size for one in (folder / "uploads").glob("*")),
        "a part of the file is there",
    )


async def test_a_large_artifact_arrives_whole_although_node_and_worker_die_meanwhile(
    cluster: Cluster,
) -> None:
    folder = cluster.folder / "store"
    await cluster.add_nodes(2, "--log-store", str(folder))
    worker = await cluster.add_worker(1)
    ship = job("ship", "sha256sum < big")
    await cluster.put_project(
        job("make", f"{BIG} > big", artifacts=["big"]), servers={"production": {"jobs": [ship]}}
    )
    build = await cluster.clients.submit("b", BUILDS, {"branch": "main"})
    assert build is not None
    await uploading(folder)

    async def connected() -> Node | None:
        for node in cluster.nodes:
            if node.runs and await cluster.metric(node, "boxsched_workers_connected"):
                return node
        return None

    node = await until(connected, "a node has the worker")
    await node.kill()
    await worker.kill()
    assert (await cluster.clients.get(f"workloads/{build}"))["result"] is None
    await node.start()
    await worker.spawn()
    built = await cluster.until_job(build, "finished")
    assert (built["result"], built["attempt"]) == ("passed", 1), built
    (found,) = (await cluster.clients.get(f"jobs/{built['id']}/artifacts"))["artifacts"]
    data = await content(cluster.nodes[0], built["id"], "big")
    assert (len(data), hashlib.sha256(data).hexdigest()) == (BIG_BYTES, found["sha256"])
    shipped = await run(cluster, "d", DEPLOYS, server="production", build=build)
    assert found["sha256"] in await cluster.clients.get(f"jobs/{shipped['id']}/log")
    assert not list((folder / "uploads").iterdir())
    await cluster.is_whole()
