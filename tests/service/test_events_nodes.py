"""Two nodes over one PostgreSQL: both show the same history, with either as the leader."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.client.records import Event
from boxsched.client.stream import EventReader
from tests.bus import redis_server
from tests.contract.postgres_server import database, served
from tests.service.running_service import API, RunningService

PATIENCE_SECONDS = 30.0

Nodes = tuple[RunningService, RunningService]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with served() as server:
        yield server.url("postgres")


@pytest.fixture(scope="module", params=["polling", "hinted"])
def redis(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Without a bus all nodes poll; the results must be the same."""
    if request.param == "polling":
        yield None
        return
    with redis_server.served(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
async def nodes(postgres: str, redis: str | None, tmp_path: Path) -> AsyncIterator[Nodes]:
    with database(postgres) as url:
        shared = {"database": url, "redis": redis}
        async with (
            RunningService.open(tmp_path / "one", name="one", boxes=0, **shared) as one,
            RunningService.open(tmp_path / "two", name="two", boxes=2, **shared) as two,
        ):
            yield one, two


async def stream(service: RunningService, after: str) -> AsyncIterator[Event]:
    headers = {"Authorization": f"Bearer {service.token}", "Last-Event-ID": after}
    reader = EventReader()
    async with service.client.get(service.url + API + "/events", headers=headers) as response:
        assert response.status == 200, await response.text()
        async for chunk in response.content.iter_any():
            for event in reader.feed(chunk):
                yield event


async def until_finished(service: RunningService, workloads: set[str]) -> list[str]:
    """Return the ids of all events, from the first, until these builds have finished."""
    ids, left = [], set(workloads)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in stream(service, "1.0.0"):
            ids.append(event.id)
            if event.type == "workload.finished":
                left.discard(event.workload or "")
            if not left:
                break
    return ids


async def stored(service: RunningService) -> list[str]:
    found = await service.node.store.events_after(1, 0, 0, 100_000)
    return [f"{event.shard}.{event.batch}.{event.n}" for event in found]


async def test_all_nodes_answer_the_same(nodes: Nodes) -> None:
    await nodes[0].project("web")
    made = [(await nodes[n % 2].build(branch=f"b{n}"))["id"] for n in range(20)]
    lists = [await until_finished(node, set(made)) for node in nodes]
    assert lists[0] == lists[1] == (await stored(nodes[0]))[: len(lists[0])]


async def test_a_reader_that_changes_nodes_misses_no_event_and_sees_none_twice(
    nodes: Nodes,
) -> None:
    await nodes[0].project("web")

    async def load() -> None:
        for n in range(60):
            await nodes[n % 2].build(branch=f"b{n % 7}")

    loading = asyncio.create_task(load())
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        for node, size in zip(itertools.cycle(nodes), (1, 2, 3, 5, 8, 13, 21, 34), strict=False):
            end = len(seen) + size
            async for event in stream(node, seen[-1] if seen else "1.0.0"):
                seen.append(event.id)
                if len(seen) == end:
                    break
    await loading
    assert seen == (await stored(nodes[0]))[: len(seen)]


async def test_the_cursor_of_the_activity_of_one_node_holds_on_the_other(nodes: Nodes) -> None:
    await nodes[0].project("web")
    first = await nodes[0].build()
    await nodes[1].finished(first["id"])
    cursors = {(await node.get("/activity"))["cursor"] for node in nodes}
    await nodes[0].build()
    for node, cursor in itertools.product(nodes, cursors):
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await anext(stream(node, cursor))
        ids = await stored(node)
        assert event.id == ids[ids.index(cursor) + 1]
