"""Workloads: read, listed, explained, stopped."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.api.http.times import rfc3339
from boxsched.api.messages.explanation import finished
from boxsched.model import parse_workload
from boxsched.states import Result
from boxsched.store.records import Job
from tests.service.house import API, House, job, jobs, stop

UNKNOWN = (
    "w99",
    "w0",
    "w01",
    "99",
    "w",
    "W1",
    "w-1",
    "w1.0",
    "w" + "9" * 40,
    "%00",
    "%ff",
    "é",
    "w1%20",
)


@pytest.mark.parametrize("id_", UNKNOWN)
async def test_an_unknown_id_is_404_whatever_its_form(waiting: House, id_: str) -> None:
    await waiting.project("web")
    await waiting.build()
    for method, path in (
        ("GET", f"/workloads/{id_}"),
        ("GET", f"/workloads/{id_}/explanation"),
        ("POST", f"/workloads/{id_}/stop"),
        ("POST", f"/workloads/{id_}/rebuild"),
        ("GET", f"/jobs/{id_}/log"),
        ("GET", f"/jobs/{id_}-1/log"),
        ("GET", "/jobs/w1-2/log"),
        ("GET", "/jobs/w1-0/log"),
    ):
        answer = await waiting.call(method, API + path)
        assert (answer.status, answer.error["code"]) == (404, "not_found"), path


async def test_pages_newest_first(waiting: House) -> None:
    await waiting.project("web")
    made = [(await waiting.build(branch=f"b{n}"))["id"] for n in range(7)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = await waiting.get(f"/workloads?limit=3{cursor and '&cursor=' + cursor}")
        seen += [one["id"] for one in page["workloads"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == made[::-1]
    assert pages == 3
    exact = await waiting.get("/workloads?limit=7")
    assert exact["next_cursor"] is None
    assert len(exact["workloads"][0]["jobs"]) == 1


async def test_filters(house: House) -> None:
    await house.project("web", servers={"s": {"jobs": [job()]}})
    await house.project("api")
    build, other = await house.build(branch="x"), await house.build("api", branch="y")
    deploy = await house.deploy("s")
    for one in (build, other, deploy):
        await house.finished(one["id"])

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await house.get(f"/workloads?{query}"))["workloads"]]

    assert await listed("kind=deploy") == [deploy["id"]]
    assert await listed("project=api") == [other["id"]]
    assert await listed("branch=x&project=web&kind=build&state=finished") == [build["id"]]
    assert await listed("server=s") == [deploy["id"]]
    assert await listed("state=running") == []
    assert await listed("project=nobody") == []
    assert await listed("result=failed") == []
    assert await listed("result=passed&state=finished&project=web") == [deploy["id"], build["id"]]
    assert await listed("project=web&number=2") == [deploy["id"]]
    assert await listed("project=web&number=3") == []
    assert await listed("project=nobody&number=1") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=builds", "kind"),
        ("kind=", "kind"),
        ("state=done", "state"),
        ("result=won", "result"),
        ("result=refused", "result"),
        ("number=1", "number"),
        ("project=web&number=x", "number"),
        ("project=web&number=" + "9" * 16, "number"),
        ("project=web&number=1&kind=build", "number"),
        ("project=%00&number=1", "project"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=%D9%A3", "limit"),
        ("cursor=", "cursor"),
        ("cursor=w1", "cursor"),
        ("cursor=YmVmb3JlIHcw", "cursor"),
        ("cursor=%ff%00", "cursor"),
        ("branch=", "branch"),
        ("branch=a%00", "branch"),
        ("branch=" + "a" * 256, "branch"),
        ("server=a%0Ab", "server"),
        ("project=%00", "project"),
    ],
)
async def test_filters_that_make_no_sense(house: House, query: str, field: str) -> None:
    answer = await house.call("GET", f"{API}/workloads?{query}")
    assert (answer.status, answer.error["field"]) == (422, field)


# --- Explanations ---------------------------------------------------------------------------

KEYS = {
    "phase", "reason", "text", "blocked_by", "needs", "free", "position", "expected_start",
    "promised_start", "overtaken_by", "pause",
}  # fmt: skip


async def test_why_it_waits(tmp_path) -> None:
    async with House.open(
        tmp_path / "data", boxes=2, box_driver="process", stop_grace=0.2
    ) as house:
        await house.project("web", jobs=[job("sleep", "sleep 60")])
        first = await house.build(branch="a")
        await house.until(first["id"], state="running")
        behind = await house.build(branch="a")
        wide = await house.build(branch="b", jobs=jobs(2))
        huge = await house.build(branch="c", jobs=jobs(3))
        for one in (wide, huge):
            await house.until(one["id"], state="queued")

        async def why(workload: dict[str, str]) -> dict[str, object]:
            said = await house.get(f"/workloads/{workload['id']}/explanation")
            assert set(said) == KEYS
            return said

        said = await why(first)
        assert (said["phase"], said["reason"]) == ("assignment", "running")
        said = await why(behind)
        assert (said["phase"], said["reason"]) == ("ordering", "waits_for_lane")
        [blocker] = said["blocked_by"]
        assert blocker.keys() == {
            "id", "number", "kind", "project", "boxes", "expected_end", "usual_end",
        }  # fmt: skip
        assert said["overtaken_by"] is None  # it is not queued
        assert (blocker["id"], blocker["project"]) == (first["id"], "web")
        said = await why(wide)
        assert (said["phase"], said["reason"]) == ("admission", "needs_boxes")
        assert said["needs"] == {"default": 2}
        assert said["free"] == {"default": 1}
        assert said["position"] == 1
        assert said["expected_start"].endswith("Z")
        assert said["overtaken_by"] == 0
        small = await house.build(branch="d", jobs=[{**job("quick", "true"), "timeout_seconds": 9}])
        await house.finished(small["id"])
        assert (await why(wide))["overtaken_by"] == 1
        assert (await why(huge))["reason"] == "no_such_boxes"
        for one in (behind, wide, huge, first):
            await house.call("POST", f"{API}/workloads/{one['id']}/stop")
        await house.finished(first["id"])
        said = await why(first)
        assert (said["phase"], said["reason"]) == ("finished", "finished")


async def test_why_it_failed(running: House) -> None:
    made = [job("unit", "exit 3"), job("lint", "exit 3"), job("docs", "true")]
    await running.project("web", jobs=made)
    failed = await running.build(jobs=made[:2])
    await running.finished(failed["id"])
    said = await running.get(f"/workloads/{failed['id']}/explanation")
    assert said["text"] == "It has failed: unit, lint: exit status 3."


async def test_why_it_was_lost(house: House) -> None:
    await house.project("web", jobs=[job(f"j{n}") for n in range(2)])
    passed = await house.build()
    await house.finished(passed["id"])
    id_ = parse_workload(passed["id"])
    assert id_ is not None
    stored = await house.node.store.workload(id_)
    assert stored is not None
    assert finished(stored).text == "It has passed."
    [one, _] = stored.jobs

    def failed(n: int, reason: str) -> Job:
        return attrs.evolve(one, name=f"f{n}", result=Result.FAILED, reason=reason)

    lost = [failed(n, "lost: its record is gone") for n in range(5)]
    jobs_ = (*stored.jobs, *lost, failed(6, "ran out of time"))
    said = finished(attrs.evolve(stored, result=Result.FAILED, jobs=jobs_))
    assert said.text == (
        "It has failed: f0, f1, f2, 2 more jobs: lost: its record is gone; f6: ran out of time."
    )


async def test_a_workload_that_was_just_submitted_is_explained(waiting: House) -> None:
    await waiting.project("web")
    for _ in range(20):
        made = await waiting.build(branch="x")
        said = await waiting.get(f"/workloads/{made['id']}/explanation")
        assert said["reason"] in ("no_such_boxes", "waits_for_lane")


async def test_a_workload_that_is_only_in_the_inbox_is_explained(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the engine is busy: it has not seen the workload, which is stored all the same."""
    await waiting.project("web")

    async def busy(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(waiting.node.store, "inbox", busy)
    made = await waiting.build(jobs=[job("a"), job("b"), job("c", box_type="mac")])
    said = await waiting.get(f"/workloads/{made['id']}/explanation")
    assert set(said) == KEYS
    assert (said["phase"], said["blocked_by"]) == ("ordering", [])
    assert said["needs"] == {"default": 2, "mac": 1}
    assert (said["position"], said["expected_start"]) == (None, None)


async def test_expected_times_are_rfc_3339_and_not_past(running: House) -> None:
    long = job("sleep", "sleep 60")
    await running.project("web", jobs=[long])
    first = await running.build(branch="a", jobs=[long, {**long, "name": "second"}])
    await running.until(first["id"], state="running")
    await running.until(first["id"], result=None)
    waits = await running.build(branch="b")
    await running.until(waits["id"], state="queued")
    later = running.node.clock.now() + 86_400  # the time limit, which is expected, is long over
    said = await running.get(f"/workloads/{waits['id']}/explanation")
    [blocker] = said["blocked_by"]
    for time in (said["expected_start"], blocker["expected_end"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time)
    running.node.clock.now = lambda: later  # type: ignore[method-assign]
    said = await running.get(f"/workloads/{waits['id']}/explanation")
    [blocker] = said["blocked_by"]
    assert said["expected_start"] >= rfc3339(later)
    assert blocker["expected_end"] >= rfc3339(later)


# --- Stops ----------------------------------------------------------------------------------


async def test_a_waiting_workload_is_canceled(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    answer = await stop(waiting, made["id"])
    assert answer.status == 202
    assert (answer.json["id"], answer.json["result"]) == (made["id"], "canceled")
    done = await waiting.finished(made["id"])
    assert (done["result"], done["started_at"]) == ("canceled", None)
    again = await stop(waiting, made["id"])
    assert (again.status, again.error["code"]) == (409, "conflict")


async def test_a_running_workload_is_stopped(running: House) -> None:
    await running.project("web", jobs=[job("long", "sleep 60")])
    made = await running.build()
    await running.until(made["id"], state="running")
    answer = await stop(running, made["id"])
    assert (answer.status, answer.json["state"]) == (202, "stopping")
    assert (await running.finished(made["id"]))["result"] == "stopped"
    assert (await stop(running, made["id"])).status == 409


async def test_a_passed_workload_cannot_be_stopped(house: House) -> None:
    await house.project("web")
    made = await house.build()
    await house.finished(made["id"])
    assert (await stop(house, made["id"])).status == 409


async def test_many_stops_at_once(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    answers = await asyncio.gather(*(stop(waiting, made["id"]) for _ in range(10)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert (await waiting.finished(made["id"]))["result"] == "canceled"


async def test_a_stop_has_no_body(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    path = f"{API}/workloads/{made['id']}/stop"
    assert (await waiting.call("POST", path, {"now": True})).error["field"] == "now"
    assert (await waiting.call("POST", path, data=b"{")).status == 400
    assert (await waiting.call("POST", path, {})).status == 202


@pytest.mark.parametrize(("headers", "status"), [({}, 409), ({"Idempotency-Key": "k"}, 202)])
async def test_a_stop_that_comes_after_the_end(
    running: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    status: int,
) -> None:
    """Its answer under a key is the one that a repetition gets: the wish is stored."""
    gate = tmp_path / "gate"
    await running.project("web")
    waits = f"until [ -e {gate} ]; do sleep 0.02; done"
    build = await running.build(jobs=[job("test", waits)])
    await running.until(build["id"], state="running")

    def behind_the_end(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(*args: object) -> Any:
            gate.touch()
            assert (await running.finished(build["id"]))["result"] == "passed"
            return await ask(*args)

        return asked

    node = running.node
    monkeypatch.setattr(node, "ask", behind_the_end(node.ask))
    monkeypatch.setattr(node.store, "ask_once", behind_the_end(node.store.ask_once))
    assert (await stop(running, build["id"], **headers)).status == status
