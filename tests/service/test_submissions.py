"""Builds, deploys, SSH sessions, rebuilds: what is decided at submission, and what is refused."""

import asyncio
import base64

import pytest

from boxsched.model import Cancellation
from tests.service.running_service import (
    API,
    KEY_BLOB,
    PUBLIC_KEY,
    RunningService,
    job,
    jobs,
    refused,
    stop,
)

WORKLOAD_FIELDS = {
    "id", "project", "number", "kind", "branch", "tag", "server", "commit", "message", "author",
    "state", "result", "priority", "created_at", "queued_at", "started_at", "finished_at", "jobs",
}  # fmt: skip
JOB_FIELDS = {
    "id", "name", "state", "result", "box", "attempt", "started_at", "finished_at", "exit_status",
}  # fmt: skip


async def test_a_build_is_returned_as_it_was_registered(service: RunningService) -> None:
    await service.project("web", jobs=jobs(2))
    asked = {"branch": "main", "commit": "abcdef0", "message": "Mend\nit", "author": "Ada"}
    answer = await service.call("POST", f"{API}/projects/web/builds", asked)
    made = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"{API}/workloads/{made['id']}"
    assert made.keys() >= WORKLOAD_FIELDS
    assert {name: made[name] for name in asked} == asked
    assert (made["state"], made["kind"], made["number"]) == ("registered", "build", 1)
    assert made["jobs"][0].keys() >= JOB_FIELDS
    assert [one["state"] for one in made["jobs"]] == ["waiting", "waiting"]
    assert [one["id"] for one in made["jobs"]] == [f"{made['id']}-1", f"{made['id']}-2"]
    done = await service.finished(made["id"])
    assert done["result"] == "passed"


