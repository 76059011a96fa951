"""Automatic deploys, rollbacks, guarded servers, and what is live on each server."""

import asyncio
import json
import re
from typing import Any

import attrs
import pytest

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation.deploys import BY, TRIES, AutomaticDeploys
from boxsched.errors import BoxschedError
from boxsched.model import WorkloadId
from boxsched.protocol.batches import DeployDue
from boxsched.store.records import NewWorkload, ProjectChanged
from tests.service.running_service import API, RunningService, job
from tests.service.test_set_aside import boxsched


def server(**settings: Any) -> dict[str, Any]:
    return {"jobs": [job("go")], "strategy": "automatic", "branch": "main", **settings}


async def project(service: RunningService, **settings: Any) -> None:
    settings.setdefault("servers", {"production": server()})
    assert (await service.project(**settings)).status in (200, 201)


async def passed(service: RunningService, **asked: Any) -> Any:
    made = await service.build(**asked)
    return await service.until(made["id"], result="passed")


async def deploys(service: RunningService, count: int, **wanted: Any) -> list[dict[str, Any]]:
    """Return the deploys, oldest first, once there are this many with these values."""
    found: list[dict[str, Any]] = []

    def all_so() -> bool:
        return len(found) == count and all(
            one[name] == value for one in found for name, value in wanted.items()
        )

    async with asyncio.timeout(30), service.node.feed.subscribe(None) as events:
        while True:
            found = (await service.get("/workloads?kind=deploy"))["workloads"][::-1]
            if all_so():
                return found
            async for _ in events:
                break


async def the_server(service: RunningService, name: str = "production") -> Any:
    listed = (await service.get("/projects/web/servers"))["servers"]
    return next(one for one in listed if one["name"] == name)


async def test_a_passed_build_of_the_followed_branch_is_deployed(service: RunningService) -> None:
    await project(service)
    build = await passed(service, message="fix")
    await passed(service, branch="other")
    (deploy,) = await deploys(service, 1, result="passed")
    assert (deploy["build"], deploy["automatic"], deploy["rollback"]) == (build["id"], True, False)
    assert (deploy["message"], deploy["server"]) == ("fix", "production")
    shown = await the_server(service)
    assert (shown["live"]["id"], shown["last"]["id"]) == (deploy["id"], deploy["id"])
    assert shown["build_number"] == build["number"]
    assert (shown["strategy"], shown["waiting"], shown["paused"]) == ("automatic", [], None)


async def test_a_server_says_why_no_automatic_deploy_can_be_made(service: RunningService) -> None:
    wide = [job("go", parallelism=2), job("check")]
    for strategy, limit, problem in (
        ("automatic", 3, None),
        ("automatic", 2, "it needs 3 Boxes; its project may use 2"),
        ("manual", 2, None),
    ):
        servers = {"production": server(jobs=wide, strategy=strategy)}
        await project(service, servers=servers, max_boxes=limit)
        assert (await the_server(service))["problem"] == problem


async def test_a_failed_build_is_not_deployed(boxless_service: RunningService) -> None:
    await project(boxless_service)
    made = await boxless_service.build()
    assert (await boxless_service.call("POST", f"{API}/workloads/{made['id']}/stop")).status == 202
    await boxless_service.finished(made["id"])
    assert await boxless_service.node.store.deploys_due(10) == []


async def test_a_server_without_a_branch_follows_the_default_branch(
    service: RunningService,
) -> None:
    await project(service, default_branch="trunk", servers={"p": server(branch=None)})
    await passed(service, branch="main")
    build = await passed(service, branch="trunk")
    (deploy,) = await deploys(service, 1, result="passed")
    assert deploy["build"] == build["id"]


async def test_an_older_build_is_not_deployed_automatically_over_a_newer_one(
    service: RunningService,
) -> None:
    """Both are due, as after a node died; the newer one is deployed first."""
    await project(service, servers={"production": server(strategy="manual")})
    older, newer = await passed(service), await passed(service)
    await service.deploy("production", build=newer["id"])
    await deploys(service, 1, result="passed")
    await project(service)
    chore = AutomaticDeploys(service.node, KnownProjects(service.node.store))
    due = DeployDue(int(older["id"][1:]), "production")  # type: ignore[arg-type]
    await chore._deploy(due)
    assert len((await service.get("/workloads?kind=deploy"))["workloads"]) == 1


