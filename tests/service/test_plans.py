"""Builds whose jobs are in a file of their repository."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.job_files import schema
from tests.service.code_hosts import SECRET, change, sent
from tests.service.running_service import API, RunningService, job

FILE = """
jobs:
  - name: unit
    commands: [make test]
    parallelism: 2
  - name: lint
    commands:
      - make lint
    timeout_seconds: 60
"""


class Repository:
    """A repository on disk."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        names = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
        done = subprocess.run(
            ["git", "-C", str(self.place), *arguments],
            check=True, capture_output=True, text=True, timeout=60,
            env={**os.environ, **dict.fromkeys(names, "a@b")},
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, text: str | bytes | None = FILE, path: str = ".boxsched.yml") -> str:
        """Commit with this file, or without one; return the hash."""
        file = self.place / path
        if text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            self.git("add", path)
        elif file.exists():
            self.git("rm", "--quiet", path)
        self.git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service with enough Boxes for all jobs of FILE."""
    async with RunningService.open(tmp_path / "data", boxes=4) as opened:
        yield opened


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


async def project(service: RunningService, repository: Repository, **settings: Any) -> None:
    settings = {"jobs": [], "jobs_from": ".boxsched.yml", **settings}
    answer = await service.project(repository=str(repository.place), **settings)
    assert answer.status in (200, 201), answer.body


async def test_the_jobs_of_the_commit_are_read_and_run(
    service: RunningService, repository: Repository
) -> None:
    commit = repository.commit()
    await project(service, repository)
    made = await service.build()
    assert (made["state"], made["jobs"]) == ("registered", [])
    done = await service.finished(made["id"])
    assert (done["result"], done["commit"], done["boxes"]) == ("passed", commit, 3)
    assert [one["name"] for one in done["jobs"]] == ["unit 1/2", "unit 2/2", "lint"]


async def test_the_file_of_the_requested_commit_is_used(
    service: RunningService, repository: Repository
) -> None:
    first = repository.commit()
    repository.commit(FILE.replace("lint", "format"))
    await project(service, repository)
    for asked in (first, first[:9]):
        done = await service.finished((await service.build(commit=asked))["id"])
        assert (done["commit"], done["jobs"][2]["name"]) == (first, "lint")
    repository.git("tag", "v1", first)
    done = await service.finished((await service.build(tag="v1"))["id"])
    assert (done["commit"], done["jobs"][2]["name"]) == (first, "lint")


async def test_jobs_that_come_with_the_submission_replace_the_file(
    service: RunningService, repository: Repository
) -> None:
    repository.commit(None)
    await project(service, repository)
    done = await service.finished((await service.build(jobs=[job("own")]))["id"])
    assert [one["name"] for one in done["jobs"]] == ["own"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, ".boxsched.yml: there is no file .boxsched.yml at commit "),
        ("", ".boxsched.yml: line 1, column 1: the file is empty"),
        ("jobs: []\n", ".boxsched.yml: line 1, column 7: jobs: must have at least 1"),
        ("jobs:\n  - name: a\n", ".boxsched.yml: line 2, column 5: jobs[0].commands: "),
        (
            "jobs:\n  - name: a\n    commands: [x]\n    timeout_seconds: long\n",
            ".boxsched.yml: line 4, column 22: jobs[0].timeout_seconds: must be a number",
        ),
        ("jobs: [\n", ".boxsched.yml: line 2, column 1: "),
        ("jobs: [{name: a, name: b}]\n", ".boxsched.yml: line 1, column 18: 'name' occurs twice"),
        ("jobs: !!python/object:x {}\n", ".boxsched.yml: line 1, column 7: the tag 'tag:"),
        (b"jobs: \xff\n", ".boxsched.yml: line 1: the file is not UTF-8"),
        ("x" * 300_000, ".boxsched.yml: the file has more than 262144 bytes"),
        ("a: " + "[" * 40 + "]" * 40, ".boxsched.yml: line 1, column 35: nested deeper"),
        (
            "a: &a [1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{b}: &{b} [{','.join(['*' + a] * 8)}]\n"
                for a, b in zip("abcdef", "bcdefg", strict=True)
            ),
            ".boxsched.yml: more than 20000 values",
        ),
    ],
)
async def test_a_missing_or_wrong_file_fails_the_build(
    boxless_service: RunningService, repository: Repository, text: str | bytes | None, reason: str
) -> None:
    commit = repository.commit(text)
    await project(boxless_service, repository)
    failed, behind = await boxless_service.build(), await boxless_service.build(jobs=[job()])
    done = await boxless_service.finished(failed["id"])
    assert (done["result"], done["started_at"], done["queued_at"]) == ("failed", None, None)
    assert done["reason"].startswith(reason), done["reason"]
    assert done["commit"] == commit
    await boxless_service.until(behind["id"], state="queued")


async def test_a_missing_repository_fails_the_build(
    boxless_service: RunningService, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.automation.plans.LAST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("boxsched.automation.plans.FIRST_PAUSE_SECONDS", 0.01)
    repository.commit()
    await project(boxless_service, repository)
    repository.place.rename(repository.place.with_name("elsewhere"))
    done = await boxless_service.finished((await boxless_service.build())["id"])
    assert done["result"] == "failed"
    assert done["reason"].startswith(".boxsched.yml: there is no repository at ")


async def test_a_build_without_a_plan_reports_it_and_is_superseded(
    boxless_service: RunningService, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This node reads no files, as while a repository hangs."""
    monkeypatch.setattr("boxsched.automation.plans.Plans._look", _nothing)
    repository.commit()
    await project(boxless_service, repository, cancellation=[["*", "queued"]])
    first = await boxless_service.build()
    async with boxless_service.node.feed.subscribe(None) as events:
        said = await boxless_service.get(f"/workloads/{first['id']}/explanation")
        while said["reason"] != "planning":
            async for _ in events:
                break
            said = await boxless_service.get(f"/workloads/{first['id']}/explanation")
    assert (said["phase"], said["text"]) == ("ordering", "Its jobs are not known yet.")
    second = await boxless_service.build()
    await boxless_service.until(first["id"], result="canceled")
    assert (
        await boxless_service.call("POST", f"{API}/workloads/{second['id']}/stop")
    ).status == 202
    await boxless_service.until(second["id"], result="canceled")