async def test_a_build_may_have_a_tag_and_its_own_jobs(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build(
        tag="v1", jobs=[job("only", "true", box_type="mac")], priority=3
    )
    assert (made["tag"], made["branch"], made["priority"]) == ("v1", None, 3)
    assert [(one["name"], one["box_type"]) for one in made["jobs"]] == [("only", "mac")]


async def test_each_kind_has_its_default_priority(boxless_service: RunningService) -> None:
    await boxless_service.project(
        "web", priority_branches=["release/*"], servers={"production": {"jobs": [job()]}}
    )
    session = await boxless_service.call(
        "POST", f"{API}/projects/web/ssh-sessions", {"branch": "main", "public_key": PUBLIC_KEY}
    )
    assert session.json["priority"] == 80
    assert (await boxless_service.deploy("production"))["priority"] == 80
    assert (await boxless_service.build(branch="release/1/x"))["priority"] == 70
    assert (await boxless_service.build(branch="Release/1"))["priority"] == 50
    assert (await boxless_service.build(branch="release/1", priority=0))["priority"] == 0


async def test_the_message_overrides_fail_fast(boxless_service: RunningService) -> None:
    await boxless_service.project("web", fail_fast=["main"], servers={"s": {"jobs": [job()]}})
    stored = []
    for asked in (
        {"branch": "main"},
        {"branch": "x"},
        {"branch": "main", "message": "x [fast failing skip]"},
        {"branch": "x", "message": "[fast failing] y"},
        {"server": "s", "message": "z"},
        {"server": "s", "message": "[fast failing] z"},
    ):
        made = await (boxless_service.deploy if "server" in asked else boxless_service.build)(
            **asked
        )
        workload = await boxless_service.node.store.workload(int(made["id"][1:]))
        assert workload is not None
        stored.append(workload.fail_fast)
    assert stored == [True, False, False, True, False, True]


async def test_a_strategy_cancels_waiting_builds(boxless_service: RunningService) -> None:
    await boxless_service.project("web", cancellation=[["main", "none"], ["*", "queued"]])
    first, kept = (
        await boxless_service.build(branch="x"),
        await boxless_service.build(branch="main"),
    )
    await boxless_service.build(branch="x")
    await boxless_service.build(branch="main")
    gone = await boxless_service.finished(first["id"])
    assert gone["result"] == "canceled"
    assert (await boxless_service.look(kept["id"]))["state"] == "queued"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "branch"),
        ({"branch": "a", "tag": "b"}, "tag"),
        ({"branch": "a", "jobs": []}, "jobs"),
        ({"branch": "a", "jobs": jobs(1001)}, "jobs"),
        ({"branch": "a", "jobs": [{"name": "x"}]}, "jobs[0].commands"),
        ({"branch": "a", "jobs": [job(), {"name": "x", "commands": "true"}]}, "jobs[1].commands"),
        ({"branch": "a", "jobs": [{"name": "x", "commands": []}]}, "jobs[0].commands"),
        ({"branch": "a", "jobs": [{"name": "x", "commands": [1]}]}, "jobs[0].commands[0]"),
        ({"branch": "a", "jobs": [{"name": "x", "commands": ["a\0b"]}]}, "jobs[0].commands[0]"),
        ({"branch": "a", "jobs": [job("")]}, "jobs[0].name"),
        ({"branch": "a", "jobs": [job("x" * 256)]}, "jobs[0].name"),
        ({"branch": "a", "jobs": [job("a\nb")]}, "jobs[0].name"),
        ({"branch": "a", "jobs": [job("a\n")]}, "jobs[0].name"),
        ({"branch": "a", "jobs": [job(timeout_seconds=0)]}, "jobs[0].timeout_seconds"),
        ({"branch": "a", "jobs": [job(timeout_seconds=-1)]}, "jobs[0].timeout_seconds"),
        ({"branch": "a", "jobs": [job(timeout_seconds=1e18)]}, "jobs[0].timeout_seconds"),
        ({"branch": "a", "jobs": [job(timeout_seconds="1")]}, "jobs[0].timeout_seconds"),
        ({"branch": "a", "jobs": [job(box_type="a b")]}, "jobs[0].box_type"),
        ({"branch": "a", "jobs": [job(environment={"A B": "x"})]}, "jobs[0].environment"),
        ({"branch": "a", "jobs": [job(environment={"": "x"})]}, "jobs[0].environment"),
        ({"branch": "a", "jobs": [job(environment={"B": "", "A": 1})]}, "jobs[0].environment.A"),
        ({"branch": "a", "jobs": [job(environment={"A": "\0"})]}, "jobs[0].environment.A"),
        ({"branch": "a", "jobs": [job("x"), job("y"), job("x")]}, "jobs[2].name"),
        ({"branch": "a", "jobs": [job(environment={"BOXSCHED_JOB": "x"})]}, "jobs[0].environment"),
        ({"branch": "a", "jobs": [job(surprise=1)]}, "jobs[0].surprise"),
        ({"branch": ""}, "branch"),
        ({"branch": "a" * 256}, "branch"),
        ({"branch": "a\x07"}, "branch"),
        ({"branch": "a\x7f"}, "branch"),
        ({"branch": "a\x85"}, "branch"),
        ({"branch": "a\0"}, "branch"),
        ({"branch": "--upload-pack=evil"}, "branch"),
        ({"branch": ["main"]}, "branch"),
        ({"branch": 1}, "branch"),
        ({"tag": "v\r1"}, "tag"),
        ({"branch": "a", "commit": "abcde"}, "commit"),
        ({"branch": "a", "commit": "g" * 40}, "commit"),
        ({"branch": "a", "commit": "a" * 65}, "commit"),
        ({"branch": "a", "commit": "abcdef0\n"}, "commit"),
        ({"branch": "a", "message": "x\0"}, "message"),
        ({"branch": "a", "author": "x\n"}, "author"),
        ({"branch": "a", "priority": 101}, "priority"),
        ({"branch": "a", "priority": -1}, "priority"),
        ({"branch": "a", "priority": 1.5}, "priority"),
        ({"branch": "a", "priority": True}, "priority"),
        ({"branch": "a", "priority": "50"}, "priority"),
        ({"branch": "a", "priority": 2**63}, "priority"),
        ({"branch": "a", "server": "production"}, "server"),
        ({"branch": "a", "surprise": 1}, "surprise"),
    ],
)
async def test_an_invalid_build_is_refused(
    boxless_service: RunningService, body: dict[str, object], field: str
) -> None:
    await boxless_service.project("web")
    assert await refused(boxless_service, "/projects/web/builds", body) == (422, field)
    assert (await boxless_service.get("/workloads"))["workloads"] == []


