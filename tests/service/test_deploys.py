"""Deploys: which code goes to which server, in which lane."""

import subprocess
from pathlib import Path

from tests.service.running_service import API, RunningService, job, refused


async def test_a_passed_build_is_deployed(service: RunningService) -> None:
    await service.project("web", servers={"production": {"jobs": [job("roll out")]}})
    build = await service.build(commit="abcdef0", message="Better", author="Ada")
    await service.finished(build["id"])
    made = await service.deploy("production", build=build["id"])
    assert (made["kind"], made["server"], made["branch"]) == ("deploy", "production", "main")
    assert (made["commit"], made["message"]) == ("abcdef0", "Better")
    assert (made["build"], made["author"]) == (build["id"], "Ada")
    assert [one["name"] for one in made["jobs"]] == ["roll out"]
    assert (await service.finished(made["id"]))["result"] == "passed"


async def test_a_deploy_may_bring_its_own_commit_message_and_author(
    service: RunningService,
) -> None:
    await service.project("web", servers={"s": {"jobs": [job()]}})
    build = await service.build(commit="abcdef0", message="Better", author="Ada")
    await service.finished(build["id"])
    own = {"commit": "1234567", "message": "Again", "author": "Grace"}
    made = await service.deploy("s", build=build["id"], **own)
    assert {name: made[name] for name in own} == own
    assert made["build"] == build["id"]


async def test_only_a_passed_build_of_the_project_can_be_deployed(
    executing_service: RunningService,
) -> None:
    servers = {"s": {"jobs": [job("roll out", "true")]}}
    for project in ("web", "other"):
        await executing_service.project(project, servers=servers)
    failed = await executing_service.build(branch="a", jobs=[job("test", "false")])
    passed = await executing_service.build(branch="b", jobs=[job("test", "true")])
    assert (await executing_service.finished(failed["id"]))["result"] == "failed"
    assert (await executing_service.finished(passed["id"]))["result"] == "passed"
    deploy = await executing_service.deploy("s", build=passed["id"])
    assert (await executing_service.finished(deploy["id"]))["result"] == "passed"
    for project, source in (("web", failed), ("web", deploy), ("other", passed)):
        body = {"server": "s", "build": source["id"]}
        found = await refused(executing_service, f"/projects/{project}/deploys", body)
        assert found == (422, "build"), (project, source["kind"])


async def test_a_deploy_has_the_branch_or_tag_of_its_build(service: RunningService) -> None:
    servers = {"s": {"jobs": [job()], "branch": "release"}}
    await service.project("web", servers=servers, default_branch="trunk")
    for asked in ({"branch": "x", "tag": None}, {"branch": None, "tag": "v1"}):
        build = await service.build(**{name: ref for name, ref in asked.items() if ref})
        await service.finished(build["id"])
        made = await service.deploy("s", build=build["id"])
        assert {name: made[name] for name in asked} == asked
        assert (await service.finished(made["id"]))["branch"] == asked["branch"]
        again = await service.call("POST", f"{API}/workloads/{made['id']}/rebuild")
        assert {name: again.json[name] for name in asked} == asked


async def test_a_deploy_without_a_build_uses_the_branch_of_the_server_or_the_default_branch(
    boxless_service: RunningService,
) -> None:
    servers = {"own": {"jobs": [job()], "branch": "release"}, "plain": {"jobs": [job()]}}
    await boxless_service.project("web", servers=servers)
    assert (await boxless_service.deploy("own"))["branch"] == "release"
    assert (await boxless_service.deploy("plain"))["branch"] is None
    await boxless_service.project("web", servers=servers, default_branch="trunk")
    assert (await boxless_service.deploy("own"))["branch"] == "release"
    made = await boxless_service.deploy("plain", commit="abcdef0")
    assert (made["branch"], made["tag"], made["commit"]) == ("trunk", None, "abcdef0")


async def test_a_deploy_waits_for_its_server_whatever_its_branch(
    boxless_service: RunningService,
) -> None:
    servers = {"s": {"jobs": [job()], "branch": "main"}}
    await boxless_service.project("web", servers=servers, cancellation=[["*", "all"]])
    build, first = await boxless_service.build(branch="main"), await boxless_service.deploy("s")
    await boxless_service.project("web", servers={"s": {"jobs": [job()], "branch": "other"}})
    second = await boxless_service.deploy("s")
    assert first["priority"] == second["priority"] == 80
    for one in (build, first):  # neither waits for the other, and no build cancels a deploy
        await boxless_service.until(one["id"], state="queued")
    said = await boxless_service.get(f"/workloads/{second['id']}/explanation")
    assert [one["id"] for one in said["blocked_by"]] == [first["id"]]
    newer = await boxless_service.build(branch="main")
    assert (await boxless_service.until(newer["id"], state="registered"))["result"] is None
    assert (await boxless_service.look(first["id"]))["state"] == "queued"


