"""Reading job files without a service: turns, attempts, results, and what git gets to know."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.automation import plans as module
from boxsched.automation.backlog import AT_ONCE, AT_ONCE_OF_A_PROJECT
from boxsched.automation.git_errors import Unreadable
from boxsched.automation.plans import (
    GIVE_UP_SECONDS,
    LAST_PAUSE_SECONDS,
    PAGE,
    Plans,
    _ref,
    _runs,
)
from boxsched.automation.repositories import FoundFile
from boxsched.errors import NotFound, SecretsUnusable, StoreAway
from boxsched.model import DEFAULT_ORGANIZATION, ProjectId, WorkloadId
from boxsched.protocol.shards import SHARD

COMMIT, ANOTHER = "a" * 40, "b" * 40
FILE = b"jobs:\n  - name: test\n    commands: [make]\n"
AWAY = Unreadable("fatal: away", lasting=False)


def build(id_: int, project: int = 3, **changes: Any) -> Any:
    return SimpleNamespace(**{
        "id": WorkloadId(id_), "project": ProjectId(project), "project_name": f"p{project}",
        "organization": DEFAULT_ORGANIZATION,
        "branch": "main", "tag": None, "commit": None, "from_fork": False, "target_branch": None,
        "finished_at": None, "boxes": 0, "submitted_by": "Ada",
    } | changes)  # fmt: skip


class Service:
    """A node, its store and its projects, and git. Ids of builds are in order of submission."""

    def __init__(self, folder: Any) -> None:
        self.builds: dict[int, Any] = {}
        self.settings = SimpleNamespace(
            jobs_from="ci/jobs.yml", repository="https://h/a", default_branch=None
        )
        self.gone = False
        self.sealed: dict[int, str] = {}
        self.planned: dict[int, tuple[Any, str]] = {}
        self.failed: dict[int, tuple[str, str | None]] = {}
        self.woken = 0
        self.read: list[int] = []  # projects, in the order of their turns
        self.asked: list[dict[str, Any]] = []
        self.says: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = 0
        self.away = 0
        self.looks_until_ended = 0
        self.store = self
        self.options = SimpleNamespace(data=folder)
        self.plans_due = asyncio.Event()
        self.vault = "the vault"
        self.leadership = SimpleNamespace(led={SHARD})
        self.pages: list[int] = []

    def submit(self, *ids: int, project: int = 3, **changes: Any) -> None:
        self.builds |= {id_: build(id_, project, **changes) for id_ in ids}

    def waiting(self) -> list[Any]:
        done = {*self.planned, *self.failed}
        return [one for id_, one in sorted(self.builds.items()) if id_ not in done]

    async def wake_for(self, organization: int) -> None:
        assert organization == DEFAULT_ORGANIZATION
        self.woken += 1

    async def unplanned_projects(self, after: int, limit: int) -> list[ProjectId]:
        if self.away:
            self.away -= 1
            raise StoreAway("for the test")
        self.pages.append(after)
        projects = sorted({one.project for one in self.waiting() if one.project > after})
        return projects[:limit]

    async def first_unplanned(self, behind: Mapping[int, int]) -> dict[ProjectId, WorkloadId]:
        found: dict[ProjectId, WorkloadId] = {}
        for one in self.waiting():
            if one.id > behind.get(one.project, 1 << 62):
                found.setdefault(one.project, one.id)
        return found

    async def unplanned(self, project: int, after: int, limit: int) -> list[WorkloadId]:
        mine = [one.id for one in self.waiting() if one.project == project and one.id > after]
        return mine[:limit]

    async def subject(self, id_: int) -> Any:
        one = self.builds.get(id_)
        if id_ in self.failed:
            self.looks_until_ended -= 1
            if self.looks_until_ended < 0:
                one.finished_at = 9.0
        return one

    async def plan(self, id_: int, jobs: Sequence[Any], commit: str) -> bool:
        self.planned[id_] = jobs, commit
        return True

    async def fail_plan(self, id_: int, reason: str, commit: str | None) -> None:
        self.failed[id_] = reason, commit

    async def sealed_git_credentials(self, projects: Sequence[int]) -> dict[int, str]:
        return {one: self.sealed[one] for one in projects if one in self.sealed}

    async def fresh(self, name: str, organization: int) -> Any:
        assert organization == DEFAULT_ORGANIZATION
        if self.gone:
            raise NotFound("no such project")
        return SimpleNamespace(settings=self.settings)

    async def read_file(self, repository: str, **asked: Any) -> FoundFile:
        self.asked.append({"repository": repository} | asked)
        self.busy += 1
        try:
            await self.gate.wait()
            said = self.says.pop(0) if self.says else FILE
        finally:
            self.busy -= 1
        if isinstance(said, Exception):
            raise said
        return FoundFile(said, COMMIT)


@pytest.fixture
async def service(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service(tmp_path)
    monkeypatch.setattr(module, "read_file", made.read_file)
    for name in ("FIRST_PAUSE_SECONDS", "FIRST_LOOK_SECONDS"):
        monkeypatch.setattr(module, name, 0.001)
    return made


async def until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 -- nothing is told of it
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(service: Any) -> Any:
    task = asyncio.create_task(Plans(service, service).run())
    service.plans_due.set()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert service.busy == 0, "no read goes on"


async def result(service: Service, **changes: Any) -> Any:
    """Read the file of one build; return its jobs' names and commit, or why it has none."""
    service.submit(1, **changes)
    async with running(service):
        await until(lambda: service.planned or service.failed)
        await until(lambda: service.woken)
    if service.failed:
        return service.failed[1]
    jobs, commit = service.planned[1]
    return [job.name for job in jobs], commit


