"""Pauses and priorities: what a turn publishes and stores, and what a new leader knows."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxsched.engine.news import rfc3339
from boxsched.model import Cancellation
from boxsched.protocol.inbox import Reprioritize
from boxsched.protocol.shards import Pause
from boxsched.states import State
from tests.contract.store_data import loaded
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker with one Box."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


def pause(harness: EngineHarness, name: str = "freeze", **asked: Any) -> Pause:
    values: dict[str, Any] = {
        "project": None, "branch": None, "server": None, "automatic": False,
        "note": "release week", "by": "ann", "since": harness.clock.now(), "until": None,
    }  # fmt: skip
    return Pause(name, **values | asked)


async def put(harness: EngineHarness, one: Pause) -> None:
    await harness.store.put_pause(one)
    await harness.settle()


def told(harness: EngineHarness, *types: str) -> list[dict[str, Any]]:
    events = [msgspec.json.decode(event.data) for event in harness.events]
    return [event for event in events if event["type"] in types]


async def test_a_pause_is_sent_with_all_requested_fields(harness: EngineHarness) -> None:
    project, _ = harness.projects["web"]
    until = harness.clock.now() + 60
    await put(harness, pause(harness, project=project, branch="main", until=until))
    at = rfc3339(harness.clock.now())
    of = {"name": "freeze", "project": "web", "branch": "main", "server": None}
    assert told(harness, "pause.set") == [
        {
            "type": "pause.set", "at": at, **of, "until": rfc3339(until), "by": "ann",
            "note": "release week", "automatic": False,
        }
    ]  # fmt: skip
    assert await harness.store.drop_pause("freeze", "bob")
    await harness.settle()
    assert told(harness, "pause.ended") == [
        {"type": "pause.ended", "at": at, **of, "until": rfc3339(until), "by": "bob"}
    ]


async def test_paused_workloads_wait_until_the_pause_is_ended(harness: EngineHarness) -> None:
    await put(harness, pause(harness))
    held = await harness.build()
    assert (await harness.look(held)).state is State.QUEUED
    assert await harness.store.drop_pause("freeze", "bob")
    await harness.settle()
    assert (await harness.look(held)).state is State.RUNNING


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (None, "Paused by ann (freeze): release week."),
        (1_000_060.0, "Paused by ann until 1970-01-12T13:47:40Z (freeze): release week."),
    ],
)
async def test_the_reason_names_the_pause_its_author_and_its_end(
    harness: EngineHarness, until: float | None, text: str
) -> None:
    one = pause(harness, until=until, note="release week.")
    await put(harness, one)
    held = await harness.build()
    report = harness.why(held)
    assert report is not None
    assert (report.reason, report.phase, report.text) == ("paused", "admission", text)
    assert (report.pauses, report.position, report.expected_start) == ((one,), 1, None)
    assert harness.reasons()[held] == text
    assert await harness.store.drop_pause("freeze", "bob")
    await harness.settle()
    report = harness.why(held)
    assert report is not None and (report.reason, report.pauses) == ("running", ())


async def test_a_pause_of_a_server_holds_the_deploys_to_it(harness: EngineHarness) -> None:
    project, _ = harness.projects["web"]
    await put(harness, pause(harness, project=project, server="production"))
    held = await harness.build(server="production")
    other = await harness.build(server="staging")
    assert (await harness.look(held)).state is State.QUEUED
    assert (await harness.look(other)).state is State.RUNNING


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_pause_with_an_end_ends_automatically_at_that_second(
    harness: EngineHarness, restarted: bool
) -> None:
    """Nothing else happens at that time: no command and no report."""
    until = harness.clock.now() + 60
    await put(harness, pause(harness, until=until))
    held = await harness.build()
    if restarted:
        await harness.restart()
    assert harness.first is not None
    await harness.later(59, harness.first)
    assert (await harness.look(held)).state is State.QUEUED
    assert [one.name for one in await harness.store.pauses()] == ["freeze"]
    await harness.later(1, harness.first)
    assert (await harness.look(held)).state is State.RUNNING
    (ended,) = told(harness, "pause.ended")
    assert (ended["name"], ended["by"]) == ("freeze", None)
    assert await harness.store.pauses() == []


async def test_a_pause_that_was_replaced_has_the_end_of_the_newer_one(
    harness: EngineHarness,
) -> None:
    await put(harness, pause(harness, until=harness.clock.now() + 60))
    await put(harness, pause(harness, until=harness.clock.now() + 90, note="longer"))
    held = await harness.build()
    assert harness.first is not None
    await harness.later(89, harness.first)
    assert (await harness.look(held)).state is State.QUEUED
    await harness.later(1, harness.first)
    assert (await harness.look(held)).state is State.RUNNING


async def test_a_changed_priority_is_stored_published_and_kept_by_the_next_leader(
    harness: EngineHarness,
) -> None:
    running = await harness.build(branch="a")
    first, second = await harness.build(branch="b"), await harness.build(branch="c")
    await harness.ask(Reprioritize(second, 90, "ann", "hotfix"))
    await harness.settle()
    shown = await harness.look(second)
    assert (shown.priority, shown.priority_by, shown.priority_note) == (90, "ann", "hotfix")
    (event,) = told(harness, "workload.prioritized")
    assert (event["workload"], event["priority"]) == (f"w{second}", 90)
    assert (event["by"], event["note"]) == ("ann", "hotfix")
    await harness.restart()
    (assignment,) = await harness.assignments()
    assert assignment.workload == running
    await harness.finish(assignment)
    shown = await harness.look(second)
    assert shown.state is State.RUNNING
    assert (shown.priority, shown.priority_by, shown.priority_note) == (90, "ann", "hotfix")
    assert (await harness.look(first)).state is State.QUEUED


async def test_a_new_priority_of_an_ended_workload_changes_nothing(harness: EngineHarness) -> None:
    build = await harness.build()
    await harness.finish((await harness.assignments())[0])
    before = await harness.look(build)
    await harness.ask(Reprioritize(build, 90, "ann", "late"))
    await harness.settle()
    assert await harness.look(build) == before
    assert told(harness, "workload.prioritized") == []


async def test_the_count_of_an_idle_lane_is_forgotten_unless_it_has_a_build_again(
    harness: EngineHarness,
) -> None:
    async def counted() -> Mapping[str, int]:
        state = (await loaded(harness.store)).state
        assert state is not None
        return state.superseded

    await harness.build(cancellation=Cancellation.ALL)
    newer = await harness.build(cancellation=Cancellation.ALL)
    (lane,) = await counted()
    harness.engine.lanes_idle([lane])
    await harness.settle()
    assert await counted() == {lane: 1}
    await harness.stop(newer)
    for assignment in await harness.assignments():
        await harness.finish(assignment)
    assert await counted() == {lane: 1}
    harness.engine.lanes_idle([lane, "1/branch/unknown"])
    await harness.settle()
    assert await counted() == {}
    assert harness.engine.books is not None
    assert harness.engine.books.core.lanes.superseded(lane) == 0
