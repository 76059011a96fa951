"""Pauses and other priorities: what a turn tells, stores, and knows after a takeover."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxsched.engine.news import rfc3339
from boxsched.protocol.inbox import Reprioritize
from boxsched.protocol.shards import Pause
from boxsched.states import State
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker with one Box."""
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


def pause(shop: Shop, name: str = "freeze", **asked: Any) -> Pause:
    values: dict[str, Any] = {
        "project": None, "branch": None, "server": None, "automatic": False,
        "note": "release week", "by": "ann", "since": shop.clock.now(), "until": None,
    }  # fmt: skip
    return Pause(name, **values | asked)


async def put(shop: Shop, one: Pause) -> None:
    await shop.store.put_pause(one)
    await shop.settle()


def told(shop: Shop, *types: str) -> list[dict[str, Any]]:
    events = [msgspec.json.decode(event.data) for event in shop.events]
    return [event for event in events if event["type"] in types]


async def test_a_pause_is_sent_with_all_requested_fields(shop: Shop) -> None:
    project, _ = shop.projects["web"]
    until = shop.clock.now() + 60
    await put(shop, pause(shop, project=project, branch="main", until=until))
    at = rfc3339(shop.clock.now())
    of = {"name": "freeze", "project": "web", "branch": "main", "server": None}
    assert told(shop, "pause.set") == [
        {
            "type": "pause.set", "at": at, **of, "until": rfc3339(until), "by": "ann",
            "note": "release week", "automatic": False,
        }
    ]  # fmt: skip
    assert await shop.store.drop_pause("freeze", "bob")
    await shop.settle()
    assert told(shop, "pause.ended") == [
        {"type": "pause.ended", "at": at, **of, "until": rfc3339(until), "by": "bob"}
    ]


async def test_paused_workloads_wait_until_the_pause_is_ended(shop: Shop) -> None:
    await put(shop, pause(shop))
    held = await shop.build()
    assert (await shop.look(held)).state is State.QUEUED
    assert await shop.store.drop_pause("freeze", "bob")
    await shop.settle()
    assert (await shop.look(held)).state is State.RUNNING


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (None, "Paused by ann (freeze): release week."),
        (1_000_060.0, "Paused by ann until 1970-01-12T13:47:40Z (freeze): release week."),
    ],
)
async def test_the_reason_names_the_pause_its_author_and_its_end(
    shop: Shop, until: float | None, text: str
) -> None:
    one = pause(shop, until=until, note="release week.")
    await put(shop, one)
    held = await shop.build()
    report = shop.why(held)
    assert report is not None
    assert (report.reason, report.phase, report.text) == ("paused", "admission", text)
    assert (report.pause, report.position, report.expected_start) == (one, 1, None)
    assert shop.reasons()[held] == text
    assert await shop.store.drop_pause("freeze", "bob")
    await shop.settle()
    report = shop.why(held)
    assert report is not None and (report.reason, report.pause) == ("running", None)


async def test_a_pause_of_a_server_holds_the_deploys_to_it(shop: Shop) -> None:
    project, _ = shop.projects["web"]
    await put(shop, pause(shop, project=project, server="production"))
    held = await shop.build(server="production")
    other = await shop.build(server="staging")
    assert (await shop.look(held)).state is State.QUEUED
    assert (await shop.look(other)).state is State.RUNNING


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_pause_with_an_end_ends_automatically_in_that_second(
    shop: Shop, restarted: bool
) -> None:
    """Nothing else happens then: no command, no report."""
    until = shop.clock.now() + 60
    await put(shop, pause(shop, until=until))
    held = await shop.build()
    if restarted:
        await shop.restart()
    assert shop.first is not None
    await shop.later(59, shop.first)
    assert (await shop.look(held)).state is State.QUEUED
    assert [one.name for one in await shop.store.pauses()] == ["freeze"]
    await shop.later(1, shop.first)
    assert (await shop.look(held)).state is State.RUNNING
    (ended,) = told(shop, "pause.ended")
    assert (ended["name"], ended["by"]) == ("freeze", None)
    assert await shop.store.pauses() == []


async def test_a_pause_that_was_replaced_has_the_end_of_the_newer_one(shop: Shop) -> None:
    await put(shop, pause(shop, until=shop.clock.now() + 60))
    await put(shop, pause(shop, until=shop.clock.now() + 90, note="longer"))
    held = await shop.build()
    assert shop.first is not None
    await shop.later(89, shop.first)
    assert (await shop.look(held)).state is State.QUEUED
    await shop.later(1, shop.first)
    assert (await shop.look(held)).state is State.RUNNING


async def test_a_changed_priority_is_stored_published_and_kept_by_the_next_leader(
    shop: Shop,
) -> None:
    running = await shop.build(branch="a")
    first, second = await shop.build(branch="b"), await shop.build(branch="c")
    await shop.ask(Reprioritize(second, 90, "ann", "hotfix"))
    await shop.settle()
    assert (await shop.look(second)).priority == 90
    (event,) = told(shop, "workload.prioritized")
    assert (event["workload"], event["priority"]) == (f"w{second}", 90)
    assert (event["by"], event["note"]) == ("ann", "hotfix")
    await shop.restart()
    (assignment,) = await shop.assignments()
    assert assignment.workload == running
    await shop.finish(assignment)
    assert (await shop.look(second)).state is State.RUNNING
    assert (await shop.look(first)).state is State.QUEUED


async def test_a_new_priority_of_an_ended_workload_changes_nothing(shop: Shop) -> None:
    build = await shop.build()
    await shop.finish((await shop.assignments())[0])
    before = await shop.look(build)
    await shop.ask(Reprioritize(build, 90, "ann", "late"))
    await shop.settle()
    assert await shop.look(build) == before
    assert told(shop, "workload.prioritized") == []
