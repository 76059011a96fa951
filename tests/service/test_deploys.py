"""Deploys: of which code, to which server, in which lane."""

import subprocess
from pathlib import Path

from tests.service.house import API, House, job, refused


async def test_a_deploy_of_a_passed_build(house: House) -> None:
    await house.project("web", servers={"production": {"jobs": [job("roll out")]}})
    build = await house.build(commit="abcdef0", message="Better", author="Ada")
    await house.finished(build["id"])
    made = await house.deploy("production", build=build["id"])
    assert (made["kind"], made["server"], made["branch"]) == ("deploy", "production", "main")
    assert (made["commit"], made["message"]) == ("abcdef0", "Better")
    assert (made["build"], made["author"]) == (build["id"], "Ada")
    assert [one["name"] for one in made["jobs"]] == ["roll out"]
    assert (await house.finished(made["id"]))["result"] == "passed"


async def test_a_deploy_may_bring_its_own_commit_message_and_author(house: House) -> None:
    await house.project("web", servers={"s": {"jobs": [job()]}})
    build = await house.build(commit="abcdef0", message="Better", author="Ada")
    await house.finished(build["id"])
    own = {"commit": "1234567", "message": "Again", "author": "Grace"}
    made = await house.deploy("s", build=build["id"], **own)
    assert {name: made[name] for name in own} == own
    assert made["build"] == build["id"]


async def test_only_a_passed_build_of_the_project_can_be_deployed(running: House) -> None:
    servers = {"s": {"jobs": [job("roll out", "true")]}}
    for project in ("web", "other"):
        await running.project(project, servers=servers)
    failed = await running.build(branch="a", jobs=[job("test", "false")])
    passed = await running.build(branch="b", jobs=[job("test", "true")])
    assert (await running.finished(failed["id"]))["result"] == "failed"
    assert (await running.finished(passed["id"]))["result"] == "passed"
    deploy = await running.deploy("s", build=passed["id"])
    assert (await running.finished(deploy["id"]))["result"] == "passed"
    for project, source in (("web", failed), ("web", deploy), ("other", passed)):
        body = {"server": "s", "build": source["id"]}
        found = await refused(running, f"/projects/{project}/deploys", body)
        assert found == (422, "build"), (project, source["kind"])


async def test_a_deploy_is_of_its_builds_branch_or_tag(house: House) -> None:
    servers = {"s": {"jobs": [job()], "branch": "release"}}
    await house.project("web", servers=servers, default_branch="trunk")
    for asked in ({"branch": "x", "tag": None}, {"branch": None, "tag": "v1"}):
        build = await house.build(**{name: ref for name, ref in asked.items() if ref})
        await house.finished(build["id"])
        made = await house.deploy("s", build=build["id"])
        assert {name: made[name] for name in asked} == asked
        assert (await house.finished(made["id"]))["branch"] == asked["branch"]
        again = await house.call("POST", f"{API}/workloads/{made['id']}/rebuild")
        assert {name: again.json[name] for name in asked} == asked


async def test_a_deploy_without_a_build_is_of_the_servers_or_the_default_branch(
    waiting: House,
) -> None:
    servers = {"own": {"jobs": [job()], "branch": "release"}, "plain": {"jobs": [job()]}}
    await waiting.project("web", servers=servers)
    assert (await waiting.deploy("own"))["branch"] == "release"
    assert (await waiting.deploy("plain"))["branch"] is None
    await waiting.project("web", servers=servers, default_branch="trunk")
    assert (await waiting.deploy("own"))["branch"] == "release"
    made = await waiting.deploy("plain", commit="abcdef0")
    assert (made["branch"], made["tag"], made["commit"]) == ("trunk", None, "abcdef0")


