"""What the engine stores because of a project's settings: notifications and due deploys."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from boxsched.engine import submissions
from boxsched.protocol.batches import DeployDue
from boxsched.states import Result
from boxsched.store.steps.notifications import Target
from tests.engine.harness import EngineHarness

ABOVE_ALL = 1 << 62
EVENTS = ("workload.queued", "workload.started", "workload.finished")
HOOK = Target("hook.h:443", None, "https://h/", "h:443", EVENTS)
SERVERS = {
    "production": {"branch": "main", "strategy": "automatic"},
    "staging": {"strategy": "automatic"},  # follows the default branch
    "beta": {"branch": "main", "strategy": "manual"},
    "next": {"branch": "next", "strategy": "automatic"},
}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    yield harness
    await harness.close()


async def web(
    harness: EngineHarness,
    targets: Sequence[Target] = (),
    servers: dict[str, dict[str, str]] | None = None,
) -> None:
    settings = json.dumps(
        {"repository": "https://h/a/b", "default_branch": "main", "servers": servers or {}}
    )
    project, _ = await harness.store.put_project("web", settings, None, targets=targets)
    harness.projects["web"] = (project.id, project.version)
    await harness.settle()


async def notified(harness: EngineHarness) -> list[tuple[int, str]]:
    rows = await harness.store.notifications(None, ABOVE_ALL, 100)
    return [(row.workload, row.event) for row in reversed(rows)]


@pytest.mark.parametrize("restarted", [False, True])
async def test_notifications_of_a_hook_are_written_in_the_turn_of_their_event(
    harness: EngineHarness, restarted: bool
) -> None:
    await web(harness, [HOOK])
    if restarted:
        await harness.restart()
    build = await harness.build()
    await harness.finish((await harness.assignments())[0])
    assert await notified(harness) == [(build, event) for event in EVENTS]


async def test_a_project_without_hooks_sends_no_notification(harness: EngineHarness) -> None:
    await web(harness, [HOOK])
    assert harness.engine.books is not None and harness.engine.books.notifying
    await web(harness)
    assert not harness.engine.books.notifying
    await harness.build()
    assert await notified(harness) == []


async def test_a_submission_that_is_set_aside_is_notified_as_finished(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await web(harness, [HOOK])

    def raises(*_: object) -> None:
        raise RuntimeError("a mistake of the engine")

    monkeypatch.setattr(submissions, "submit", raises)
    (build,) = await harness.submit(harness.new())
    await harness.settle()
    assert (await harness.look(build)).result is Result.CANCELED
    assert await notified(harness) == [(build, "workload.finished")]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_build_that_passed_is_due_on_the_servers_that_follow_its_branch(
    harness: EngineHarness, restarted: bool
) -> None:
    await web(harness, servers=SERVERS)
    if restarted:
        await harness.restart()
    build = await harness.build()
    before = harness.dues
    await harness.finish((await harness.assignments())[0])
    assert await harness.store.deploys_due(10) == [
        DeployDue(build, "production"),
        DeployDue(build, "staging"),
    ]
    assert harness.dues == before + 1, "the node is told, once they are stored"


@pytest.mark.parametrize(
    ("branch", "result"), [("other", Result.PASSED), ("main", Result.FAILED)], ids=str
)
async def test_other_branches_and_failed_builds_are_due_nowhere(
    harness: EngineHarness, branch: str, result: Result
) -> None:
    await web(harness, servers=SERVERS)
    before = harness.dues
    await harness.build(branch=branch)
    await harness.finish((await harness.assignments())[0], result)
    assert await harness.store.deploys_due(10) == []
    assert harness.dues == before


async def test_a_build_is_not_due_on_a_server_that_no_longer_follows_its_branch(
    harness: EngineHarness,
) -> None:
    await web(harness, servers=SERVERS)
    build = await harness.build()
    await web(harness, servers={"beta": SERVERS["beta"]})
    await harness.finish((await harness.assignments())[0])
    assert (await harness.look(build)).result is Result.PASSED
    assert await harness.store.deploys_due(10) == []
    assert harness.engine.books is not None and not harness.engine.books.followed


async def test_the_node_is_notified_of_a_build_whose_jobs_must_be_read(
    harness: EngineHarness,
) -> None:
    await web(harness)
    before = harness.dues
    await harness.build(jobs=0)
    assert harness.dues == before + 1
    await harness.build(branch="x")
    assert harness.dues == before + 1


async def test_the_node_is_notified_of_changed_or_deleted_settings(harness: EngineHarness) -> None:
    for change in (web(harness), harness.store.delete_project("web")):
        before = harness.dues
        await change
        await harness.settle()
        assert harness.dues == before + 1
