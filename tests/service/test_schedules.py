"""Schedules: one build for each time, also after delays, takeovers and clock changes."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from boxsched.cli.output import local_time
from tests.service.running_service import API, RunningService
from tests.service.schedule_checks import HeldTime, builds, daily, look, messages, project, shown
from tests.service.test_set_aside import boxsched


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> HeldTime:
    """Sunday, 10:30 UTC, on every node that a test opens."""
    held = HeldTime("2027-01-10T10:30")
    monkeypatch.setattr("boxsched.store.store.Store.time", lambda _: held())
    return held


@pytest.fixture
async def alive(time: HeldTime, tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=0) as opened:
        yield opened


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the nodes from checking their schedules by themselves."""
    monkeypatch.setattr("boxsched.automation.schedules.Schedules.run", _nothing)


async def _nothing(_: object) -> None:
    pass


@pytest.fixture
async def service(still: None, alive: RunningService) -> RunningService:
    return alive


async def test_a_build_starts_at_its_time_and_not_before(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily(), priority_branches=["main"])
    time.set("2027-01-10T11:59:59")
    await look(service)
    assert await builds(service) == []
    time.set("2027-01-10T12:00")
    for _ in range(3):
        await look(service)
    (build,) = await builds(service)
    assert build["message"] == "schedule: 0 12 * * * UTC, 2027-01-10T12:00:00+00:00"
    assert (build["branch"], build["priority"], build["author"]) == ("main", 70, None)
    assert build["submitted_by"] == "schedule"
    assert [one["name"] for one in build["jobs"]] == ["test"]


async def test_the_service_checks_its_schedules_by_itself(
    alive: RunningService, time: HeldTime
) -> None:
    await project(alive, daily())
    async with asyncio.timeout(20), alive.node.feed.subscribe(None) as events:
        time.set("2027-01-10T12:00")
        alive.node.schedules_due.set()
        async for event in events:
            if event.type == "workload.registered":
                break
    assert len(await builds(alive)) == 1


async def test_changed_settings_wake_the_leader(service: RunningService, time: HeldTime) -> None:
    """The engine notifies it; it does not wait for the next check."""
    service.node.schedules_due.clear()
    woken = asyncio.create_task(_woken(service))
    await project(service, daily())
    async with asyncio.timeout(20):
        await woken


async def _woken(service: RunningService) -> None:
    await service.node.schedules_due.wait()


async def test_schedules_and_their_next_times_are_shown(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, {"cron": "@daily", "branch": "main", "time_zone": "Europe/Berlin"})
    (one,) = await shown(service)
    assert one == {
        "project": "web",
        "cron": "@daily",
        "time_zone": "Europe/Berlin",
        "branch": "main",
        "text": "At 00:00 every day",
        "next": [f"2027-01-{day}T23:00:00.000000Z" for day in (10, 11, 12)],
        "last": None,
        "skipped": None,
    }
    time.set("2027-01-10T23:00:01")
    await look(service)
    (build,) = await builds(service)
    assert build["message"] == "schedule: @daily Europe/Berlin, 2027-01-11T00:00:00+01:00"
    (one,) = await shown(service)
    assert one["next"][0] == "2027-01-11T23:00:00.000000Z"
    assert one["last"]["at"] == "2027-01-10T23:00:00.000000Z"
    assert (one["last"]["workload"], one["last"]["number"]) == (build["id"], 1)
    assert (one["last"]["state"] in ("registered", "queued"), one["skipped"]) == (True, None)


async def test_a_time_missed_by_less_than_an_hour_is_made_up_for(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily())
    time.set("2027-01-10T12:59:59")
    await look(service)
    assert await messages(service) == ["schedule: 0 12 * * * UTC, 2027-01-10T12:00:00+00:00"]


async def test_a_time_missed_by_more_is_skipped_and_reported(
    service: RunningService, time: HeldTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="boxsched")
    await project(service, daily())
    time.set("2027-01-10T13:00")
    await look(service)
    assert await builds(service) == []
    (one,) = await shown(service)
    assert one["skipped"] == {
        "at": "2027-01-10T12:00:00.000000Z",
        "reason": "no node ran schedules until 2027-01-10T13:00:00+00:00",
    }
    assert one["next"][0] == "2027-01-11T12:00:00.000000Z"
    assert "no build of web at 0 12 * * * on main since 2027-01-10T12:00:00" in caplog.text


async def test_many_missed_times_give_one_build(service: RunningService, time: HeldTime) -> None:
    await project(service, {"cron": "*/5 * * * *", "branch": "main"})
    time.set("2027-01-12T10:32")
    await look(service)
    assert await messages(service) == ["schedule: */5 * * * * UTC, 2027-01-12T10:30:00+00:00"]
    (one,) = await shown(service)
    assert one["skipped"] == {
        "at": "2027-01-10T10:35:00.000000Z",
        "reason": "the build of 2027-01-12T10:30:00+00:00 replaces them",
    }


async def test_years_of_missed_minutes_take_no_time(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, {"cron": "* * * * *", "branch": "main"})
    time.set("2037-01-12T10:32:30")
    await look(service)
    assert await messages(service) == ["schedule: * * * * * UTC, 2037-01-12T10:32:00+00:00"]


