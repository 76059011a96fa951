"""Several organizations on two nodes: each is led by one of them, and loses nothing if it dies."""

import asyncio
from collections import Counter
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.cluster import Cluster
from tests.faults.members import Worker
from tests.faults.waiting import until

NAMES = ("one", "two", "three")  # with the default one, four shards
BUILDS = 10  # of each

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(shared_cluster: Cluster) -> Cluster:
    """Two nodes, and in each organization a project and a worker."""
    await shared_cluster.add_nodes(2)
    for name in NAMES:
        made = await shared_cluster.clients.ask("PUT", f"organizations/{name}", {})
        assert made.status == 201, made
    for name in NAMES:
        await there(shared_cluster, name, "PUT", "projects/web", {"jobs": [JOB]})
        await add_worker(shared_cluster, name)
    return shared_cluster


JOB = {"name": "test", "commands": ["true"]}


async def there(pair: Cluster, name: str, method: str, path: str, json: Any = None) -> Any:
    """Ask any node, in this organization."""
    reply = await pair.clients.ask(method, path, json, **{"X-Boxsched-Organization": name})
    assert reply.status in (200, 201), reply
    return reply.json


async def add_worker(pair: Cluster, name: str) -> None:
    asked = {"role": "worker", "organization": name}
    token = (await pair.clients.once(pair.nodes[0].url, "POST", "tokens", asked)).json["token"]
    worker = Worker(pair.folder, f"worker-of-{name}", "--boxes", "2", "--box-driver", "none")
    pair.workers.append(worker)
    for node in pair.nodes:
        worker.options += ["--url", node.url]
    worker.options += ["--token", token]
    await worker.spawn()

    async def look() -> bool:
        found = (await there(pair, name, "GET", "workers"))["workers"]
        return [one["state"] for one in found] == ["connected"]

    await until(look, f"the worker of {name} is connected")


async def until_passed(pair: Cluster, name: str, count: int) -> None:
    async def look() -> bool:
        found = (await there(pair, name, "GET", "workloads?result=passed&limit=200"))["workloads"]
        return len(found) >= count

    await until(look, f"{count} builds of {name} passed")


async def leaders(pair: Cluster) -> dict[int, int]:
    """Return which node leads each shard, when all have a leader."""

    async def look() -> dict[int, int] | None:
        nodes = (await pair.clients.get("nodes"))["nodes"]
        found = {shard: int(one["id"]) for one in nodes if one["alive"] for shard in one["shards"]}
        return found if len(found) == 1 + len(NAMES) else None

    return await until(look, "each shard has a leader")


async def test_two_nodes_lead_as_many_organizations_each(pair: Cluster) -> None:
    async def look() -> bool:
        counts = Counter((await leaders(pair)).values())
        return len(counts) == 2 and max(counts.values()) - min(counts.values()) <= 1

    await until(look, "the shards are shared")


async def test_a_node_that_is_killed_loses_no_build_of_any_organization(pair: Cluster) -> None:
    before = {name: len(await passed(pair, name)) for name in NAMES}
    for number in range(BUILDS):
        for name in NAMES:
            key = {"Idempotency-Key": f"{name}-{number}"}
            reply = await pair.clients.ask(
                "POST", "projects/web/builds", {"branch": f"b{number}"},
                **key, **{"X-Boxsched-Organization": name},
            )  # fmt: skip
            assert (reply.status, reply.json["number"]) == (201, before[name] + number + 1)
        if number == BUILDS // 2:
            await pair.nodes[1].kill()
    for name in NAMES:
        await until_passed(pair, name, before[name] + BUILDS)
    assert len(set((await leaders(pair)).values())) == 1, "the other node leads all"
    for name in NAMES:
        found = await passed(pair, name)
        assert len({one["id"] for one in found}) == len(found) == before[name] + BUILDS
        assert {job["attempt"] for one in found for job in one["jobs"]} == {1}
    await pair.nodes[1].start()
    await pair.is_whole()


async def passed(pair: Cluster, name: str) -> list[Any]:
    found: list[Any] = (await there(pair, name, "GET", "workloads?result=passed&limit=200"))[
        "workloads"
    ]
    return found


async def test_two_nodes_that_create_the_same_organization_create_one(pair: Cluster) -> None:
    clients = pair.clients
    for number in range(5):
        replies = await asyncio.gather(
            *(
                clients.once(node.url, "PUT", f"organizations/new-{number}", {})
                for node in (*pair.nodes, *pair.nodes)
            )
        )
        assert Counter(reply.status for reply in replies) == {201: 1, 200: 3}
        assert len({reply.json["shard"] for reply in replies}) == 1
    for number in range(5):
        url = pair.nodes[0].url
        assert (await clients.once(url, "DELETE", f"organizations/new-{number}")).status == 204
    await pair.checks_out()
