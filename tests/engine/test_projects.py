"""What a project's settings make the engine store: notifications, and deploys that are due."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from boxsched.engine import submissions
from boxsched.protocol.batches import DeployDue
from boxsched.states import Result
from boxsched.store.steps.notifications import Target
from tests.engine.shop import Shop

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
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    yield shop
    await shop.close()


async def web(
    shop: Shop, targets: Sequence[Target] = (), servers: dict[str, dict[str, str]] | None = None
) -> None:
    settings = json.dumps(
        {"repository": "https://h/a/b", "default_branch": "main", "servers": servers or {}}
    )
    project, _ = await shop.store.put_project("web", settings, None, targets=targets)
    shop.projects["web"] = (project.id, project.version)
    await shop.settle()


async def notified(shop: Shop) -> list[tuple[int, str]]:
    rows = await shop.store.notifications(None, ABOVE_ALL, 100)
    return [(row.workload, row.event) for row in reversed(rows)]


@pytest.mark.parametrize("restarted", [False, True])
async def test_notifications_of_a_hook_are_written_in_the_turn_of_their_event(
    shop: Shop, restarted: bool
) -> None:
    await web(shop, [HOOK])
    if restarted:
        await shop.restart()
    build = await shop.build()
    await shop.finish((await shop.assignments())[0])
    assert await notified(shop) == [(build, event) for event in EVENTS]


async def test_a_project_without_hooks_sends_no_notification(shop: Shop) -> None:
    await web(shop, [HOOK])
    assert shop.engine.books is not None and shop.engine.books.notifying
    await web(shop)
    assert not shop.engine.books.notifying
    await shop.build()
    assert await notified(shop) == []


async def test_a_submission_that_is_set_aside_is_notified_as_finished(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await web(shop, [HOOK])

    def raises(*_: object) -> None:
        raise RuntimeError("a mistake of the engine")

    monkeypatch.setattr(submissions, "submit", raises)
    (build,) = await shop.submit(shop.new())
    await shop.settle()
    assert (await shop.look(build)).result is Result.CANCELED
    assert await notified(shop) == [(build, "workload.finished")]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_build_that_passed_is_due_on_the_servers_that_follow_its_branch(
    shop: Shop, restarted: bool
) -> None:
    await web(shop, servers=SERVERS)
    if restarted:
        await shop.restart()
    build = await shop.build()
    before = shop.dues
    await shop.finish((await shop.assignments())[0])
    assert await shop.store.deploys_due(10) == [
        DeployDue(build, "production"),
        DeployDue(build, "staging"),
    ]
    assert shop.dues == before + 1, "the node is told, once they are stored"


@pytest.mark.parametrize(
    ("branch", "result"), [("other", Result.PASSED), ("main", Result.FAILED)], ids=str
)
async def test_other_branches_and_failures_are_due_nowhere(
    shop: Shop, branch: str, result: Result
) -> None:
    await web(shop, servers=SERVERS)
    before = shop.dues
    await shop.build(branch=branch)
    await shop.finish((await shop.assignments())[0], result)
    assert await shop.store.deploys_due(10) == []
    assert shop.dues == before


async def test_servers_that_follow_no_more_are_due_nothing(shop: Shop) -> None:
    await web(shop, servers=SERVERS)
    build = await shop.build()
    await web(shop, servers={"beta": SERVERS["beta"]})
    await shop.finish((await shop.assignments())[0])
    assert (await shop.look(build)).result is Result.PASSED
    assert await shop.store.deploys_due(10) == []
    assert shop.engine.books is not None and not shop.engine.books.followed


async def test_the_node_is_notified_of_a_build_whose_jobs_must_be_read(shop: Shop) -> None:
    await web(shop)
    before = shop.dues
    await shop.build(jobs=0)
    assert shop.dues == before + 1
    await shop.build(branch="x")
    assert shop.dues == before + 1


async def test_the_node_is_notified_of_changed_or_deleted_settings(shop: Shop) -> None:
    for change in (web(shop), shop.store.delete_project("web")):
        before = shop.dues
        await change
        await shop.settle()
        assert shop.dues == before + 1
