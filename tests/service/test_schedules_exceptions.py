"""Schedules under unusual conditions: clock changes, takeovers, and settings that no longer fit."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.running_service import RunningService, job
from tests.service.schedule_checks import HeldTime, builds, daily, look, messages, project, shown


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


@pytest.mark.parametrize("back", [{"seconds": 5}, {"minutes": 30}, {"days": 1}, {"days": 366}])
async def test_a_clock_that_is_set_back_causes_no_second_build(
    service: RunningService, time: HeldTime, back: dict[str, float]
) -> None:
    await project(service, daily())
    time.set("2027-01-10T12:00")
    await look(service)
    time.move(**{unit: -count for unit, count in back.items()})
    await look(service)
    time.set("2027-01-10T12:00")
    await look(service)
    assert len(await builds(service)) == 1
    time.set("2027-01-11T12:00")
    await look(service)
    assert len(await builds(service)) == 2


async def test_a_clock_that_was_years_ahead_stops_no_schedule(
    service: RunningService, time: HeldTime
) -> None:
    time.set("2040-01-01T00:00")
    await project(service, daily())
    time.set("2027-01-10T10:30")
    await look(service)
    time.set("2027-01-10T12:00")
    await look(service)
    assert await messages(service) == ["schedule: 0 12 * * * UTC, 2027-01-10T12:00:00+00:00"]


@pytest.mark.parametrize(
    ("night", "zone", "cron", "expected"),
    [
        ("2027-03-27T23:00", "Europe/Berlin", "30 2 * * *", ["2027-03-28T03:00:00+02:00"]),
        ("2027-10-30T22:00", "Europe/Berlin", "30 2 * * *", ["2027-10-31T02:30:00+02:00"]),
        ("2027-03-14T05:00", "America/New_York", "30 2 * * *", ["2027-03-14T03:00:00-04:00"]),
        ("2027-11-07T04:00", "America/New_York", "30 1 * * *", ["2027-11-07T01:30:00-04:00"]),
        ("2027-10-02T14:00", "Australia/Lord_Howe", "15 2 * * *", ["2027-10-03T02:30:00+11:00"]),
        ("2027-04-03T13:30", "Australia/Lord_Howe", "45 1 * * *", ["2027-04-04T01:45:00+11:00"]),
        ("2011-12-30T07:00", "Pacific/Apia", "0 12 * * *", ["2011-12-31T00:00:00+14:00"]),
        ("2027-10-30T22:00", "Europe/Berlin", "0 2-3 * * *",
         ["2027-10-31T02:00:00+02:00", "2027-10-31T03:00:00+01:00"]),
    ],
)  # fmt: skip
async def test_nights_with_a_clock_change(
    service: RunningService, time: HeldTime, night: str, zone: str, cron: str, expected: list[str]
) -> None:
    """Check every five minutes, for five hours."""
    time.set(night)
    await project(service, {"cron": cron, "branch": "main", "time_zone": zone})
    for _ in range(60):
        time.move(minutes=5)
        await look(service)
    found = await messages(service)
    assert found == [f"schedule: {cron} {zone}, {at}" for at in expected]


async def test_a_former_leader_makes_no_second_build(
    service: RunningService, time: HeldTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decided on 12:00 and was delayed; another node has built 12:05 for both since."""
    await project(service, {"cron": "*/5 * * * *", "branch": "main"})
    time.set("2027-01-10T12:00")
    held, go_on = asyncio.Event(), asyncio.Event()
    submit = service.node.submit

    async def late(new: Any) -> Any:
        monkeypatch.setattr(service.node, "submit", submit)
        held.set()
        await go_on.wait()
        return await submit(new)

    monkeypatch.setattr(service.node, "submit", late)
    former = asyncio.create_task(look(service))
    await held.wait()
    time.set("2027-01-10T12:05")
    await look(service)
    go_on.set()
    await former
    assert await messages(service) == ["schedule: */5 * * * * UTC, 2027-01-10T12:05:00+00:00"]


async def test_a_node_that_dies_before_the_build_leaves_it_to_the_next(
    still: None, time: HeldTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await project(service, daily())
        time.set("2027-01-10T12:00")
        with monkeypatch.context() as patch:
            patch.setattr(service.node, "submit", _dies)
            with pytest.raises(asyncio.CancelledError):
                await look(service)
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await look(service)
        await look(service)
        assert len(await builds(service)) == 1


async def _dies(_: object) -> None:
    raise asyncio.CancelledError


async def test_settings_of_an_earlier_program_are_read(
    service: RunningService, time: HeldTime
) -> None:
    """An earlier program writes no schedules, and an upgraded database has none yet."""
    await service.project()
    await project(service, daily(branch="old"))
    settings = json.dumps({"schedules": [daily()], "jobs": [job()]})
    await _of_an_earlier_program(service, settings)
    await look(service)
    assert [one["branch"] for one in await shown(service)] == ["main"]
    time.set("2027-01-10T12:00")
    await look(service)
    assert [one["branch"] for one in await builds(service)] == ["main"]


async def _of_an_earlier_program(service: RunningService, settings: str) -> None:
    from boxsched.store.blocks import parsed
    from tests.contract.test_uses import driver_of

    block = parsed(
        "older", "-- For a test.\n-- returns: nothing\n"
        "UPDATE project SET settings = :settings, version = version + 1 WHERE name = 'web';",
    )  # fmt: skip

    def steps() -> Any:
        yield block(settings=settings)

    await driver_of(service.node.store).serving.write(steps)
