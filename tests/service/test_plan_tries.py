"""Which file is read for a build, how often it is tried, and how many are read at a time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.automation import backlog, plans
from boxsched.automation.git_errors import Unreadable
from boxsched.automation.repositories import FoundFile
from boxsched.errors import StoreAway
from tests.contract.store_data import build
from tests.service.running_service import RunningService
from tests.service.test_plans import FILE

COMMIT = "1a410efbd13591db07496601ebc7a059dd55cfe9"
AWAY = Unreadable("fatal: away for the test", lasting=False)


class FakeGit:
    """A fake git: returns the prepared answers and records the requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.says: list[Unreadable | bytes] = []  # in this order; then FILE
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = self.most = 0
        self.news = asyncio.Condition()
        monkeypatch.setattr(plans, "read_file", self.read)

    async def read(self, repository: str, **asked: Any) -> FoundFile:
        self.busy += 1
        self.most = max(self.most, self.busy)
        async with self.news:
            self.asked.append({"repository": repository, **asked})
            self.news.notify_all()
        try:
            await self.gate.wait()
            said = self.says.pop(0) if self.says else FILE.encode()
            if isinstance(said, Unreadable):
                raise said
            return FoundFile(said, COMMIT)
        finally:
            self.busy -= 1

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.asked) >= count)


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> FakeGit:
    return FakeGit(monkeypatch)


@pytest.fixture
async def service(tmp_path: Path, host: FakeGit) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=4) as opened:
        yield opened


async def project(service: RunningService, name: str = "web", **settings: Any) -> None:
    settings = {"jobs": [], "jobs_from": "ci/jobs.yml", "repository": "https://h/a/b", **settings}
    assert (await service.project(name, **settings)).status in (200, 201)


async def test_the_file_is_read_at_the_branch_tag_or_commit_of_the_build(
    service: RunningService, host: FakeGit
) -> None:
    await project(service)
    for asked in ({"branch": "x"}, {"tag": "v1"}, {"commit": COMMIT}):
        await service.finished((await service.build(**asked))["id"])
    found = [(one["ref"], one["commit"]) for one in host.asked]
    assert found == [
        ("refs/heads/x", None), ("refs/tags/v1", None), ("refs/heads/main", COMMIT),
    ]  # fmt: skip
    for one in host.asked:
        assert (one["repository"], one["path"]) == ("https://h/a/b", "ci/jobs.yml")
        assert one["folder"] == service.node.options.data


@pytest.mark.parametrize(
    ("default", "target", "ref"),
    [(None, None, "main"), ("trunk", None, "trunk"), ("trunk", "release", "release")],
)
async def test_a_change_of_a_fork_cannot_change_which_jobs_run(
    service: RunningService, host: FakeGit, default: str | None, target: str | None, ref: str
) -> None:
    await project(service, **({"default_branch": default} if default else {}))
    made = await service.node.store.project("web")
    assert made is not None
    theirs = "f" * 40
    new = build(made, "theirs", jobs=(), commit=theirs, from_fork=True, target_branch=target)
    submitted = await service.node.submit(new)
    done = await service.finished(f"w{submitted.id}")  # type: ignore[union-attr]
    assert done["commit"] == theirs, "the file is the target's, the code is their own"
    assert [(one["ref"], one["commit"]) for one in host.asked] == [(f"refs/heads/{ref}", None)]


