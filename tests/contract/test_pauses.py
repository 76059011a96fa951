"""Pauses: set, replaced, ended, sent to the leader; with deleted projects and rollbacks."""

import attrs
import pytest

from boxsched.errors import Conflict, Invalid
from boxsched.model import MAX_PAUSES, ProjectId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD, Pause
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, loaded


def pause(name: str = "freeze", project: ProjectId | None = None, **changes: object) -> Pause:
    made = Pause(name, project, None, None, False, "audit", "ada", NOW, None)
    return attrs.evolve(made, **changes)  # type: ignore[arg-type]


async def told(store: Store) -> list[inbox.Command]:
    """Return the commands about pauses in the inbox, oldest first."""
    commands = [inbox.read(one.kind, one.payload) for one in await store.inbox(SHARD, 2_000)]
    return [one for one in commands if isinstance(one, inbox.PauseSet | inbox.PauseEnded)]


def fill(db: DatabaseUnderTest, count: int) -> None:
    rows = [f"(1, 'p{n}', FALSE, 'audit', 'ada', {NOW})" for n in range(count)]
    columns = "organization, name, automatic, note, set_by, since"
    db.plant(f"INSERT INTO pause ({columns}) VALUES {', '.join(rows)}")


async def test_a_pause_is_stored_as_it_was_set_and_the_leader_is_notified(leader: Leader) -> None:
    store = leader.store
    project = await leader.project()
    of_server = pause(
        "a", project.id, server="production", automatic=True, note="n", by="bob", until=NOW + 60
    )
    of_branch = pause("b", project.id, branch="main")
    assert await store.put_pause(of_branch)
    assert await store.put_pause(of_server)
    assert await store.pauses() == [of_server, of_branch], "by name"
    assert list((await loaded(store)).state.pauses) == [of_server, of_branch]
    assert await told(store) == [
        inbox.PauseSet("b", project.id, "main", None, False, "audit", "ada", NOW, None),
        inbox.PauseSet("a", project.id, None, "production", True, "n", "bob", NOW, NOW + 60),
    ]


async def test_a_pause_of_the_same_name_replaces_the_earlier_one(leader: Leader) -> None:
    store = leader.store
    assert await store.put_pause(pause(note="first"))
    assert not await store.put_pause(pause(note="second", until=NOW + 5))
    assert await store.pauses() == [pause(note="second", until=NOW + 5)]
    assert [one.note for one in await told(store)] == ["first", "second"]  # type: ignore[union-attr]


async def test_an_ended_pause_is_deleted_and_the_leader_learns_who_ended_it(leader: Leader) -> None:
    store = leader.store
    await store.put_pause(pause())
    await store.put_pause(pause("other"))
    await leader.commit(inbox=await leader.take_inbox())
    assert await store.drop_pause("freeze", "bob")
    assert [one.name for one in await store.pauses()] == ["other"]
    assert await told(store) == [inbox.PauseEnded("freeze", "bob")]
    assert not await store.drop_pause("freeze", "bob")
    assert len(await told(store)) == 1


async def test_a_project_that_was_deleted_meanwhile_gets_no_pause(leader: Leader) -> None:
    project = await leader.project()
    await leader.store.delete_project(project.name)
    with pytest.raises(Invalid, match="deleted") as refused:
        await leader.store.put_pause(pause("freeze", project.id))
    assert refused.value.field == "project"
    assert await leader.store.pauses() == []


async def test_the_number_of_pauses_is_limited(db: DatabaseUnderTest, leader: Leader) -> None:
    store = leader.store
    fill(db, MAX_PAUSES - 1)
    assert await store.put_pause(pause("the last"))
    before = len(await told(store))
    with pytest.raises(Conflict, match=f"there are {MAX_PAUSES} pauses already"):
        await store.put_pause(pause("one more"))
    assert len(await store.pauses()) == MAX_PAUSES
    assert len(await told(store)) == before
    assert not await store.put_pause(pause("p7", note="replaced"))
    assert await store.drop_pause("p8", "ada")
    assert await store.put_pause(pause("one more"))


async def test_the_pauses_of_a_deleted_project_end_with_it(leader: Leader) -> None:
    store = leader.store
    web, other = await leader.project("web"), await leader.project("other")
    for one in (pause("w", web.id), pause("v", web.id), pause("o", other.id), pause("all")):
        await store.put_pause(one)
    await leader.commit(inbox=await leader.take_inbox())
    assert await store.delete_project("web")
    assert [one.name for one in await store.pauses()] == ["all", "o"]
    by = "the deletion of the project"
    ended = sorted(await told(store), key=lambda one: str(one))
    assert ended == [inbox.PauseEnded("v", by), inbox.PauseEnded("w", by)]


async def test_the_deletion_of_a_project_without_pauses_ends_none(leader: Leader) -> None:
    await leader.project("web")
    assert await leader.store.delete_project("web")
    assert await told(leader.store) == []