async def test_a_deploy_waits_for_its_server_whatever_its_branch(waiting: House) -> None:
    servers = {"s": {"jobs": [job()], "branch": "main"}}
    await waiting.project("web", servers=servers, cancellation=[["*", "all"]])
    build, first = await waiting.build(branch="main"), await waiting.deploy("s")
    await waiting.project("web", servers={"s": {"jobs": [job()], "branch": "other"}})
    second = await waiting.deploy("s")
    assert first["priority"] == second["priority"] == 80
    for one in (build, first):  # neither waits for the other, and no build cancels a deploy
        await waiting.until(one["id"], state="queued")
    said = await waiting.get(f"/workloads/{second['id']}/explanation")
    assert [one["id"] for one in said["blocked_by"]] == [first["id"]]
    newer = await waiting.build(branch="main")
    assert (await waiting.until(newer["id"], state="registered"))["result"] is None
    assert (await waiting.look(first["id"]))["state"] == "queued"


async def log_of(house: House, job_id: str) -> str:
    return (await house.call("GET", f"{API}/jobs/{job_id}/log")).body.decode()


async def test_a_deploy_of_a_build_without_a_commit_ships_no_other_code(
    running: House, tmp_path: Path
) -> None:
    """The build ran without a repository; the branch's newest commit is not what was built."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", *identity, "-C", str(tmp_path), *arguments], check=True)

    servers = {"s": {"jobs": [job("ship", "ls -A")]}}
    await running.project("web", servers=servers)
    build = await running.build(message="Better")
    silent = await running.build()
    for one in (build, silent):
        await running.finished(one["id"])
    git("init", "-q", "-b", "main")
    (tmp_path / "which").write_text("never built")
    git("add", "which")
    git("commit", "-q", "-m", "new")
    await running.project("web", servers=servers, repository=tmp_path.as_uri())
    note = "build #{} has no commit: it ran without a repository, like this deploy"
    made = await running.deploy("s", build=build["id"])
    assert made["message"] == f"Better ({note.format(build['number'])})"
    again = await running.call("POST", f"{API}/workloads/{made['id']}/rebuild")
    of_silent = await running.deploy("s", build=silent["id"])
    assert of_silent["message"] == note.format(silent["number"])
    for one in (made, again.json, of_silent):
        ended = await running.finished(one["id"])
        assert (ended["result"], ended["commit"]) == ("passed", None)
        assert "which" not in await log_of(running, ended["jobs"][0]["id"])
    head = (tmp_path / ".git/refs/heads/main").read_text().strip()
    named = await running.deploy("s", build=build["id"], commit=head)
    assert named["message"] == "Better"
    ended = await running.finished(named["id"])
    assert (ended["commit"], ended["result"]) == (head, "passed")
    assert "which" in await log_of(running, ended["jobs"][0]["id"])


async def test_a_deploy_ships_the_code_of_its_branch(running: House, tmp_path: Path) -> None:
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
    await running.project("web", repository=repository, jobs=show, servers=servers)
    build = await running.build(branch="release")
    await running.finished(build["id"])
    for made in (await running.deploy("s", build=build["id"]), await running.deploy("own")):
        assert (await running.finished(made["id"]))["result"] == "passed"
        log = await running.call("GET", f"{API}/jobs/{made['id']}-1/log")
        assert log.body.decode().endswith("release")


async def test_builds_that_cannot_be_deployed(waiting: House) -> None:
    await waiting.project("web", servers={"s": {"jobs": [job()]}})
    await waiting.project("other", servers={"s": {"jobs": [job()]}})
    unfinished = (await waiting.build())["id"]
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
        assert await refused(waiting, deploys, body) == expected, body
    assert await refused(
        waiting, "/projects/other/deploys", {"server": "s", "build": unfinished}
    ) == (422, "build")


async def test_a_failed_build_is_not_deployed(running: House) -> None:
    await running.project("web", servers={"s": {"jobs": [job()]}})
    failed = (await running.build(jobs=[job("unit", "exit 3")]))["id"]
    assert (await running.finished(failed))["result"] == "failed"
    body = {"server": "s", "build": failed}
    assert await refused(running, "/projects/web/deploys", body) == (422, "build")
    passed = (await running.build(jobs=[job()]))["id"]
    assert (await running.finished(passed))["result"] == "passed"
    assert (await running.deploy("s", build=passed))["build"] == passed
