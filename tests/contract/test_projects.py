"""The organization and the projects."""

import attrs
import pytest

from boxsched.errors import Conflict
from boxsched.model import Policy, ProjectId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.states import Result
from boxsched.store.records import ProjectChanged, Submitted
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, build, finished, spec


async def put(store: Store, name: str = "web", settings: str = "{}", **changes: object):
    return await store.put_project(name, settings, changes.pop("max_boxes", None), changes)


async def test_the_organization_starts_with_the_defaults_and_keeps_new_settings(
    db: DatabaseUnderTest,
) -> None:
    store = await db.open()
    organization = await store.organization()
    assert (organization.policy, organization.max_boxes) == (Policy.BACKFILL, None)
    changed = attrs.evolve(organization, policy=Policy.STRICT, max_boxes=8, priority_aging=2.5)
    await store.set_organization(changed)
    assert await (await db.reopen()).organization() == changed


async def test_new_queue_settings_are_sent_to_the_leader(leader: Leader) -> None:
    await leader.store.set_organization(await leader.store.organization())
    assert [entry.kind for entry in await leader.store.inbox(SHARD, 10)] == ["reload"]


async def test_a_workload_that_exceeds_the_plan_is_not_stored(leader: Leader) -> None:
    """Whatever plan the node used when it checked the workload."""
    project = await leader.project()
    store = leader.store
    await store.set_organization(attrs.evolve(await store.organization(), max_boxes=2))
    few, many = (tuple(spec(f"j{n}") for n in range(count)) for count in (2, 3))
    outcomes = await store.submit([build(project, jobs=many), build(project, jobs=few)])
    assert outcomes[0] == ProjectChanged()
    assert isinstance(outcomes[1], Submitted) and outcomes[1].number == 1


async def test_a_project_is_created_then_replaced_under_a_new_version(store: Store) -> None:
    first, created = await put(store, settings='{"repository": "x"}', max_boxes=2)
    assert created
    assert (first.name, first.version, first.max_boxes) == ("web", 1, 2)
    second, created = await put(store, settings='{"a": 1}')
    assert not created
    assert (second.id, second.version, second.max_boxes) == (first.id, 2, None)
    assert await store.project("web") == second
    assert await store.project("other") is None


async def test_projects_are_listed_by_name(store: Store) -> None:
    for name in ("b", "c", "a"):
        await put(store, name)
    assert [project.name for project in await store.projects()] == ["a", "b", "c"]


async def test_a_secret_is_kept_replaced_or_removed_and_never_in_a_repr(store: Store) -> None:
    def seal(project: ProjectId, version: int) -> str:
        return f"s3cret of {project}, {version}"

    made, _ = await put(store, webhook_secret=seal)
    kept, _ = await put(store)
    assert made.webhook_secret == kept.webhook_secret == f"s3cret of {kept.id}, 1"
    assert "s3cret" not in repr(kept)
    replaced, _ = await put(store, webhook_secret=lambda project, version: "other")
    assert replaced.webhook_secret == "other"
    removed, _ = await put(store, webhook_secret=None)
    assert removed.webhook_secret is None


async def test_the_leader_is_notified_of_a_project(store: Store) -> None:
    project, _ = await put(store, max_boxes=3)
    (entry,) = await store.inbox(SHARD, 10)
    assert inbox.read(entry.kind, entry.payload) == inbox.ProjectSet(project.id, "web", 3)


async def test_a_project_is_deleted_only_after_its_last_workload_has_finished(
    leader: Leader,
) -> None:
    project = await leader.project()
    done = await leader.submit(build(project))
    with pytest.raises(Conflict):
        await leader.store.delete_project("web")
    assert await leader.store.project("web") == project, "a refused deletion leaves no trace"
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.finish(done.id, 0)
    assert await leader.store.delete_project("web")
    assert not await leader.store.delete_project("web")
    assert await leader.store.projects() == []
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert shown.project_name == "web", "what has run keeps its project's name"


async def test_a_name_is_free_again_and_its_numbers_continue(leader: Leader) -> None:
    """So web#1 is always the same workload."""
    first = await leader.project()
    old = await leader.submit(build(first))
    await leader.commit(ended=(finished(old.id, NOW, Result.CANCELED),))
    await leader.store.delete_project("web")
    second = await leader.project()
    assert second.id != first.id
    assert second.version == 1
    assert await leader.store.submit([build(first)]) == [ProjectChanged()]
    new = await leader.submit(build(second))
    assert (old.number, new.number) == (1, 2)
    assert await leader.store.find_number("web", 1) == old.id
    assert await leader.store.find_number("web", 2) == new.id
    await leader.commit(ended=(finished(new.id, NOW, Result.CANCELED),))
    await leader.store.delete_project("web")
    assert await leader.store.find_number("web", 2) == new.id
    third = await leader.project()
    assert (await leader.submit(build(third))).number == 3
    assert (await leader.submit(build(await leader.project("other")))).number == 1


async def test_a_deleted_project_keeps_no_secret(db: DatabaseUnderTest) -> None:
    store = await db.open()
    await put(
        store,
        webhook_secret=lambda project, version: "a secret",
        git_credentials=lambda project, version: "a key",
    )
    await store.put_secret("web", "TOKEN", lambda project, version: "sealed", as_file=False)
    assert await store.delete_project("web")
    await db.close()
    db.plant("UPDATE project SET deleted = FALSE")
    store = await db.open()
    brought_back = await store.project("web")
    assert brought_back is not None
    assert await store.secrets(brought_back.id) == []
    assert await store.sealed_git_credentials([brought_back.id]) == {}
    await db.close()
    assert brought_back.webhook_secret is None


async def test_names_of_projects_are_read_without_their_settings(leader: Leader) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    assert await leader.store.project_names([web.id, app.id, web.id]) == {
        web.id: "web",
        app.id: "app",
    }
    assert await leader.store.project_names([]) == {}