async def test_a_rebuild_of_an_older_build_is_not_deployed_over_a_newer_one(
    service: RunningService,
) -> None:
    await project(service)
    older, newer = await passed(service), await passed(service)
    await deploys(service, 2, result="passed")
    again = (await service.call("POST", f"{API}/workloads/{older['id']}/rebuild")).json
    await service.until(again["id"], result="passed")
    latest = await passed(service)
    made = await deploys(service, 3, result="passed")
    assert [one["build"] for one in made] == [older["id"], newer["id"], latest["id"]]
    back = await service.deploy("production", build=again["id"])
    assert back["rollback"] is True, "a person may, and is told what it is"


async def test_the_same_due_deploy_twice_makes_one_deploy(service: RunningService) -> None:
    await project(service)
    build = await passed(service)
    await deploys(service, 1, result="passed")
    chore = AutomaticDeploys(service.node, KnownProjects(service.node.store))
    for _ in range(2):
        await chore._deploy(DeployDue(int(build["id"][1:]), "production"))  # type: ignore[arg-type]
    assert len((await service.get("/workloads?kind=deploy"))["workloads"]) == 1
    assert await service.node.store.deploys_due(10) == []


async def test_a_rollback_is_marked_and_holds_automatic_deploys(service: RunningService) -> None:
    await project(service)
    first, _second = await passed(service), await passed(service)
    await deploys(service, 2, result="passed")
    back = await service.deploy("production", build=first["id"])
    assert back["rollback"] is True, "the first answer says so"
    assert (await service.finished(back["id"]))["rollback"] is True
    (pause,) = (await service.get("/pauses"))["pauses"]
    assert (pause["name"], pause["server"], pause["automatic"], pause["by"]) == (
        "rollback-production", "production", True, "admin",
    )  # fmt: skip
    assert pause["note"] == f"deploy #{back['number']} went back to an older build"
    shown = await the_server(service)
    assert (shown["live"]["id"], shown["paused"]["name"]) == (back["id"], "rollback-production")
    third = await passed(service)
    held = (await deploys(service, 4))[-1]
    assert (held["build"], held["automatic"]) == (third["id"], True)
    held = await service.until(held["id"], state="queued")
    assert [one["id"] for one in (await the_server(service))["waiting"]] == [held["id"]]
    assert (await service.call("DELETE", f"{API}/pauses/rollback-production")).status == 204
    assert (await service.finished(held["id"]))["result"] == "passed"


async def test_a_rollback_that_waits_for_a_held_deploy_says_what_to_do(
    boxless_service: RunningService,
) -> None:
    """The lane stays in order: the deploys ahead are held, and a person decides."""
    service = boxless_service
    await project(service)
    held = await service.deploy("production")
    said = {"project": "web", "server": "production", "note": "broken"}
    await service.call("PUT", f"{API}/pauses/rollback-production", said)
    behind = await service.deploy("production")
    async with asyncio.timeout(30), service.node.feed.subscribe(None) as events:
        while True:
            found = await service.get(f"/workloads/{behind['id']}/explanation")
            if "paused" in found["text"]:
                break
            async for _ in events:
                break
    assert found["reason"] == "waits_for_lane"
    assert found["text"] == (
        f"Waits for deploy #{held['number']} of web, which is paused (rollback-production): "
        f"resume it, or stop #{held['number']}."
    )


async def test_the_command_line_shows_what_is_live(service: RunningService) -> None:
    await project(service)
    first, _ = await passed(service, author="Ann"), await passed(service)
    await deploys(service, 2, result="passed")
    back = await service.deploy("production", build=first["id"])
    await service.finished(back["id"])
    header, row = (await boxsched(service, "servers", "web")).stdout.splitlines()
    assert header.split()[:6] == ["SERVER", "LIVE", "SINCE", "DEPLOYED", "BY", "AUTHOR"]
    assert row.split()[:4] == ["production", "build", "#1", "(rollback)"]
    assert re.search(r" ago +admin +Ann ", row), row
    assert "rollback-production (automatic deploys to production of web): deploy #5" in row


