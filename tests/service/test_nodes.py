"""The nodes: on SQLite one, which leads; on PostgreSQL all that there are; and who is ready."""

import asyncio
from pathlib import Path

import pytest

from tests.service.house import API, PATIENCE_SECONDS, House
from tests.service.test_tokens import houses, server  # noqa: F401 (fixtures)


async def test_a_node_alone(house: House) -> None:
    [node] = (await house.get("/nodes"))["nodes"]
    assert node.keys() == {
        "id", "name", "url", "version", "alive", "shards", "me", "started_at", "seen_at",
    }  # fmt: skip
    assert node["name"] == house.node.name
    assert (node["alive"], node["shards"], node["me"]) == (True, [1], True)


async def test_two_nodes(houses: tuple[House, House]) -> None:  # noqa: F811
    one, two = houses
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:  # a node sees who leads by its own look at the locks, ten times a second
            seen = (await two.get("/nodes"))["nodes"]
            led = sum(len(node["shards"]) for node in seen)
            if led == 1 and all(node["alive"] for node in seen):
                break
    assert [node["name"] for node in seen] == [one.node.name, two.node.name]
    assert [node["me"] for node in seen] == [False, True]
    for house in houses:
        assert (await house.call("GET", "/readyz", token=None)).status == 200  # leading or not


async def test_a_node_that_is_gone_is_forgotten(house: House) -> None:
    mine = house.node.name
    await house.node.store.put_node("ci-3", "http://10.0.0.3", "1")
    [_, gone] = (await house.get("/nodes"))["nodes"]
    assert (gone["name"], gone["alive"], gone["seen_at"]) == ("ci-3", False, None)
    answer = await house.call("DELETE", f"{API}/nodes/{mine}")
    assert (answer.status, answer.error["message"]) == (
        409, f"the node {mine} is alive: stop it first",
    )  # fmt: skip
    assert (await house.call("DELETE", f"{API}/nodes/ci-3")).status == 204
    assert (await house.call("DELETE", f"{API}/nodes/ci-3")).status == 404
    [left] = (await house.get("/nodes"))["nodes"]
    assert left["name"] == mine and left["seen_at"].endswith("Z")


async def test_figures_of_the_cluster(house: House) -> None:
    text = (await house.call("GET", "/metrics", token=None)).body.decode()
    for line in (
        'boxsched_leads{shard="1"} 1.0',
        "boxsched_bus_up 0.0",
        "boxsched_workers_connected 0.0",
        "boxsched_commits_fenced_total 0.0",
    ):
        assert f"\n{line}\n" in text, line


async def test_nodes_are_not_for_strangers(house: House) -> None:
    assert (await house.call("GET", f"{API}/nodes", token=None)).status == 401


@pytest.mark.parametrize("boxes", [0, 1])
async def test_a_node_without_boxes_keeps_no_process_for_jobs(tmp_path: Path, boxes: int) -> None:
    async with House.open(tmp_path / "data", boxes=boxes, box_driver="process") as house:
        started = house.node.options.data / "worker" / "spawner.log"
        assert started.exists() == bool(boxes)
