"""Builds, deploys, SSH sessions, rebuilds: what is decided at submission, and what is refused."""

import asyncio
import base64

import pytest

from boxsched.model import Cancellation
from tests.service.house import API, KEY_BLOB, PUBLIC_KEY, House, job, jobs, refused, stop

WORKLOAD_FIELDS = {
    "id", "project", "number", "kind", "branch", "tag", "server", "commit", "message", "author",
    "state", "result", "priority", "created_at", "queued_at", "started_at", "finished_at", "jobs",
}  # fmt: skip
JOB_FIELDS = {
    "id", "name", "state", "result", "box", "attempt", "started_at", "finished_at", "exit_status",
}  # fmt: skip


async def test_a_build_is_answered_as_it_was_registered(house: House) -> None:
    await house.project("web", jobs=jobs(2))
    asked = {"branch": "main", "commit": "abcdef0", "message": "Mend\nit", "author": "Ada"}
    answer = await house.call("POST", f"{API}/projects/web/builds", asked)
    made = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"{API}/workloads/{made['id']}"
    assert made.keys() >= WORKLOAD_FIELDS
    assert {name: made[name] for name in asked} == asked
    assert (made["state"], made["kind"], made["number"]) == ("registered", "build", 1)
    assert made["jobs"][0].keys() >= JOB_FIELDS
    assert [one["state"] for one in made["jobs"]] == ["waiting", "waiting"]
    assert [one["id"] for one in made["jobs"]] == [f"{made['id']}-1", f"{made['id']}-2"]
    done = await house.finished(made["id"])
    assert done["result"] == "passed"