async def test_a_repository_that_is_away_is_tried_again_and_then_given_up(
    service: RunningService, host: FakeGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(plans, "LAST_PAUSE_SECONDS", 0.004)
    await project(service)
    host.says = [AWAY, AWAY, AWAY]
    done = await service.finished((await service.build())["id"])
    assert (done["result"], len(host.asked)) == ("passed", 4)
    host.says = [AWAY] * 4
    done = await service.finished((await service.build())["id"])
    assert (done["result"], len(host.asked)) == ("failed", 8)
    assert done["reason"] == "ci/jobs.yml: fatal: away for the test"


async def test_permanent_errors_are_not_tried_again(service: RunningService, host: FakeGit) -> None:
    await project(service)
    host.says = [Unreadable("there is no file", lasting=True), b"jobs: []"]
    for reason in ("ci/jobs.yml: there is no file", "ci/jobs.yml: line 1, column 7: jobs: must"):
        done = await service.finished((await service.build())["id"])
        assert done["result"] == "failed"
        assert done["reason"].startswith(reason)
    assert len(host.asked) == 2


async def test_an_error_of_a_person_fails_at_once_and_a_ref_that_a_host_announced_may_still_arrive(
    service: RunningService, host: FakeGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FIRST_PAUSE_SECONDS", 0.001)
    missing = Unreadable("there is no branch mian", lasting=False, missing=True)
    await project(service)
    host.says = [missing]
    done = await service.finished((await service.build(branch="mian"))["id"])
    assert (done["reason"], len(host.asked)) == ("ci/jobs.yml: there is no branch mian", 1)
    made = await service.node.store.project("web")
    assert made is not None
    host.says = [missing, missing]
    new = build(made, "mian", jobs=(), commit=None, submitted_by="webhook")
    submitted = await service.node.submit(new)
    done = await service.finished(f"w{submitted.id}")  # type: ignore[union-attr]
    assert (done["result"], len(host.asked)) == ("passed", 4)


async def test_settings_that_no_longer_name_a_file_fail_the_build(
    service: RunningService, host: FakeGit
) -> None:
    host.gate.clear()
    host.says = [AWAY]
    await project(service)
    made = await service.build()
    await host.until(1)
    await project(service, jobs_from=None)
    host.gate.set()
    done = await service.finished(made["id"])
    assert done["reason"] == "the project's settings no longer have jobs_from"


@pytest.mark.parametrize(
    ("projects", "at_once"), [(1, backlog.AT_ONCE_OF_A_PROJECT), (5, backlog.AT_ONCE)]
)
async def test_only_some_files_are_read_at_a_time_and_each_once(
    service: RunningService,
    host: FakeGit,
    monkeypatch: pytest.MonkeyPatch,
    projects: int,
    at_once: int,
) -> None:
    monkeypatch.setattr(plans, "PAGE", 2)
    host.gate.clear()
    builds = []
    for number in range(projects):
        await project(service, f"web{number}")
        builds += [await service.build(f"web{number}", branch=f"b{n}") for n in range(3)]
    await host.until(at_once)
    for _ in range(3):
        service.node.plans_due.set()
        await service.node.store.ping()
    assert len(host.asked) == at_once
    host.gate.set()
    for one in builds:
        assert (await service.finished(one["id"]))["result"] == "passed"
    assert (host.most, len(host.asked)) == (at_once, 3 * projects)
    wanted = sorted(f"refs/heads/b{n}" for n in range(3) for _ in range(projects))
    assert sorted(one["ref"] for one in host.asked) == wanted


async def test_only_builds_whose_file_is_read_have_a_task_and_they_go_in_order(
    tmp_path: Path, host: FakeGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a restart, or on the next leader."""
    monkeypatch.setattr(plans, "PAGE", 2)
    begin, begun = backlog.Backlog.begin, list[tuple[int, int]]()

    def noted(lines: backlog.Backlog, one: backlog.Reading) -> None:
        begun.append((one.project, one.id))
        begin(lines, one)

    monkeypatch.setattr(backlog.Backlog, "begin", noted)
    host.gate.clear()
    names, count = [f"web{number}" for number in range(3)], 60
    most = len(names) * backlog.AT_ONCE_OF_A_PROJECT
    async with RunningService.open(tmp_path / "other") as service:
        for name in names:
            await project(service, name, repository=f"https://h/{name}")
            for n in range(count):
                await service.build(name, branch=f"b{n}")
        await host.until(most)
        assert len(readings()) == len(host.asked) == most
    assert readings() == []
    begun.clear()
    host.gate.set()
    async with RunningService.open(tmp_path / "other", boxes=4) as service:
        for name in names:
            (last,) = (await service.get(f"/workloads?project={name}&limit=1"))["workloads"]
            await service.finished(last["id"])
    assert len(begun) == len(names) * count
    for number in {number for number, _ in begun}:
        ids = [id_ for one, id_ in begun if one == number]
        assert (ids, len(ids)) == (sorted(ids), count)
    assert len({number for number, _ in begun[:most]}) == len(names), "they take turns"


def readings() -> list[str]:
    return [one.get_name() for one in asyncio.all_tasks() if one.get_name().startswith("plan of")]


async def test_repositories_that_hang_leave_turns_to_others(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(plans, "LAST_PAUSE_SECONDS", 0.001)
    tried: set[str] = set()
    hanging = asyncio.Semaphore(0)

    async def read(repository: str, **_: Any) -> FoundFile:
        if repository == "https://h/there":
            return FoundFile(FILE.encode(), COMMIT)
        if repository not in tried:
            tried.add(repository)
            raise AWAY
        hanging.release()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(plans, "read_file", read)
    for n in range(backlog.AT_ONCE + 1):
        await project(service, f"web{n}", repository=f"https://h/{n}")
        await service.build(f"web{n}")
    for _ in range(backlog.AT_ONCE_TROUBLED):
        async with asyncio.timeout(20):
            await hanging.acquire()
    await project(service, "there", repository="https://h/there")
    assert (await service.finished((await service.build("there"))["id"]))["result"] == "passed"
    assert hanging.locked(), "no other of them hangs"
    assert len(tried) == backlog.AT_ONCE + 1


async def test_repositories_that_are_away_delay_no_other(
    service: RunningService, host: FakeGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FIRST_PAUSE_SECONDS", 3_600.0)
    monkeypatch.setattr(plans, "LAST_PAUSE_SECONDS", 3_600.0)
    host.says = [AWAY] * backlog.AT_ONCE
    await project(service)
    for n in range(backlog.AT_ONCE):
        await service.build(branch=f"away{n}")
    await host.until(backlog.AT_ONCE)
    done = await service.finished((await service.build(branch="there"))["id"])
    assert done["result"] == "passed"


async def test_a_node_that_stops_ends_its_reads(tmp_path: Path, host: FakeGit) -> None:
    host.gate.clear()
    async with RunningService.open(tmp_path / "other") as service:
        await project(service)
        made = await service.build()
        await host.until(1)
    assert host.busy == 0
    host.gate.set()
    async with RunningService.open(tmp_path / "other", boxes=4) as service:
        assert (await service.finished(made["id"]))["result"] == "passed"


async def test_jobs_that_could_not_be_stored_are_read_again(
    service: RunningService, host: FakeGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, away = service.node.store.plan, asyncio.Event()

    async def first_away(*of: Any) -> bool:
        if not away.is_set():
            away.set()
            raise StoreAway("away for the test")
        return await plan(*of)

    monkeypatch.setattr(plans, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service.node.store, "plan", first_away)
    await project(service)
    done = await service.finished((await service.build())["id"])
    assert (done["result"], len(host.asked)) == ("passed", 2)