@pytest.mark.parametrize(
    ("changes", "default", "ref", "commit", "runs"),
    [
        ({}, None, "refs/heads/main", None, COMMIT),
        ({"tag": "v1", "branch": None}, None, "refs/tags/v1", None, COMMIT),
        ({"commit": ANOTHER}, None, "refs/heads/main", ANOTHER, COMMIT),
        ({"from_fork": True, "commit": ANOTHER}, None, "refs/heads/main", None, ANOTHER),
        ({"from_fork": True, "branch": "x"}, "next", "refs/heads/next", None, COMMIT),
        ({"from_fork": True, "target_branch": "old"}, "next", "refs/heads/old", None, COMMIT),
    ],
)
async def test_a_build_gets_the_jobs_of_its_commit_and_a_fork_those_of_its_target(
    service: Service, changes: dict[str, Any], default: str, ref: str, commit: str, runs: str
) -> None:
    service.settings.default_branch = default
    assert await result(service, **changes) == (["test"], runs)
    (asked,) = service.asked
    assert asked == {
        "repository": "https://h/a", "ref": ref, "commit": commit, "path": "ci/jobs.yml",
        "folder": service.options.data, "access": None,
    }  # fmt: skip
    assert _ref(build(1, **changes), default or "main") == ref
    assert _runs(build(1, **changes), COMMIT) == runs


@pytest.mark.parametrize(
    ("says", "changes", "reason", "commit"),
    [
        (Unreadable("no entry", lasting=True), {}, "ci/jobs.yml: no entry", None),
        (Unreadable("no file", lasting=True, commit=COMMIT), {}, "ci/jobs.yml: no file", COMMIT),
        (Unreadable("no x", lasting=False, missing=True), {}, "ci/jobs.yml: no x", None),
        (b"jobs: 7", {}, "ci/jobs.yml: ", COMMIT),
        (b"jobs: 7", {"from_fork": True, "commit": ANOTHER}, "ci/jobs.yml: ", ANOTHER),
        (SecretsUnusable("no key"), {}, "the git credentials cannot be used: no key", None),
    ],
)
async def test_a_lasting_error_fails_the_build_at_once(
    service: Service, says: Any, changes: dict[str, Any], reason: str, commit: str | None
) -> None:
    service.says = [says]
    why, known = await result(service, **changes)
    assert reason in why
    assert known == commit
    assert len(service.asked) == 1


async def test_settings_without_a_file_fail_the_build(service: Service) -> None:
    service.settings.jobs_from = None
    assert await result(service) == ("the project's settings no longer have jobs_from", None)
    assert service.asked == []


