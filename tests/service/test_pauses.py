"""Pauses and other priorities through the API and the command line."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.service.house import API, House
from tests.service.test_set_aside import boxsched

WEB = {
    "jobs": [{"name": "test", "commands": ["true"]}],
    "servers": {"production": {"jobs": [{"name": "go", "commands": ["true"]}]}},
}


async def explained(house: House, workload: str, reason: str) -> dict[str, Any]:
    """Its explanation, once the scheduler gives this reason."""
    async with asyncio.timeout(20), house.node.feed.subscribe(None) as events:
        said: dict[str, Any] = await house.get(f"/workloads/{workload}/explanation")
        if said["reason"] == reason:
            return said
        async for _ in events:
            said = await house.get(f"/workloads/{workload}/explanation")
            if said["reason"] == reason:
                return said
    raise AssertionError(f"{workload} never had the reason {reason}: {said}")


async def paused(house: House, name: str, status: int = 201, **said: Any) -> dict[str, Any]:
    body = {"note": "release week", **said}
    answer = await house.call("PUT", f"{API}/pauses/{name}", json=body)
    assert answer.status == status, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def submitted(house: House, branch: str = "main", **said: Any) -> str:
    answer = await house.call("POST", f"{API}/projects/web/builds", json={"branch": branch, **said})
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["id"])


async def web(house: House) -> None:
    assert (await house.call("PUT", f"{API}/projects/web", json=WEB)).status == 201


async def test_workloads_that_a_pause_covers_wait_until_it_is_resumed(house: House) -> None:
    await web(house)
    made = await paused(house, "freeze", project="web", branch="main")
    assert made | {"since": None} == {
        "name": "freeze", "project": "web", "branch": "main", "server": None, "automatic": False,
        "note": "release week", "by": "admin", "since": None, "until": None,
    }  # fmt: skip
    assert (await house.get("/pauses"))["pauses"] == [made]
    held, other = await submitted(house), await submitted(house, "other")
    assert (await house.finished(other))["result"] == "passed"
    said = await explained(house, held, "paused")
    assert said["phase"] == "admission"
    assert said["pause"] == {"name": "freeze", "note": "release week", "by": "admin", "until": None}
    assert said["text"] == "Paused by admin (freeze): release week."
    activity = await house.get("/activity")
    assert [(row["id"], row["why"]) for row in activity["blocked"]] == [(held, said["text"])]
    assert (await house.call("DELETE", f"{API}/pauses/freeze")).status == 204
    assert (await house.finished(held))["result"] == "passed"
    assert (await house.get("/pauses"))["pauses"] == []
    assert (await house.call("DELETE", f"{API}/pauses/freeze")).status == 404


async def test_a_pause_of_everything_and_its_replacement(house: House) -> None:
    await web(house)
    await paused(house, "night")
    held = await submitted(house)
    await explained(house, held, "paused")
    await paused(house, "night", 200, project="web", server="production")
    assert (await house.finished(held))["result"] == "passed"


async def test_a_pause_ends_automatically(house: House) -> None:
    await web(house)
    soon = datetime.now(UTC) + timedelta(seconds=1.2)
    made = await paused(house, "night", until=soon.isoformat())
    held = await submitted(house)
    assert (await explained(house, held, "paused"))["pause"]["until"] == made["until"]
    done = await house.finished(held)
    assert datetime.fromisoformat(done["started_at"]) >= soon
    assert (await house.get("/pauses"))["pauses"] == []


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"note": ""}, "note"),
        ({"note": "a\nb"}, "note"),
        ({"note": "x", "branch": "main"}, "branch"),
        ({"note": "x", "server": "production"}, "server"),
        ({"note": "x", "project": "nope"}, "project"),
        ({"note": "x", "project": "web", "server": "nope"}, "server"),
        ({"note": "x", "project": "web", "branch": "b", "server": "production"}, "server"),
        ({"note": "x", "project": "web", "branch": "b", "automatic": True}, "automatic"),
        ({"note": "x", "until": "tomorrow"}, "until"),
        ({"note": "x", "until": "2027-01-01T00:00:00"}, "until"),
        ({"note": "x", "until": "2001-01-01T00:00:00Z"}, "until"),
        ({"note": "x", "until": "9999-12-31T23:59:59-01:00"}, "until"),  # the year 10000 in UTC
        ({"note": "x", "colour": 1}, "colour"),
    ],
)
async def test_invalid_pauses(house: House, said: dict[str, Any], field: str) -> None:
    await web(house)
    answer = await house.call("PUT", f"{API}/pauses/p", json=said)
    assert (answer.status, json.loads(answer.body)["error"]["field"]) == (422, field)
    assert (await house.get("/pauses"))["pauses"] == []


async def test_pauses_outlive_the_node_and_end_with_their_project(tmp_path: Path) -> None:
    async with House.open(tmp_path / "data") as house:
        await web(house)
        await paused(house, "freeze", project="web")
        held = await submitted(house)
        await explained(house, held, "paused")
    async with House.open(tmp_path / "data") as again:
        await explained(again, held, "paused")
        assert (await again.call("POST", f"{API}/workloads/{held}/stop")).status == 202
        await again.finished(held)
        assert (await again.call("DELETE", f"{API}/projects/web")).status == 204
        assert (await again.get("/pauses"))["pauses"] == []


async def test_a_workload_that_waits_is_bumped(waiting: House) -> None:
    await web(waiting)
    first, second = await submitted(waiting), await submitted(waiting, "b")
    for one in (first, second):
        await explained(waiting, one, "no_such_boxes")
    path = f"{API}/workloads/{second}/priority"
    answer = await waiting.call("POST", path, json={"priority": 90, "note": "outage"})
    assert (answer.status, json.loads(answer.body)["priority"]) == (202, 90)
    activity = await waiting.get("/activity")
    assert [row["id"] for row in activity["blocked"]] == [second, first]
    assert (await waiting.get(f"/workloads/{second}"))["priority"] == 90
    for wrong in ({}, {"priority": 101}, {"priority": 5, "x": 1}):
        assert (await waiting.call("POST", path, json=wrong)).status == 422
    assert (await waiting.call("POST", f"{API}/workloads/w99/priority", json={})).status == 404


async def test_a_running_or_finished_workload_is_not_bumped(house: House) -> None:
    await web(house)
    done = await submitted(house)
    await house.finished(done)
    answer = await house.call("POST", f"{API}/workloads/{done}/priority", json={"priority": 9})
    assert answer.status == 409


async def test_the_command_line_pauses_bumps_and_resumes(waiting: House) -> None:
    await web(waiting)
    one = await submitted(waiting)
    done = await boxsched(waiting, "pause", "freeze", "--note", "kernel", "--for", "2h")
    assert done.stdout.startswith("freeze: everything paused until 20")
    await explained(waiting, one, "paused")
    listed = (await boxsched(waiting, "pauses")).stdout.splitlines()
    assert listed[0].split() == ["NAME", "COVERS", "BY", "SINCE", "UNTIL", "NOTE"]
    assert listed[1].split()[:3] == ["freeze", "everything", "admin"]
    said = (await boxsched(waiting, "explain", one)).stdout
    assert "kernel" in said
    assert (await boxsched(waiting, "bump", "web#1", "77", "--note", "x")).stdout == (
        "web#1: priority 77\n"
    )
    assert (await waiting.get(f"/workloads/{one}"))["priority"] == 77
    assert (await boxsched(waiting, "resume", "freeze")).stdout == "freeze: resumed\n"
    assert (await boxsched(waiting, "pauses")).stdout == "nothing is paused\n"
    await boxsched(waiting, "resume", "freeze", status=2)
    covered = ("--note", "x", "--automatic", "--project", "web", "--until", "2099-01-31T18:00Z")
    done = await boxsched(waiting, "pause", "night", *covered, "--server", "production")
    assert done.stdout.startswith("night: automatic deploys to production of web paused until 2099")
    done = await boxsched(waiting, "pause", "night", *covered)
    assert done.stdout.startswith("night: automatic deploys of web paused until 2099")
    for wrong in (("--for", "2 hours"), ("--for", "2h", "--until", "2030-01-01T00:00Z")):
        await boxsched(waiting, "pause", "p", "--note", "x", *wrong, status=2)
