"""What the API says about data that was deleted because it was old."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.api.submitting import new_workloads
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.clock import Clock
from boxsched.feed import EventCursor
from boxsched.protocol.shards import SHARD
from tests.service.running_service import API, RunningService

LONG_AGO = 100 * 86_400


@pytest.fixture
async def old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningService, list[Any]]]:
    """A service whose history is a hundred days old, with three failed builds."""
    set_to = Clock.set_to
    monkeypatch.setattr(Clock, "set_to", lambda clock, time: set_to(clock, time - LONG_AGO))
    async with RunningService.open(tmp_path / "data") as service:
        await service.project()
        builds = []
        for _ in range(3):
            made = await service.build()
            builds.append(await service.finished(made["id"]))
        service.node.clock._offset += LONG_AGO
        yield service, builds


async def prune(service: RunningService) -> None:
    while await service.node.pruning.run_once():
        pass


async def test_deleted_data_is_reported_as_deleted(old: tuple[RunningService, list[Any]]) -> None:
    service, builds = old
    await service.finished((await service.build())["id"])
    await prune(service)
    gone = builds[0]["id"]
    for path in ("", "/explanation"):
        answer = await service.call("GET", f"{API}/workloads/{gone}{path}")
        assert answer.status == 404
        assert answer.error["message"] == (
            f"there is no workload '{gone}': finished workloads are deleted when they are old"
        )
    never = await service.call("GET", f"{API}/workloads/w99999")
    assert never.error["message"] == "there is no workload 'w99999'"
    assert (await service.call("GET", f"{API}/jobs/{gone}-1/log")).status == 404
    listed = (await service.get("/workloads"))["workloads"]
    assert [one["number"] for one in listed] == [4]


async def test_a_reader_whose_events_were_deleted_is_told_to_read_everything_again(
    old: tuple[RunningService, list[Any]],
) -> None:
    service, _ = old
    first = (await service.node.store.events_after(SHARD, 0, 0, 1))[0]
    last = await service.node.store.last_event(SHARD)
    await service.finished((await service.build())["id"])
    await prune(service)
    for after in (f"1.{first.batch}.{first.n}", "1.0.0"):
        answer = await service.call("GET", f"{API}/events?after={after}")
        assert (answer.status, answer.error["field"]) == (422, "after")
        assert answer.error["message"] == (
            "the events after this one were deleted: read the current state again"
        )
    newest = await service.node.store.last_event(SHARD)
    assert newest > last
    mark = f"1.{newest[0]}.{newest[1]}"
    async with (
        asyncio.timeout(20),
        service.client.get(
            f"{service.url}{API}/events",
            headers={"Authorization": f"Bearer {service.token}", "Last-Event-ID": mark},
        ) as going_on,
    ):
        assert going_on.status == 200


async def test_a_reader_that_deletion_overtakes_is_disconnected(
    old: tuple[RunningService, list[Any]],
) -> None:
    """It reads slowly, from far behind: it must not get events with some left out."""
    service, _ = old
    await service.finished((await service.build())["id"])
    async with (
        asyncio.timeout(20),
        service.node.feed.subscribe(EventCursor({})) as events,
    ):
        await prune(service)
        assert [event async for event in events] == []


async def test_the_metrics_show_what_was_deleted_and_the_size_of_the_database(
    old: tuple[RunningService, list[Any]],
) -> None:
    service, _ = old
    await service.finished((await service.build())["id"])
    await prune(service)
    await service.node.pruning._size(service.node.clock.monotonic() + 1e6)
    text = (await service.call("GET", "/metrics")).body.decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    assert float(figures["boxsched_database_bytes"]) > 100_000
    assert float(figures['boxsched_pruned_rows_total{table="workload"}']) == 3
    assert float(figures['boxsched_pruned_rows_total{table="event"}']) > 10


async def test_a_rebuild_of_a_fork_build_stays_one_of_the_fork_without_its_original(
    old: tuple[RunningService, list[Any]],
) -> None:
    """Also where the original is deleted between its check and the rebuild."""
    service, builds = old
    known = await KnownProjects(service.node.store).fresh("web")
    original = await new_workloads.find(service.node.store, builds[0]["id"])
    original = attrs.evolve(original, from_fork=True)
    assert new_workloads.rebuild(known, original, None, 0.0).from_fork