async def test_the_user_who_deployed_is_shown_beside_the_author_of_the_commit(
    service: RunningService,
) -> None:
    await project(service)
    build = await passed(service, author="Ann")
    (alone,) = await deploys(service, 1, result="passed")
    assert (alone["submitted_by"], alone["author"]) == ("automatic", "Ann")
    assert (await service.look(build["id"]))["submitted_by"] == "admin"
    named = await service.call("POST", f"{API}/tokens", {"role": "admin", "name": "Bob"})
    again = await service.call(
        "POST", f"{API}/workloads/{alone['id']}/rebuild", token=named.json["token"]
    )
    assert (again.json["submitted_by"], again.json["author"]) == ("Bob", "Ann")
    await service.finished(again.json["id"])
    live = (await the_server(service))["live"]
    assert (live["id"], live["submitted_by"]) == (again.json["id"], "Bob")


async def test_all_pauses_that_cover_a_server_are_shown(service: RunningService) -> None:
    await project(service, servers={"production": server(), "staging": server()})
    pauses = {
        "all": {},
        "branch": {"project": "web", "branch": "main"},
        "mine": {"project": "web", "server": "production", "automatic": True},
        "web": {"project": "web"},
    }
    for name, covers in pauses.items():
        asked = {"note": f"note of {name}", **covers}
        assert (await service.call("PUT", f"{API}/pauses/{name}", asked)).status == 201
    shown = await the_server(service)
    assert [one["name"] for one in shown["pauses"]] == ["all", "mine", "web"]
    assert shown["paused"] == shown["pauses"][0]
    assert [one["name"] for one in (await the_server(service, "staging"))["pauses"]] == [
        "all",
        "web",
    ]
    said = (await boxsched(service, "servers", "web")).stdout.splitlines()
    assert said[1].endswith(
        "  all (everything): note of all; mine (automatic deploys to production of web): note of "
        "mine; web (web): note of web"
    )
    shown = json.loads((await boxsched(service, "servers", "web", "--json")).stdout)
    assert shown == await service.get("/projects/web/servers")


async def test_servers_of_the_same_name_in_two_projects_roll_back_independently(
    service: RunningService,
) -> None:
    for name in ("web", "app"):
        await service.project(name, servers={"production": server(strategy="manual")})
        builds = []
        for _ in range(2):
            made = await service.build(name)
            builds.append(await service.until(made["id"], result="passed"))
        for build in reversed(builds):
            made = await service.deploy("production", name, build=build["id"])
            await service.until(made["id"], result="passed")
    pauses = (await service.get("/pauses"))["pauses"]
    assert [one["project"] for one in pauses] == ["web", "app"]
    assert pauses[0]["name"] == "rollback-production"


async def test_a_guarded_server_takes_only_commits_of_builds_of_its_branch(
    service: RunningService,
) -> None:
    await project(service, servers={"production": server(strategy="manual")})
    mine, other = await passed(service, commit="abcdef0"), await passed(service, branch="other")
    body = {"server": "production", "build": other["id"]}
    unguarded = await service.deploy(**body)
    guarded = server(strategy="manual", guard=True)
    await project(service, servers={"production": guarded})
    body |= {"build": mine["id"], "commit": "1234567"}
    refused = await service.call("POST", f"{API}/projects/web/deploys", body)
    assert (refused.status, refused.error["field"]) == (422, "commit")
    for commit in ("abcdef0", "abcdef0" + "1" * 33):
        made = await service.deploy(**(body | {"commit": commit}))
        await service.finished(made["id"])
    again = await service.call("POST", f"{API}/workloads/{made['id']}/rebuild")
    assert again.status == 201, "what the server takes, it takes again"
    again = await service.call("POST", f"{API}/workloads/{unguarded['id']}/rebuild")
    assert again.status == 409 and "only builds of main" in again.error["message"]


async def test_a_guarded_server_takes_only_its_branch(service: RunningService) -> None:
    await project(service, servers={"production": server(strategy="manual", guard=True)})
    other, mine = await passed(service, branch="other"), await passed(service)
    path = f"{API}/projects/web/deploys"
    for asked in ({"build": other["id"]}, {}):
        answer = await service.call("POST", path, {"server": "production", **asked})
        assert (answer.status, answer.error["field"]) == (422, "build")
    assert (await service.deploy("production", build=mine["id"]))["build"] == mine["id"]