@pytest.mark.parametrize(
    "says", [AWAY, Unreadable("no x", lasting=False, missing=True)], ids=["away", "announced"]
)
async def test_what_may_change_is_tried_again(service: Service, says: Unreadable) -> None:
    """A ref that a code host has just announced may not be on all of its machines yet."""
    service.says = [says, says]
    assert await result(service, submitted_by="webhook") == (["test"], COMMIT)
    assert len(service.asked) == 3


async def test_a_repository_is_given_up_after_some_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert GIVE_UP_SECONDS == 120.0
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.0)
    service.says = [AWAY]
    assert await result(service) == ("ci/jobs.yml: fatal: away", None)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("says", "give_up", "pause", "turns"),
    [
        ([AWAY], GIVE_UP_SECONDS, LAST_PAUSE_SECONDS, 1),
        ([AWAY], 0.0, 0.001, 1),
        ([AWAY, FILE], GIVE_UP_SECONDS, 0.001, AT_ONCE_OF_A_PROJECT),
        ([Unreadable("no entry", lasting=True)], GIVE_UP_SECONDS, 0.001, AT_ONCE_OF_A_PROJECT),
    ],
    ids=["pauses", "given up", "answers again", "has answered"],
)
async def test_a_project_whose_repository_did_not_answer_gets_one_turn(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    says: list[Any],
    give_up: float,
    pause: float,
    turns: int,
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", give_up)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", pause)
    service.says = list(says)
    service.submit(1)
    rests = pause > 1
    async with running(service):
        await until(lambda: len(service.asked) == len(says) and not service.busy)
        await until(lambda: rests or service.planned or service.builds[1].finished_at)
        for _ in range(20):
            await asyncio.sleep(0)
        service.gate.clear()
        service.submit(2, 3, 4)
        service.plans_due.set()
        await until(lambda: service.busy == turns)
        for _ in range(20):
            await asyncio.sleep(0)
        assert service.busy == turns


@pytest.mark.parametrize("change", [{"finished_at": 9.0}, {"boxes": 2}, None])
async def test_a_build_that_has_ended_or_has_its_jobs_is_not_read(
    service: Service, change: dict[str, Any] | None
) -> None:
    service.submit(1, **change or {})
    service.submit(2, project=4)
    if change is None:
        service.gone = True
    async with running(service):
        if change is None:
            await until(lambda: len(service.pages) > 3)
            assert not service.failed and not service.asked
        else:
            await until(lambda: 2 in service.planned)
            assert [one["ref"] for one in service.asked] == ["refs/heads/main"]
            assert 1 not in service.planned and 1 not in service.failed


async def test_a_failed_build_keeps_its_turn_until_it_has_ended(service: Service) -> None:
    """Otherwise its file would be read again."""
    service.says = [Unreadable("no entry", lasting=True)]
    service.looks_until_ended = 3
    service.submit(1, 2)
    async with running(service):
        await until(lambda: 2 in service.planned and service.builds[1].finished_at == 9.0)
        for _ in range(20):
            await asyncio.sleep(0)
    assert (len(service.asked), set(service.failed)) == (2, {1})


async def test_projects_take_turns_and_only_some_files_are_read_at_a_time(
    service: Service,
) -> None:
    service.gate.clear()
    for project in (3, 4):
        service.submit(*range(10 * project, 10 * project + 9), project=project)
    async with running(service):
        await until(lambda: service.busy == 2 * AT_ONCE_OF_A_PROJECT)
        for project in range(5, 12):
            service.submit(10 * project, project=project)
        service.plans_due.set()
        await until(lambda: service.busy == AT_ONCE)
        for _ in range(20):
            await asyncio.sleep(0)
        assert service.busy == AT_ONCE
        service.gate.set()
        await until(lambda: len(service.planned) == len(service.builds))
    assert len(service.asked) == len(service.builds), "each once"