async def log_of(service: RunningService, job_id: str) -> str:
    return (await service.call("GET", f"{API}/jobs/{job_id}/log")).body.decode()


async def test_a_deploy_of_a_build_without_a_commit_ships_no_other_code(
    executing_service: RunningService, tmp_path: Path
) -> None:
    """The build ran without a repository; the branch's newest commit was not built."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", *identity, "-C", str(tmp_path), *arguments], check=True)

    servers = {"s": {"jobs": [job("ship", "ls -A")]}}
    await executing_service.project("web", servers=servers)
    build = await executing_service.build(message="Better")
    silent = await executing_service.build()
    for one in (build, silent):
        await executing_service.finished(one["id"])
    git("init", "-q", "-b", "main")
    (tmp_path / "which").write_text("never built")
    git("add", "which")
    git("commit", "-q", "-m", "new")
    await executing_service.project("web", servers=servers, repository=tmp_path.as_uri())
    note = "build #{} has no commit: it ran without a repository, like this deploy"
    made = await executing_service.deploy("s", build=build["id"])
    assert made["message"] == f"Better ({note.format(build['number'])})"
    again = await executing_service.call("POST", f"{API}/workloads/{made['id']}/rebuild")
    of_silent = await executing_service.deploy("s", build=silent["id"])
    assert of_silent["message"] == note.format(silent["number"])
    for one in (made, again.json, of_silent):
        ended = await executing_service.finished(one["id"])
        assert (ended["result"], ended["commit"]) == ("passed", None)
        assert "which" not in await log_of(executing_service, ended["jobs"][0]["id"])
    head = (tmp_path / ".git/refs/heads/main").read_text().strip()
    named = await executing_service.deploy("s", build=build["id"], commit=head)
    assert named["message"] == "Better"
    ended = await executing_service.finished(named["id"])
    assert (ended["commit"], ended["result"]) == (head, "passed")
    assert "which" in await log_of(executing_service, ended["jobs"][0]["id"])


async def test_a_deploy_ships_the_code_of_its_branch(
    executing_service: RunningService, tmp_path: Path
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "main", "code")
    for branch in ("main", "release"):
        if branch != "main":
            git("-C", "code", "checkout", "-q", "-b", branch)
        (tmp_path / "code" / "which").write_text(branch)
        git("-C", "code", "add", "which")
        git("-C", "code", "commit", "-q", "-m", branch)
    git("-C", "code", "checkout", "-q", "main")
    show = [job("show", "cat which")]
    servers = {"s": {"jobs": show}, "own": {"jobs": show, "branch": "release"}}
    repository = (tmp_path / "code").as_uri()
    await executing_service.project("web", repository=repository, jobs=show, servers=servers)
    build = await executing_service.build(branch="release")
    await executing_service.finished(build["id"])
    for made in (
        await executing_service.deploy("s", build=build["id"]),
        await executing_service.deploy("own"),
    ):
        assert (await executing_service.finished(made["id"]))["result"] == "passed"
        log = await executing_service.call("GET", f"{API}/jobs/{made['id']}-1/log")
        assert log.body.decode().endswith("release")


async def test_builds_that_cannot_be_deployed_are_refused(boxless_service: RunningService) -> None:
    await boxless_service.project("web", servers={"s": {"jobs": [job()]}})
    await boxless_service.project("other", servers={"s": {"jobs": [job()]}})
    unfinished = (await boxless_service.build())["id"]
    deploys = "/projects/web/deploys"
    for body, expected in (
        ({}, (422, "server")),
        ({"server": "nowhere"}, (422, "server")),
        ({"server": "nowhere", "jobs": [job()]}, (422, "server")),
        ({"server": "s\n"}, (422, "server")),
        ({"server": "s", "branch": "main"}, (422, "branch")),
        ({"server": "s", "build": unfinished}, (422, "build")),
        ({"server": "s", "build": "w999"}, (404, "build")),
        ({"server": "s", "build": "no id"}, (404, "build")),
        ({"server": "s", "build": 1}, (422, "build")),
    ):
        assert await refused(boxless_service, deploys, body) == expected, body
    assert await refused(
        boxless_service, "/projects/other/deploys", {"server": "s", "build": unfinished}
    ) == (422, "build")


async def test_a_failed_build_is_not_deployed(executing_service: RunningService) -> None:
    await executing_service.project("web", servers={"s": {"jobs": [job()]}})
    failed = (await executing_service.build(jobs=[job("unit", "exit 3")]))["id"]
    assert (await executing_service.finished(failed))["result"] == "failed"
    body = {"server": "s", "build": failed}
    assert await refused(executing_service, "/projects/web/deploys", body) == (422, "build")
    passed = (await executing_service.build(jobs=[job()]))["id"]
    assert (await executing_service.finished(passed))["result"] == "passed"
    assert (await executing_service.deploy("s", build=passed))["build"] == passed