@pytest.mark.parametrize(
    "name", ["x" * 255, "日本語 ☂ 𝄞", "feature/<b>'\"", "a b", "$(id)", "ß'; --"]
)
async def test_unusual_names_are_accepted(boxless_service: RunningService, name: str) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build(branch=name, jobs=[job(name)])
    seen = await boxless_service.look(made["id"])
    assert (seen["branch"], seen["jobs"][0]["name"]) == (name, name)


async def test_a_build_may_have_a_thousand_jobs(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build(jobs=jobs(1000))
    assert made["boxes"] == 1000
    assert made["jobs"][-1]["id"] == f"{made['id']}-1000"
    assert len((await boxless_service.look(made["id"]))["jobs"]) == 1000


async def test_more_jobs_than_the_plan_or_the_project_ever_allows_are_refused(tmp_path) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, max_boxes=3) as service:
        await service.project("web", jobs=jobs(4), servers={"s": {"jobs": jobs(4)}})
        await service.project("small", jobs=jobs(3), max_boxes=2)
        assert await refused(service, "/projects/web/builds", {"branch": "x"}) == (422, "jobs")
        assert await refused(service, "/projects/web/deploys", {"server": "s"}) == (422, "jobs")
        assert await refused(service, "/projects/small/builds", {"branch": "x"}) == (422, "jobs")
        own = {"branch": "x", "jobs": jobs(2)}
        assert (await service.build("small", **own))["boxes"] == 2


async def test_a_build_without_jobs_is_refused(boxless_service: RunningService) -> None:
    await boxless_service.project("web", jobs=[], servers={"s": {}})
    assert await refused(boxless_service, "/projects/web/builds", {"branch": "x"}) == (422, "jobs")
    assert await refused(boxless_service, "/projects/web/deploys", {"server": "s"}) == (422, "jobs")
    assert (await boxless_service.deploy("s", jobs=[job()]))["boxes"] == 1