async def test_a_new_schedule_has_no_past_times(service: RunningService, time: HeldTime) -> None:
    time.set("2027-01-10T12:00:30")
    await project(service, daily())
    await look(service)
    assert await builds(service) == []
    assert (await shown(service))[0]["next"][0] == "2027-01-11T12:00:00.000000Z"


async def test_a_schedule_that_stays_in_the_settings_continues(
    service: RunningService, time: HeldTime
) -> None:
    """Changing other settings does not make it forget a time that is due."""
    await project(service, daily())
    time.set("2027-01-10T12:00:30")
    await project(service, daily(), daily(branch="other"))
    await look(service)
    assert [one["branch"] for one in await builds(service)] == ["main"]
    time.move(days=1)
    await look(service)
    assert sorted(one["branch"] for one in await builds(service)) == ["main", "main", "other"]


async def test_a_schedule_that_was_removed_and_added_again_is_new(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily())
    await project(service)
    assert await shown(service) == []
    time.set("2027-01-10T12:00:30")
    await project(service, daily())
    await look(service)
    assert await builds(service) == []


async def test_a_deleted_project_has_no_more_builds(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily())
    assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
    await project(service)
    time.set("2027-01-10T12:00")
    await look(service)
    assert await builds(service) == []
    assert (await service.get("/schedules"))["schedules"] == []


async def test_a_build_that_cannot_be_made_is_reported(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily(), jobs=[])
    time.set("2027-01-10T12:00")
    await look(service)
    assert await builds(service) == []
    (one,) = await shown(service)
    assert one["skipped"]["reason"] == "it has no jobs, and its project has no jobs either"
    assert one["next"][0] == "2027-01-11T12:00:00.000000Z"


async def test_a_build_waits_for_a_pause_like_any_other(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily(), cancellation=[["*", "queued"]])
    body = {"note": "x", "project": "web"}
    assert (await service.call("PUT", f"{API}/pauses/hold", body)).status == 201
    for day in (10, 11):
        time.set(f"2027-01-{day}T12:00")
        await look(service)
    first, second = await builds(service)
    await service.until(first["id"], result="canceled")
    await service.until(second["id"], state="queued")
    said = await service.get(f"/workloads/{second['id']}/explanation")
    assert said["reason"] == "paused"


async def test_a_time_zone_that_is_no_longer_known_is_reported(
    service: RunningService, time: HeldTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await project(service, daily(time_zone="Europe/Berlin"))
    time.set("2027-01-10T12:00")

    monkeypatch.setattr("boxsched.cron.zoneinfo.ZoneInfo", _unknown_zone)
    await look(service)
    (one,) = await shown(service)
    assert one["skipped"]["reason"] == "unknown time zone 'Europe/Berlin'"
    assert await builds(service) == []


def _unknown_zone(name: str) -> None:
    from zoneinfo import ZoneInfoNotFoundError

    raise ZoneInfoNotFoundError(name)


async def test_the_same_schedule_twice_is_one(service: RunningService, time: HeldTime) -> None:
    await project(service, daily(), daily())
    time.set("2027-01-10T12:00")
    await look(service)
    assert (len(await builds(service)), len(await shown(service))) == (1, 1)


async def test_many_schedules_at_once_have_one_build_each(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, *[daily(branch=f"b{n}") for n in range(250)])
    time.set("2027-01-10T12:00")
    for _ in range(3):
        await look(service)
    pages = await service.node.store.unfinished()
    assert sorted(one.branch or "" for one in pages) == sorted(f"b{n}" for n in range(250))


async def test_all_schedules_come_page_by_page(service: RunningService, time: HeldTime) -> None:
    for name in ("a", "b", "c"):
        answer = await service.project(name, schedules=[daily(branch=f"{n}") for n in range(3)])
        assert answer.status == 201
    found, cursor = [], ""
    while True:
        page = await service.get(f"/schedules?limit=2{cursor}")
        found += [(one["project"], one["branch"]) for one in page["schedules"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [(name, str(n)) for name in ("a", "b", "c") for n in range(3)]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"),
     ("cursor=W10=", "cursor"), ("cursor=Wy0xLCIiLCIiLCIiXQ==", "cursor")],
)  # fmt: skip
async def test_addresses_without_a_page_get_404(
    service: RunningService, query: str, field: str
) -> None:
    answer = await service.call("GET", f"{API}/schedules?{query}")
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_the_command_line_shows_the_next_times(
    service: RunningService, time: HeldTime
) -> None:
    await project(service, daily(time_zone="Europe/Berlin"))
    time.set("2027-01-10T11:00")
    await look(service)
    header, row = (await boxsched(service, "schedules", "web")).stdout.splitlines()
    assert header.split()[:4] == ["PROJECT", "SCHEDULE", "BRANCH", "NEXT"]
    shown = [local_time(datetime(2027, 1, day, 11, tzinfo=UTC)) for day in (10, 11)]
    assert f"0 12 * * * Europe/Berlin  main    {shown[1]}" in row
    assert f"{shown[0]} #1 " in row and row.endswith("At 12:00 every day")
    told = (await boxsched(service, "show", "web#1")).stdout
    assert f"  schedule: 0 12 * * * Europe/Berlin, {shown[0]}\n" in told
    for arguments in (("web",), ()):
        said = json.loads((await boxsched(service, "schedules", *arguments, "--json")).stdout)
        assert said["schedules"][0]["cron"] == "0 12 * * *"
