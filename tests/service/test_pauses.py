"""Pauses and priorities through the API and the command line."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.service.running_service import API, RunningService
from tests.service.test_set_aside import boxsched

WEB = {
    "jobs": [{"name": "test", "commands": ["true"]}],
    "servers": {"production": {"jobs": [{"name": "go", "commands": ["true"]}]}},
}


async def explained(service: RunningService, workload: str, reason: str) -> dict[str, Any]:
    """Wait until the scheduler gives this reason; return the explanation."""
    async with asyncio.timeout(20), service.node.feed.subscribe(None) as events:
        said: dict[str, Any] = await service.get(f"/workloads/{workload}/explanation")
        if said["reason"] == reason:
            return said
        async for _ in events:
            said = await service.get(f"/workloads/{workload}/explanation")
            if said["reason"] == reason:
                return said
    raise AssertionError(f"{workload} never had the reason {reason}: {said}")


async def paused(
    service: RunningService, name: str, status: int = 201, **said: Any
) -> dict[str, Any]:
    body = {"note": "release week", **said}
    answer = await service.call("PUT", f"{API}/pauses/{name}", json=body)
    assert answer.status == status, answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def submitted(service: RunningService, branch: str = "main", **said: Any) -> str:
    answer = await service.call(
        "POST", f"{API}/projects/web/builds", json={"branch": branch, **said}
    )
    assert answer.status == 201, answer.body
    return str(json.loads(answer.body)["id"])


async def web(service: RunningService) -> None:
    assert (await service.call("PUT", f"{API}/projects/web", json=WEB)).status == 201


async def test_all_pauses_that_cover_a_workload_are_named(service: RunningService) -> None:
    await web(service)
    await paused(service, "freeze", project="web", branch="main")
    await paused(service, "upgrade")
    held = await submitted(service)
    said = await explained(service, held, "paused")
    assert said["text"].endswith("release week. Also paused by the pause upgrade.")
    assert [one["name"] for one in said["pauses"]] == ["freeze", "upgrade"]
    assert said["pause"] == said["pauses"][0]


async def test_workloads_that_a_pause_covers_wait_until_it_is_resumed(
    service: RunningService,
) -> None:
    await web(service)
    made = await paused(service, "freeze", project="web", branch="main")
    assert made | {"since": None} == {
        "name": "freeze", "project": "web", "branch": "main", "server": None, "automatic": False,
        "note": "release week", "by": "admin", "since": None, "until": None,
    }  # fmt: skip
    assert (await service.get("/pauses"))["pauses"] == [made]
    held, other = await submitted(service), await submitted(service, "other")
    assert (await service.finished(other))["result"] == "passed"
    said = await explained(service, held, "paused")
    assert said["phase"] == "admission"
    assert said["pause"] == {"name": "freeze", "note": "release week", "by": "admin", "until": None}
    assert said["text"] == "Paused by admin (freeze): release week."
    activity = await service.get("/activity")
    assert [(row["id"], row["why"]) for row in activity["blocked"]] == [(held, said["text"])]
    assert (await service.call("DELETE", f"{API}/pauses/freeze")).status == 204
    assert (await service.finished(held))["result"] == "passed"
    assert (await service.get("/pauses"))["pauses"] == []
    assert (await service.call("DELETE", f"{API}/pauses/freeze")).status == 404


async def test_a_pause_of_everything_can_be_replaced(service: RunningService) -> None:
    await web(service)
    await paused(service, "night")
    held = await submitted(service)
    await explained(service, held, "paused")
    await paused(service, "night", 200, project="web", server="production")
    assert (await service.finished(held))["result"] == "passed"


async def test_a_pause_ends_automatically(service: RunningService) -> None:
    await web(service)
    soon = datetime.now(UTC) + timedelta(seconds=1.2)
    made = await paused(service, "night", until=soon.isoformat())
    held = await submitted(service)
    assert (await explained(service, held, "paused"))["pause"]["until"] == made["until"]
    done = await service.finished(held)
    assert datetime.fromisoformat(done["started_at"]) >= soon
    assert (await service.get("/pauses"))["pauses"] == []


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
async def test_invalid_pauses_are_refused(
    service: RunningService, said: dict[str, Any], field: str
) -> None:
    await web(service)
    answer = await service.call("PUT", f"{API}/pauses/p", json=said)
    assert (answer.status, json.loads(answer.body)["error"]["field"]) == (422, field)
    assert (await service.get("/pauses"))["pauses"] == []


async def test_pauses_outlive_the_node_and_end_with_their_project(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data") as service:
        await web(service)
        await paused(service, "freeze", project="web")
        held = await submitted(service)
        await explained(service, held, "paused")
    async with RunningService.open(tmp_path / "data") as again:
        await explained(again, held, "paused")
        assert (await again.call("POST", f"{API}/workloads/{held}/stop")).status == 202
        await again.finished(held)
        assert (await again.call("DELETE", f"{API}/projects/web")).status == 204
        assert (await again.get("/pauses"))["pauses"] == []


async def test_the_priority_of_a_waiting_workload_can_be_changed(
    boxless_service: RunningService,
) -> None:
    await web(boxless_service)
    first, second = await submitted(boxless_service), await submitted(boxless_service, "b")
    for one in (first, second):
        await explained(boxless_service, one, "no_such_boxes")
    path = f"{API}/workloads/{second}/priority"
    answer = await boxless_service.call("POST", path, json={"priority": 90, "note": "outage"})
    assert (answer.status, json.loads(answer.body)["priority"]) == (202, 90)
    activity = await boxless_service.get("/activity")
    assert [row["id"] for row in activity["blocked"]] == [second, first]
    shown = await boxless_service.get(f"/workloads/{second}")
    assert [shown[f"priority{part}"] for part in ("", "_by", "_note")] == [90, "admin", "outage"]
    said = (await boxless_service.get(f"/workloads/{second}/explanation"))["text"]
    assert said.endswith(" admin gave it priority 90: outage.")
    for wrong in ({}, {"priority": 101}, {"priority": 5, "x": 1}):
        assert (await boxless_service.call("POST", path, json=wrong)).status == 422
    assert (
        await boxless_service.call("POST", f"{API}/workloads/w99/priority", json={})
    ).status == 404


async def test_the_priority_of_a_running_or_finished_workload_cannot_be_changed(
    service: RunningService,
) -> None:
    await web(service)
    done = await submitted(service)
    await service.finished(done)
    answer = await service.call("POST", f"{API}/workloads/{done}/priority", json={"priority": 9})
    assert answer.status == 409


async def test_the_command_line_pauses_bumps_and_resumes(boxless_service: RunningService) -> None:
    await web(boxless_service)
    one = await submitted(boxless_service)
    done = await boxsched(boxless_service, "pause", "freeze", "--note", "kernel", "--for", "2h")
    assert done.stdout.startswith("freeze: everything paused until 20")
    await explained(boxless_service, one, "paused")
    listed = (await boxsched(boxless_service, "pauses")).stdout.splitlines()
    assert listed[0].split() == ["NAME", "COVERS", "BY", "SINCE", "UNTIL", "NOTE"]
    assert listed[1].split()[:3] == ["freeze", "everything", "admin"]
    said = (await boxsched(boxless_service, "explain", one)).stdout
    assert "kernel" in said
    assert "Paused by admin until 20" in (await boxsched(boxless_service, "list")).stdout
    assert (await boxsched(boxless_service, "bump", "web#1", "77", "--note", "x")).stdout == (
        "web#1: priority 77\n"
    )
    assert (await boxless_service.get(f"/workloads/{one}"))["priority"] == 77
    assert "77, by admin: x\n" in (await boxsched(boxless_service, "show", one)).stdout
    assert (await boxsched(boxless_service, "resume", "freeze")).stdout == "freeze: resumed\n"
    assert (await boxsched(boxless_service, "pauses")).stdout == "nothing is paused\n"
    await boxsched(boxless_service, "resume", "freeze", status=2)
    covered = ("--note", "x", "--automatic", "--project", "web", "--until", "2099-01-31T18:00Z")
    done = await boxsched(boxless_service, "pause", "night", *covered, "--server", "production")
    assert done.stdout.startswith("night: automatic deploys to production of web paused until 2099")
    done = await boxsched(boxless_service, "pause", "night", *covered)
    assert done.stdout.startswith("night: automatic deploys of web paused until 2099")
    for wrong in (("--for", "2 hours"), ("--for", "2h", "--until", "2030-01-01T00:00Z")):
        await boxsched(boxless_service, "pause", "p", "--note", "x", *wrong, status=2)