async def test_concurrent_submissions_get_numbers_without_a_gap(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    made = await asyncio.gather(*(boxless_service.build(branch=f"b{n}") for n in range(60)))
    assert sorted(one["number"] for one in made) == list(range(1, 61))


# --- SSH sessions ---------------------------------------------------------------------------


async def test_a_session_is_created(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    asked = {"branch": "main", "public_key": PUBLIC_KEY + " ada@home", "box_type": "mac"}
    answer = await boxless_service.call("POST", f"{API}/projects/web/ssh-sessions", asked)
    made = answer.json
    assert answer.status == 201
    assert (made["kind"], made["branch"], made["ssh"]) == ("ssh", "main", None)
    assert [(one["name"], one["box_type"]) for one in made["jobs"]] == [("ssh", "mac")]
    # no lane, so it waits for nothing
    seen = await boxless_service.until(made["id"], state="queued")
    assert seen["ssh"] is None


async def test_a_session_may_enter_a_finished_build(service: RunningService) -> None:
    await service.project("web")
    build = await service.build(branch="x", commit="abcdef0")
    await service.finished(build["id"])
    answer = await service.call(
        "POST",
        f"{API}/projects/web/ssh-sessions",
        {"build": build["id"], "public_key": PUBLIC_KEY},
    )
    made = answer.json
    assert (made["branch"], made["commit"], made["build"]) == ("x", "abcdef0", build["id"])


async def test_invalid_sessions_are_refused(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    build = (await boxless_service.build())["id"]
    blob = base64.b64encode(KEY_BLOB).decode()
    for body, expected in (
        ({"branch": "x"}, (422, "public_key")),
        ({"branch": "x", "public_key": ""}, (422, "public_key")),
        ({"branch": "x", "public_key": "x"}, (422, "public_key")),
        ({"branch": "x", "public_key": "ssh-ed25519 AAAA"}, (422, "public_key")),
        ({"branch": "x", "public_key": "ssh-rsa " + blob}, (422, "public_key")),
        ({"branch": "x", "public_key": 'command="x" ' + PUBLIC_KEY}, (422, "public_key")),
        ({"branch": "x", "public_key": PUBLIC_KEY + "\n" + PUBLIC_KEY}, (422, "public_key")),
        ({"branch": "x", "build": build, "public_key": PUBLIC_KEY}, (422, "build")),
        ({"build": build, "public_key": PUBLIC_KEY}, (422, "build")),
        ({"build": "w99", "public_key": PUBLIC_KEY}, (404, "build")),
        ({"branch": "x", "public_key": PUBLIC_KEY, "box_type": ""}, (422, "box_type")),
    ):
        assert await refused(boxless_service, "/projects/web/ssh-sessions", body) == expected, body


async def test_only_a_finished_build_or_deploy_of_the_project_can_be_entered(
    service: RunningService,
) -> None:
    await service.project("web")
    await service.project("other")
    build = await service.build()
    await service.finished(build["id"])
    sessions, asked = f"{API}/projects/web/ssh-sessions", {"public_key": PUBLIC_KEY}
    session = (await service.call("POST", sessions, {**asked, "build": build["id"]})).json
    await stop(service, session["id"])
    await service.finished(session["id"])
    for project, source in (("web", session), ("other", build)):
        body = {**asked, "build": source["id"]}
        found = await refused(service, f"/projects/{project}/ssh-sessions", body)
        assert found == (422, "build"), project


# --- Rebuilds -------------------------------------------------------------------------------


async def test_a_rebuild_repeats_the_workload_and_cancels_nothing(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web", cancellation=[["*", "queued"]])
    first = await boxless_service.build(
        commit="abcdef0",
        message="m [fast failing]",
        jobs=[job("a", environment={"A": "1"}, show_commands=False)],
        priority=7,
    )
    answer = await boxless_service.call("POST", f"{API}/workloads/{first['id']}/rebuild")
    made = answer.json
    assert answer.status == 201
    assert (made["number"], made["rebuild_of"]) == (2, first["id"])
    for name in ("branch", "commit", "message", "priority", "kind", "boxes"):
        assert made[name] == first[name]
    assert (await boxless_service.until(first["id"], state="queued"))["result"] is None
    stored = await boxless_service.node.store.workload(int(made["id"][1:]))
    assert stored is not None
    assert stored.fail_fast
    assert stored.cancellation is Cancellation.NONE
    assert stored.jobs[0].environment == {"A": "1"}
    assert stored.jobs[0].commands == ("true",)
    assert not stored.jobs[0].show_commands


async def test_deploys_and_sessions_can_be_rebuilt(service: RunningService) -> None:
    await service.project("web", servers={"s": {"jobs": [job()]}})
    deploy = await service.deploy("s")
    again = await service.call("POST", f"{API}/workloads/{deploy['id']}/rebuild", {})
    assert (again.status, again.json["server"], again.json["number"]) == (201, "s", 2)
    build = await service.build()
    await service.finished(build["id"])
    of_build = await service.deploy("s", build=build["id"])
    again = await service.call("POST", f"{API}/workloads/{of_build['id']}/rebuild", {})
    assert again.json["build"] == build["id"]


async def test_rebuilds_of_unknown_workloads_are_refused(service: RunningService) -> None:
    await service.project("web")
    build = await service.build()
    await service.finished(build["id"])
    for id_ in ("w99", "w0", "99", "w-1", "w1%00", "%ff", "..."):
        assert (await service.call("POST", f"{API}/workloads/{id_}/rebuild")).status == 404, id_
    body = await service.call("POST", f"{API}/workloads/{build['id']}/rebuild", {"branch": "x"})
    assert (body.status, body.error["field"]) == (422, "branch")
    await service.call("DELETE", f"{API}/projects/web")
    assert (await service.call("POST", f"{API}/workloads/{build['id']}/rebuild")).status == 409