async def test_a_tag_and_jobs_of_its_own(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build(tag="v1", jobs=[job("only", "true", box_type="mac")], priority=3)
    assert (made["tag"], made["branch"], made["priority"]) == ("v1", None, 3)
    assert [(one["name"], one["box_type"]) for one in made["jobs"]] == [("only", "mac")]


async def test_priorities(waiting: House) -> None:
    await waiting.project(
        "web", priority_branches=["release/*"], servers={"production": {"jobs": [job()]}}
    )
    session = await waiting.call(
        "POST", f"{API}/projects/web/ssh-sessions", {"branch": "main", "public_key": PUBLIC_KEY}
    )
    assert session.json["priority"] == 80
    assert (await waiting.deploy("production"))["priority"] == 80
    assert (await waiting.build(branch="release/1/x"))["priority"] == 70
    assert (await waiting.build(branch="Release/1"))["priority"] == 50
    assert (await waiting.build(branch="release/1", priority=0))["priority"] == 0


async def test_the_message_overrides_fail_fast(waiting: House) -> None:
    await waiting.project("web", fail_fast=["main"], servers={"s": {"jobs": [job()]}})
    stored = []
    for asked in (
        {"branch": "main"},
        {"branch": "x"},
        {"branch": "main", "message": "x [fast failing skip]"},
        {"branch": "x", "message": "[fast failing] y"},
        {"server": "s", "message": "z"},
        {"server": "s", "message": "[fast failing] z"},
    ):
        made = await (waiting.deploy if "server" in asked else waiting.build)(**asked)
        workload = await waiting.node.store.workload(int(made["id"][1:]))
        assert workload is not None
        stored.append(workload.fail_fast)
    assert stored == [True, False, False, True, False, True]


async def test_a_strategy_cancels_what_waits(waiting: House) -> None:
    await waiting.project("web", cancellation=[["main", "none"], ["*", "queued"]])
    first, kept = await waiting.build(branch="x"), await waiting.build(branch="main")
    await waiting.build(branch="x")
    await waiting.build(branch="main")
    gone = await waiting.finished(first["id"])
    assert gone["result"] == "canceled"
    assert (await waiting.look(kept["id"]))["state"] == "queued"


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
async def test_a_build_that_makes_no_sense(
    waiting: House, body: dict[str, object], field: str
) -> None:
    await waiting.project("web")
    assert await refused(waiting, "/projects/web/builds", body) == (422, field)
    assert (await waiting.get("/workloads"))["workloads"] == []


@pytest.mark.parametrize(
    "name", ["x" * 255, "日本語 ☂ 𝄞", "feature/<b>'\"", "a b", "$(id)", "ß'; --"]
)
async def test_odd_names_are_names(waiting: House, name: str) -> None:
    await waiting.project("web")
    made = await waiting.build(branch=name, jobs=[job(name)])
    seen = await waiting.look(made["id"])
    assert (seen["branch"], seen["jobs"][0]["name"]) == (name, name)


async def test_a_thousand_jobs(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build(jobs=jobs(1000))
    assert made["boxes"] == 1000
    assert made["jobs"][-1]["id"] == f"{made['id']}-1000"
    assert len((await waiting.look(made["id"]))["jobs"]) == 1000


async def test_more_than_the_plan_or_the_project_may_ever_have(tmp_path) -> None:
    async with House.open(tmp_path / "data", boxes=0, max_boxes=3) as house:
        await house.project("web", jobs=jobs(4), servers={"s": {"jobs": jobs(4)}})
        await house.project("small", jobs=jobs(3), max_boxes=2)
        assert await refused(house, "/projects/web/builds", {"branch": "x"}) == (422, "jobs")
        assert await refused(house, "/projects/web/deploys", {"server": "s"}) == (422, "jobs")
        assert await refused(house, "/projects/small/builds", {"branch": "x"}) == (422, "jobs")
        own = {"branch": "x", "jobs": jobs(2)}
        assert (await house.build("small", **own))["boxes"] == 2


async def test_no_jobs_anywhere(waiting: House) -> None:
    await waiting.project("web", jobs=[], servers={"s": {}})
    assert await refused(waiting, "/projects/web/builds", {"branch": "x"}) == (422, "jobs")
    assert await refused(waiting, "/projects/web/deploys", {"server": "s"}) == (422, "jobs")
    assert (await waiting.deploy("s", jobs=[job()]))["boxes"] == 1


async def test_many_at_once_get_numbers_without_a_gap(waiting: House) -> None:
    await waiting.project("web")
    made = await asyncio.gather(*(waiting.build(branch=f"b{n}") for n in range(60)))
    assert sorted(one["number"] for one in made) == list(range(1, 61))


# --- SSH sessions ---------------------------------------------------------------------------


async def test_a_session(waiting: House) -> None:
    await waiting.project("web")
    asked = {"branch": "main", "public_key": PUBLIC_KEY + " ada@home", "box_type": "mac"}
    answer = await waiting.call("POST", f"{API}/projects/web/ssh-sessions", asked)
    made = answer.json
    assert answer.status == 201
    assert (made["kind"], made["branch"], made["ssh"]) == ("ssh", "main", None)
    assert [(one["name"], one["box_type"]) for one in made["jobs"]] == [("ssh", "mac")]
    seen = await waiting.until(made["id"], state="queued")  # no lane: it waits for nobody
    assert seen["ssh"] is None


async def test_a_session_of_a_finished_build(house: House) -> None:
    await house.project("web")
    build = await house.build(branch="x", commit="abcdef0")
    await house.finished(build["id"])
    answer = await house.call(
        "POST",
        f"{API}/projects/web/ssh-sessions",
        {"build": build["id"], "public_key": PUBLIC_KEY},
    )
    made = answer.json
    assert (made["branch"], made["commit"], made["build"]) == ("x", "abcdef0", build["id"])


async def test_sessions_that_make_no_sense(waiting: House) -> None:
    await waiting.project("web")
    build = (await waiting.build())["id"]
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
        assert await refused(waiting, "/projects/web/ssh-sessions", body) == expected, body


async def test_only_a_finished_build_or_deploy_of_the_project_can_be_entered(
    house: House,
) -> None:
    await house.project("web")
    await house.project("other")
    build = await house.build()
    await house.finished(build["id"])
    sessions, asked = f"{API}/projects/web/ssh-sessions", {"public_key": PUBLIC_KEY}
    session = (await house.call("POST", sessions, {**asked, "build": build["id"]})).json
    await stop(house, session["id"])
    await house.finished(session["id"])
    for project, source in (("web", session), ("other", build)):
        body = {**asked, "build": source["id"]}
        found = await refused(house, f"/projects/{project}/ssh-sessions", body)
        assert found == (422, "build"), project


# --- Rebuilds -------------------------------------------------------------------------------


async def test_a_rebuild_is_the_same_again_and_cancels_nothing(waiting: House) -> None:
    await waiting.project("web", cancellation=[["*", "queued"]])
    first = await waiting.build(
        commit="abcdef0",
        message="m [fast failing]",
        jobs=[job("a", environment={"A": "1"}, show_commands=False)],
        priority=7,
    )
    answer = await waiting.call("POST", f"{API}/workloads/{first['id']}/rebuild")
    made = answer.json
    assert answer.status == 201
    assert (made["number"], made["rebuild_of"]) == (2, first["id"])
    for name in ("branch", "commit", "message", "priority", "kind", "boxes"):
        assert made[name] == first[name]
    assert (await waiting.until(first["id"], state="queued"))["result"] is None
    stored = await waiting.node.store.workload(int(made["id"][1:]))
    assert stored is not None
    assert stored.fail_fast
    assert stored.cancellation is Cancellation.NONE
    assert stored.jobs[0].environment == {"A": "1"}
    assert stored.jobs[0].commands == ("true",)
    assert not stored.jobs[0].show_commands


async def test_rebuilds_of_a_deploy_and_of_a_session(house: House) -> None:
    await house.project("web", servers={"s": {"jobs": [job()]}})
    deploy = await house.deploy("s")
    again = await house.call("POST", f"{API}/workloads/{deploy['id']}/rebuild", {})
    assert (again.status, again.json["server"], again.json["number"]) == (201, "s", 2)
    build = await house.build()
    await house.finished(build["id"])
    of_build = await house.deploy("s", build=build["id"])
    again = await house.call("POST", f"{API}/workloads/{of_build['id']}/rebuild", {})
    assert again.json["build"] == build["id"]


async def test_rebuilds_of_nothing(house: House) -> None:
    await house.project("web")
    build = await house.build()
    await house.finished(build["id"])
    for id_ in ("w99", "w0", "99", "w-1", "w1%00", "%ff", "..."):
        assert (await house.call("POST", f"{API}/workloads/{id_}/rebuild")).status == 404, id_
    body = await house.call("POST", f"{API}/workloads/{build['id']}/rebuild", {"branch": "x"})
    assert (body.status, body.error["field"]) == (422, "branch")
    await house.call("DELETE", f"{API}/projects/web")
    assert (await house.call("POST", f"{API}/workloads/{build['id']}/rebuild")).status == 409
