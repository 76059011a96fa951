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
from tests.service.running_service import API, RunningService, job, jobs, stop

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
async def test_an_unknown_id_of_any_form_gets_404(
    boxless_service: RunningService, id_: str
) -> None:
    await boxless_service.project("web")
    await boxless_service.build()
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
        answer = await boxless_service.call(method, API + path)
        assert (answer.status, answer.error["code"]) == (404, "not_found"), path


async def test_pages_list_the_newest_first(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = [(await boxless_service.build(branch=f"b{n}"))["id"] for n in range(7)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = await boxless_service.get(f"/workloads?limit=3{cursor and '&cursor=' + cursor}")
        seen += [one["id"] for one in page["workloads"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == made[::-1]
    assert pages == 3
    exact = await boxless_service.get("/workloads?limit=7")
    assert exact["next_cursor"] is None
    assert len(exact["workloads"][0]["jobs"]) == 1


async def test_filters_select_workloads(service: RunningService) -> None:
    await service.project("web", servers={"s": {"jobs": [job()]}})
    await service.project("api")
    build, other = await service.build(branch="x"), await service.build("api", branch="y")
    deploy = await service.deploy("s")
    for one in (build, other, deploy):
        await service.finished(one["id"])

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await service.get(f"/workloads?{query}"))["workloads"]]

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
async def test_invalid_filters_are_refused(service: RunningService, query: str, field: str) -> None:
    answer = await service.call("GET", f"{API}/workloads?{query}")
    assert (answer.status, answer.error["field"]) == (422, field)


# --- Explanations ---------------------------------------------------------------------------

KEYS = {
    "phase", "reason", "text", "blocked_by", "needs", "free", "position", "expected_start",
    "promised_start", "overtaken_by", "pause", "pauses",
}  # fmt: skip


async def test_a_waiting_workload_is_explained(tmp_path) -> None:
    async with RunningService.open(
        tmp_path / "data", boxes=2, box_driver="process", stop_grace=0.2
    ) as service:
        await service.project("web", jobs=[job("sleep", "sleep 60")])
        first = await service.build(branch="a")
        await service.until(first["id"], state="running")
        behind = await service.build(branch="a")
        wide = await service.build(branch="b", jobs=jobs(2))
        huge = await service.build(branch="c", jobs=jobs(3))
        for one in (wide, huge):
            await service.until(one["id"], state="queued")

        async def why(workload: dict[str, str]) -> dict[str, object]:
            said = await service.get(f"/workloads/{workload['id']}/explanation")
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
        small = await service.build(
            branch="d", jobs=[{**job("quick", "true"), "timeout_seconds": 9}]
        )
        await service.finished(small["id"])
        assert (await why(wide))["overtaken_by"] == 1
        assert (await why(huge))["reason"] == "no_such_boxes"
        for one in (behind, wide, huge, first):
            await service.call("POST", f"{API}/workloads/{one['id']}/stop")
        await service.finished(first["id"])
        said = await why(first)
        assert (said["phase"], said["reason"]) == ("finished", "finished")


async def test_a_failure_is_explained(executing_service: RunningService) -> None:
    made = [job("unit", "exit 3"), job("lint", "exit 3"), job("docs", "true")]
    await executing_service.project("web", jobs=made)
    failed = await executing_service.build(jobs=made[:2])
    await executing_service.finished(failed["id"])
    said = await executing_service.get(f"/workloads/{failed['id']}/explanation")
    assert said["text"] == "It has failed: unit, lint: exit status 3."


async def test_a_loss_is_explained(service: RunningService) -> None:
    await service.project("web", jobs=[job(f"j{n}") for n in range(2)])
    passed = await service.build()
    await service.finished(passed["id"])
    id_ = parse_workload(passed["id"])
    assert id_ is not None
    stored = await service.node.store.workload(id_)
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


async def test_a_workload_that_was_just_submitted_is_explained(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    for _ in range(20):
        made = await boxless_service.build(branch="x")
        said = await boxless_service.get(f"/workloads/{made['id']}/explanation")
        assert said["reason"] in ("no_such_boxes", "waits_for_lane")


async def test_a_workload_that_is_only_in_the_inbox_is_explained(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is busy: it has not read the workload, which is stored all the same."""
    await boxless_service.project("web")

    async def busy(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(boxless_service.node.store, "inbox", busy)
    made = await boxless_service.build(jobs=[job("a"), job("b"), job("c", box_type="mac")])
    said = await boxless_service.get(f"/workloads/{made['id']}/explanation")
    assert set(said) == KEYS
    assert (said["phase"], said["blocked_by"]) == ("ordering", [])
    assert said["needs"] == {"default": 2, "mac": 1}
    assert (said["position"], said["expected_start"]) == (None, None)


async def test_expected_times_are_rfc_3339_and_not_in_the_past(
    executing_service: RunningService,
) -> None:
    long = job("sleep", "sleep 60")
    await executing_service.project("web", jobs=[long])
    first = await executing_service.build(branch="a", jobs=[long, {**long, "name": "second"}])
    await executing_service.until(first["id"], state="running")
    await executing_service.until(first["id"], result=None)
    waits = await executing_service.build(branch="b")
    await executing_service.until(waits["id"], state="queued")
    later = (
        executing_service.node.clock.now() + 86_400
    )  # the expected end, by the time limit, is long past
    said = await executing_service.get(f"/workloads/{waits['id']}/explanation")
    [blocker] = said["blocked_by"]
    for time in (said["expected_start"], blocker["expected_end"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time)
    executing_service.node.clock.now = lambda: later  # type: ignore[method-assign]
    said = await executing_service.get(f"/workloads/{waits['id']}/explanation")
    [blocker] = said["blocked_by"]
    assert said["expected_start"] >= rfc3339(later)
    assert blocker["expected_end"] >= rfc3339(later)


# --- Stops ----------------------------------------------------------------------------------


async def test_a_waiting_workload_is_canceled(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    answer = await stop(boxless_service, made["id"])
    assert answer.status == 202
    assert (answer.json["id"], answer.json["result"]) == (made["id"], "canceled")
    done = await boxless_service.finished(made["id"])
    assert (done["result"], done["started_at"]) == ("canceled", None)
    again = await stop(boxless_service, made["id"])
    assert (again.status, again.error["code"]) == (409, "conflict")


async def test_a_running_workload_is_stopped(executing_service: RunningService) -> None:
    await executing_service.project("web", jobs=[job("long", "sleep 60")])
    made = await executing_service.build()
    await executing_service.until(made["id"], state="running")
    answer = await stop(executing_service, made["id"])
    assert (answer.status, answer.json["state"]) == (202, "stopping")
    assert (await executing_service.finished(made["id"]))["result"] == "stopped"
    assert (await stop(executing_service, made["id"])).status == 409


async def test_a_passed_workload_cannot_be_stopped(service: RunningService) -> None:
    await service.project("web")
    made = await service.build()
    await service.finished(made["id"])
    assert (await stop(service, made["id"])).status == 409


async def test_many_stops_at_once(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    answers = await asyncio.gather(*(stop(boxless_service, made["id"]) for _ in range(10)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert (await boxless_service.finished(made["id"]))["result"] == "canceled"


async def test_a_stop_has_no_body(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    path = f"{API}/workloads/{made['id']}/stop"
    assert (await boxless_service.call("POST", path, {"now": True})).error["field"] == "now"
    assert (await boxless_service.call("POST", path, data=b"{")).status == 400
    assert (await boxless_service.call("POST", path, {})).status == 202


@pytest.mark.parametrize(("headers", "status"), [({}, 409), ({"Idempotency-Key": "k"}, 202)])
async def test_a_stop_after_the_end_is_refused(
    executing_service: RunningService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    status: int,
) -> None:
    """The answer under a key equals that of a repetition: the request is stored."""
    gate = tmp_path / "gate"
    await executing_service.project("web")
    waits = f"until [ -e {gate} ]; do sleep 0.02; done"
    build = await executing_service.build(jobs=[job("test", waits)])
    await executing_service.until(build["id"], state="running")

    def behind_the_end(ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def asked(*args: object) -> Any:
            gate.touch()
            assert (await executing_service.finished(build["id"]))["result"] == "passed"
            return await ask(*args)

        return asked

    node = executing_service.node
    monkeypatch.setattr(node, "ask", behind_the_end(node.ask))
    monkeypatch.setattr(node.store, "ask_once", behind_the_end(node.store.ask_once))
    assert (await stop(executing_service, build["id"], **headers)).status == status
