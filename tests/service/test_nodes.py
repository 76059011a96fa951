"""The list of nodes: one on SQLite, which leads; all on PostgreSQL; and which are ready."""

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.contract.postgres_server import database
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService
from tests.service.test_tokens import server, services  # noqa: F401 (fixtures)


async def test_a_single_node_is_listed(service: RunningService) -> None:
    [node] = (await service.get("/nodes"))["nodes"]
    assert node.keys() == {
        "id", "name", "url", "version", "requires", "alive", "shards", "me", "started_at",
        "seen_at",
    }  # fmt: skip
    assert node["name"] == service.node.name
    assert (node["alive"], node["shards"], node["me"]) == (True, [1], True)


async def test_two_nodes_are_listed(services: tuple[RunningService, RunningService]) -> None:  # noqa: F811
    one, two = services
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:  # a node sees who leads by its own look at the locks, ten times per second
            seen = (await two.get("/nodes"))["nodes"]
            led = sum(len(node["shards"]) for node in seen)
            if led == 1 and all(node["alive"] for node in seen):
                break
    assert [node["name"] for node in seen] == [one.node.name, two.node.name]
    assert [node["me"] for node in seen] == [False, True]
    for service in services:
        assert (await service.call("GET", "/readyz", token=None)).status == 200  # leading or not


async def test_a_node_that_is_gone_is_forgotten(service: RunningService) -> None:
    mine = service.node.name
    await service.node.store.put_node("ci-3", "http://10.0.0.3", "1")
    [_, gone] = (await service.get("/nodes"))["nodes"]
    assert (gone["name"], gone["alive"], gone["seen_at"]) == ("ci-3", False, None)
    answer = await service.call("DELETE", f"{API}/nodes/{mine}")
    assert (answer.status, answer.error["message"]) == (
        409, f"the node {mine} is alive: stop it first",
    )  # fmt: skip
    assert (await service.call("DELETE", f"{API}/nodes/ci-3")).status == 204
    assert (await service.call("DELETE", f"{API}/nodes/ci-3")).status == 404
    [left] = (await service.get("/nodes"))["nodes"]
    assert left["name"] == mine and left["seen_at"].endswith("Z")


async def test_the_statistics_cover_the_cluster(service: RunningService) -> None:
    text = (await service.call("GET", "/metrics", token=None)).body.decode()
    for line in (
        'boxsched_leads{shard="1"} 1.0',
        "boxsched_bus_up 0.0",
        "boxsched_workers_connected 0.0",
        "boxsched_commits_fenced_total 0.0",
    ):
        assert f"\n{line}\n" in text, line


async def test_nodes_require_a_token(service: RunningService) -> None:
    assert (await service.call("GET", f"{API}/nodes", token=None)).status == 401


@pytest.mark.parametrize("boxes", [0, 1])
async def test_a_node_without_boxes_keeps_no_process_for_jobs(tmp_path: Path, boxes: int) -> None:
    async with RunningService.open(tmp_path / "data", boxes=boxes, box_driver="process") as service:
        started = service.node.options.data / "worker" / "spawner.log"
        assert started.exists() == bool(boxes)


async def test_nodes_share_the_lead_of_several_shards(server: str, tmp_path: Path) -> None:  # noqa: F811
    """Each shard is led by one node, in fair shares; work continues wherever its shard is led."""

    async def led_by(service: RunningService, *counts: int) -> dict[str, list[int]]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                nodes = (await service.get("/nodes"))["nodes"]
                led = {node["name"]: node["shards"] for node in nodes if node["shards"]}
                if sorted(map(len, led.values())) == sorted(counts):
                    return led

    with database(server) as url:
        async with RunningService.open(tmp_path / "one", database=url, shards=4) as one:
            assert await led_by(one, 4) == {one.node.name: [1, 2, 3, 4]}
            async with RunningService.open(tmp_path / "two", database=url, shards=4) as two:
                shares = await led_by(two, 2, 2)
                assert sorted(itertools.chain(*shares.values())) == [1, 2, 3, 4]
                assert shares[one.node.name] == [1, 2], "the last ones go: the first have the work"
                await two.project()
                made = await two.build()
                await one.finished(made["id"])
                await one.node.leave()
                assert await led_by(two, 4) == {two.node.name: [1, 2, 3, 4]}
                await two.finished((await two.build())["id"])


async def test_another_shard_is_led_by_the_existing_nodes(
    server: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("boxsched.cluster.elected.SHARDS_SECONDS", 0.05)
    with database(server) as url:
        async with RunningService.open(tmp_path / "one", database=url) as one:
            await one.node.store.open_shards(2)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while one.node.leadership.led != {1, 2}:  # noqa: ASYNC110 (a thread sees it)
                    await asyncio.sleep(0.01)
            assert set(one.node.leadership.engines) == {1, 2}