async def _nothing(_: object) -> None:
    pass


async def test_a_build_that_was_not_planned_is_planned_by_the_next_node(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit()
    with monkeypatch.context() as patch:
        patch.setattr("boxsched.automation.plans.Plans._look", _nothing)
        async with RunningService.open(tmp_path / "data") as service:
            await project(service, repository)
            made = await service.build()
    async with RunningService.open(tmp_path / "data", boxes=4) as service:
        done = await service.finished(made["id"])
        assert (done["result"], done["commit"]) == ("passed", commit)
        again = await service.call("POST", f"{API}/workloads/{made['id']}/rebuild")
        repository.commit(None)  # a rebuild uses the jobs that were read
        rebuilt = await service.finished(again.json["id"])
        assert [one["name"] for one in rebuilt["jobs"]] == [one["name"] for one in done["jobs"]]


async def test_more_jobs_than_are_ever_allowed_fail_the_build(
    boxless_service: RunningService, repository: Repository
) -> None:
    repository.commit()
    await project(boxless_service, repository, max_boxes=2)
    done = await boxless_service.finished((await boxless_service.build())["id"])
    assert done["result"] == "failed"
    assert done["reason"] == "asks for 3 Boxes, more than the plan or its project allows (2)"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a//b", "-x", "a:b", ".", ""])
async def test_invalid_paths_in_a_repository_are_refused(
    boxless_service: RunningService, repository: Repository, path: str
) -> None:
    answer = await boxless_service.project(repository=str(repository.place), jobs_from=path)
    assert (answer.status, answer.error["field"]) == (422, "jobs_from")


async def test_a_jobs_file_needs_a_repository(boxless_service: RunningService) -> None:
    answer = await boxless_service.project(jobs_from=".boxsched.yml")
    assert (answer.status, answer.error["field"]) == (422, "jobs_from")


async def test_a_link_is_not_followed(
    boxless_service: RunningService, repository: Repository
) -> None:
    (repository.place / ".boxsched.yml").symlink_to("/etc/passwd")
    repository.git("add", ".boxsched.yml")
    repository.git("commit", "--quiet", "-m", "a link")
    await project(boxless_service, repository)
    done = await boxless_service.finished((await boxless_service.build())["id"])
    assert "there is no file .boxsched.yml" in done["reason"]


async def test_the_schema_of_the_file_is_served_for_editors(
    boxless_service: RunningService,
) -> None:
    answer = await boxless_service.call("GET", f"{API}/job-file.schema.json")
    assert (answer.status, answer.json) == (200, schema.schema())
    assert (
        await boxless_service.call("GET", f"{API}/job-file.schema.json", token=None)
    ).status == 401


async def test_parallelism_creates_numbered_jobs(executing_service: RunningService) -> None:
    commands = ["echo $BOXSCHED_JOB_INDEX of $BOXSCHED_JOB_COUNT"]
    await executing_service.project(jobs=[job("unit", *commands, parallelism=2)])
    done = await executing_service.finished((await executing_service.build())["id"])
    assert [one["name"] for one in done["jobs"]] == ["unit 1/2", "unit 2/2"]
    log = await executing_service.call("GET", f"{API}/jobs/{done['jobs'][1]['id']}/log")
    assert b"2 of 2" in log.body
    answer = await executing_service.project(jobs=[job("a", parallelism=2), job("a 2/2")])
    assert (answer.status, answer.error["field"]) == (422, "jobs[1].name")


async def test_a_change_of_a_fork_is_built_by_the_file_of_its_target_branch(
    service: RunningService, repository: Repository
) -> None:
    """Anyone who can open a request must not choose which jobs run."""
    repository.commit("jobs: [{name: of main, commands: [make]}]")
    repository.git("checkout", "--quiet", "-b", "stable")
    repository.commit("jobs: [{name: of stable, commands: [make]}]")
    repository.git("checkout", "--quiet", "-b", "theirs")
    theirs = repository.commit("jobs: [{name: of the fork, commands: [make]}]")
    await project(service, repository, pull_requests="forks", webhook_secret=SECRET)
    body = change(fork=True)
    body["pull_request"]["head"]["sha"] = theirs
    [id_] = (await sent(service, body, "pull_request"))["workloads"]
    done = await service.finished(id_)
    assert (done["result"], [job["name"] for job in done["jobs"]]) == ("passed", ["of stable"])
    assert (done["commit"], done["target_branch"], done["from_fork"]) == (theirs, "stable", True)


async def test_a_change_of_the_repository_itself_is_built_by_its_own_file(
    service: RunningService, repository: Repository
) -> None:
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "topic")
    own = repository.commit("jobs: [{name: of the topic, commands: [make]}]")
    await project(service, repository, webhook_secret=SECRET)
    body = change()
    body["pull_request"]["head"]["sha"] = own
    [id_] = (await sent(service, body, "pull_request"))["workloads"]
    done = await service.finished(id_)
    assert [job["name"] for job in done["jobs"]] == ["of the topic"]
    assert (done["commit"], done["branch"]) == (own, "pull-request-7")