async def test_only_the_newest_automatic_deploy_waits(service: RunningService) -> None:
    await project(service, servers={"production": server(queue="newest")})
    body = {"note": "x", "project": "web", "server": "production", "automatic": True}
    assert (await service.call("PUT", f"{API}/pauses/hold", body)).status == 201
    for _ in range(3):
        await passed(service)
    found = await deploys(service, 3)
    await service.until(found[1]["id"], result="canceled")
    assert "(queue: newest)" in (await service.look(found[1]["id"]))["reason"]
    assert (await service.call("DELETE", f"{API}/pauses/hold")).status == 204
    assert (await service.finished(found[2]["id"]))["result"] == "passed"


async def noted(service: RunningService, **asked: Any) -> tuple[AutomaticDeploys, DeployDue]:
    """Record a passed build as due on a server that did not follow its branch then."""
    await project(service, servers={"production": server(strategy="manual")})
    build = await passed(service, **asked)
    chore = AutomaticDeploys(service.node, KnownProjects(service.node.store))
    return chore, DeployDue(WorkloadId(int(build["id"][1:])), "production")


async def count(service: RunningService) -> int:
    return len((await service.get("/workloads?kind=deploy"))["workloads"])


@pytest.mark.parametrize(
    ("settings", "deployed"),
    [
        ({"servers": {"production": server()}}, 1),
        ({"servers": {"production": server(branch=None)}}, 1),
        ({"servers": {"production": server(branch=None)}, "default_branch": "main"}, 1),
        ({"servers": {"production": server(branch=None)}, "default_branch": "trunk"}, 0),
        ({"servers": {"production": server(branch="release")}}, 0),
        ({"servers": {"production": server(strategy="manual")}}, 0),
        ({"servers": {"staging": server()}}, 0),
    ],
)
async def test_a_due_deploy_counts_only_while_the_server_follows_the_branch(
    service: RunningService, settings: dict[str, Any], deployed: int
) -> None:
    chore, due = await noted(service)
    await project(service, **settings)
    await chore._deploy(due)
    assert await count(service) == deployed


async def test_builds_of_tags_and_missing_builds_are_not_deployed_automatically(
    service: RunningService,
) -> None:
    chore, due = await noted(service, tag="v1")
    await project(service)
    await chore._deploy(due)
    await chore._deploy(DeployDue(WorkloadId(99), "production"))
    assert await count(service) == 0


async def test_a_build_of_a_recreated_project_is_not_deployed(
    service: RunningService,
) -> None:
    chore, due = await noted(service)
    assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
    await chore._deploy(due)
    await project(service)
    await chore._deploy(due)
    assert await count(service) == 0


async def test_a_deploy_that_cannot_be_submitted_is_skipped(service: RunningService) -> None:
    chore, due = await noted(service)
    many = server(jobs=[job("a"), job("b"), job("c")])
    await project(service, servers={"production": many}, max_boxes=2, jobs=[job()])
    await chore._deploy(due)
    assert await count(service) == 0


async def test_settings_that_change_meanwhile_are_read_again_a_limited_number_of_times(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    chore, due = await noted(service)
    await project(service)
    asked: list[NewWorkload] = []

    async def changed(new: NewWorkload) -> ProjectChanged:
        asked.append(new)
        return ProjectChanged()

    with monkeypatch.context() as patch:
        patch.setattr(service.node, "submit", changed)
        with pytest.raises(BoxschedError, match="keep changing"):
            await chore._deploy(due)
    assert len(asked) == TRIES
    assert {(one.automatic, one.submitted_by) for one in asked} == {(True, BY)}
    await chore._deploy(due)
    assert await count(service) == 1


async def test_due_deploys_are_read_in_parts(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.automation.deploys.AT_ONCE", 2)
    chore, due = await noted(service)
    notes = [attrs.evolve(due, server=name) for name in "abc"]
    dropped: list[DeployDue] = []

    async def found(limit: int) -> list[DeployDue]:
        return [one for one in notes if one not in dropped][:limit]

    async def drop(one: DeployDue) -> None:
        dropped.append(one)

    monkeypatch.setattr(service.node.store, "deploys_due", found)
    monkeypatch.setattr(service.node.store, "drop_due", drop)
    assert [await chore.run_once() for _ in range(3)] == [True, False, False]
    assert dropped == notes