async def test_all_pages_of_projects_get_their_turn(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PAGE == 100
    monkeypatch.setattr(module, "PAGE", 2)
    for project in range(3, 12):
        service.submit(project, project=project)
    async with running(service):
        await until(lambda: len(service.planned) == 9)


async def test_the_jobs_of_one_project_are_read_in_the_order_of_its_builds(
    service: Service,
) -> None:
    service.submit(*range(1, 8))
    async with running(service):
        await until(lambda: len(service.planned) == 7)
    assert list(service.planned) == sorted(service.planned)


async def test_a_build_that_becomes_visible_late_is_read_too(service: Service) -> None:
    service.gate.clear()
    service.submit(5)
    async with running(service):
        await until(lambda: service.busy == 1)
        service.submit(4)
        service.plans_due.set()
        service.gate.set()
        await until(lambda: len(service.planned) == 2)


async def test_an_outage_leaves_builds_to_the_next_look(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    service.away = 1
    assert await result(service) == (["test"], COMMIT)
    assert "builds without jobs wait: for the test" in caplog.text


async def test_jobs_that_could_not_be_stored_are_read_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    plan, tries = service.plan, [StoreAway("for the test")]

    async def away_once(*values: Any) -> bool:
        if tries:
            raise tries.pop()
        return await plan(*values)

    monkeypatch.setattr(service, "plan", away_once)
    assert await result(service) == (["test"], COMMIT)
    assert len(service.asked) == 2


async def test_an_unexpected_error_is_logged_and_others_are_read(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service.says = [RuntimeError("odd")]
    service.submit(1)
    service.submit(2, project=4)
    async with running(service):
        await until(lambda: 2 in service.planned)
        await until(lambda: caplog.records)
    assert "a job file was not read" in caplog.text


async def test_a_node_that_does_not_lead_reads_nothing(service: Service) -> None:
    service.leadership.led = set()
    service.submit(1)
    async with running(service):
        for _ in range(3):
            await looked(service)
        assert (service.pages, service.asked) == ([], [])
        service.leadership.led = {SHARD}
        service.plans_due.set()
        await until(lambda: service.planned)


async def test_a_node_that_leads_again_begins_without_the_pauses_of_before(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other leader may have read the file meanwhile, or tried in vain as often."""
    for name in ("FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS"):
        monkeypatch.setattr(module, name, 3_600.0)
    service.says = [AWAY]
    service.submit(1)
    async with running(service):
        await until(lambda: service.asked and not service.busy)
        await looked(service)
        assert len(service.asked) == 1, "it pauses"
        service.leadership.led = set()
        await looked(service)
        service.leadership.led = {SHARD}
        service.plans_due.set()
        await until(lambda: service.planned)
    assert len(service.asked) == 2


async def looked(service: Service) -> None:
    """Wake the reader, and wait until it has looked."""
    service.plans_due.set()
    await until(lambda: not service.plans_due.is_set())
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("fits", [True, False])
async def test_git_gets_the_credentials_of_the_project_if_they_are_for_its_server(
    service: Service, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    service.sealed = {3: "sealed"}

    def opened(vault: str, project: int, sealed: str, repository: str) -> Any:
        assert (vault, project, sealed, repository) == ("the vault", 3, "sealed", "https://h/a")
        return SimpleNamespace(secret="s", origin="https://h", user="u") if fits else None

    monkeypatch.setattr(module, "opened", opened)
    await result(service)
    access = service.asked[0]["access"]
    if fits:
        assert (access.secret, access.origin, access.user) == ("s", "https://h", "u")
    else:
        assert access is None


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.0), (2.0, 2.0), (9.0, 5.0)])
async def test_a_look_is_followed_by_a_pause_as_long_as_it_took(
    service: Service, monkeypatch: pytest.MonkeyPatch, took: float, pause: float
) -> None:
    """A slow database has as much time for others; but at most five seconds."""
    loop, sleep, slept = asyncio.get_running_loop(), asyncio.sleep, []
    held = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: held[0])

    async def slow(after: int, limit: int) -> list[ProjectId]:
        held[0] += took
        return []

    async def recorded(seconds: float) -> None:
        if asyncio.current_task() is task:
            slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(service, "unplanned_projects", slow)
    monkeypatch.setattr(asyncio, "sleep", recorded)
    task = asyncio.create_task(Plans(service, service).run())  # type: ignore[arg-type]
    service.plans_due.set()
    await until(lambda: slept)
    task.cancel()
    await asyncio.wait([task])
    assert slept[0] == pytest.approx(pause)
