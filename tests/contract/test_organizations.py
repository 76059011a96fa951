"""Organizations: each has its projects, workers, pauses and workloads, and a shard of its own."""

import asyncio
from pathlib import Path

import attrs
import pytest

from boxsched.errors import Conflict
from boxsched.model import DEFAULT_ORGANIZATION, OrganizationId, Policy, short_name
from boxsched.protocol.shards import SHARD, Organization, Pause
from boxsched.store import open_store
from boxsched.store.operating.check import check
from boxsched.store.records import Submitted, Token, WorkloadFilter
from boxsched.store.steps import organizations
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, build, loaded, worker

NEW = Organization(OrganizationId(0), "acme", Policy.STRICT, 7, 2.5, lost_retries=0)


async def made(store: Store, name: str = "acme") -> Organization:
    organization, created = await store.put_organization(attrs.evolve(NEW, name=name))
    assert created
    return organization


async def test_a_new_organization_has_an_id_and_a_shard_of_its_own(db: DatabaseUnderTest) -> None:
    store = await db.open()
    one = await made(store)
    assert (one.id, one.shard) == (2, 2)
    assert one.created_at is not None
    assert attrs.evolve(one, id=NEW.id, shard=NEW.shard, created_at=None) == NEW
    other = await made(store, "other")
    assert (other.id, other.shard) == (3, 3)
    store = await db.reopen()
    assert [each.name for each in await store.organizations()] == ["acme", "default", "other"]
    assert await store.organization(one.id) == one
    assert [head.id for head in await store.shards()] == [1, 2, 3]


async def test_it_takes_the_first_shard_that_no_other_has(store: Store) -> None:
    await store.open_shards(3)
    assert [(await made(store, name)).shard for name in "abc"] == [2, 3, 4]


async def test_its_leader_learns_of_it_and_of_new_settings(store: Store) -> None:
    one = await made(store)
    changed, created = await store.put_organization(attrs.evolve(NEW, max_boxes=1))
    assert (created, changed) == (False, attrs.evolve(one, max_boxes=1))
    again, _ = await store.put_organization(attrs.evolve(NEW, max_boxes=1))
    assert again == changed
    assert [entry.kind for entry in await store.inbox(one.shard, 9)] == ["reload", "reload"]
    assert await store.inbox(SHARD, 9) == []
    assert (await loaded(store, one.shard)).state.organization == changed


async def test_two_nodes_that_make_the_same_organization_make_one(
    db: DatabaseUnderTest, tmp_path: Path
) -> None:
    store = await db.open()
    other = store if db.url.startswith("sqlite") else open_store(db.url, tmp_path / "other")
    if other is not store:
        await other.open()
    named = [attrs.evolve(NEW, name=name) for name in ("acme", "b", "acme", "c")]
    found = await asyncio.gather(
        *(each.put_organization(one) for one in named for each in (store, other))
    )
    assert sum(created for _, created in found) == 3
    assert {(one.name, one.id, one.shard) for one, _ in found} == {
        (one.name, one.id, one.shard) for one in await store.organizations() if one.shard != SHARD
    }
    assert len({one.shard for one, _ in found}) == 3
    if other is not store:
        await other.close()


async def test_their_number_is_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(organizations, "MAX_ORGANIZATIONS", 2)
    await made(store)
    with pytest.raises(Conflict, match="2 organizations already"):
        await made(store, "another")
    await store.delete_organization("acme")
    await made(store, "another")


# --- What belongs to one is not another's ---------------------------------------------------


async def test_a_name_of_a_project_is_free_in_each_organization(store: Store) -> None:
    one = await made(store)
    mine, created = await store.put_project("web", "{}", None)
    its, created_too = await store.put_project("web", '{"a": 1}', 3, organization=one.id)
    assert created and created_too
    assert (mine.organization, its.organization) == (DEFAULT_ORGANIZATION, one.id)
    assert (its.name, its.version) == ("web", 1)
    assert await store.project("web") == mine
    assert await store.project("web", one.id) == its
    assert await store.projects() == [mine]
    assert await store.projects(one.id) == [its]
    assert await store.project_names([mine.id, its.id]) == {mine.id: "web", its.id: "web"}
    assert await store.delete_project("web", one.id)
    assert (await store.project("web"), await store.project("web", one.id)) == (mine, None)


async def test_workloads_are_listed_in_their_organization_alone(store: Store) -> None:
    one = await made(store)
    mine, _ = await store.put_project("web", "{}", None)
    its, _ = await store.put_project("web", "{}", None, organization=one.id)
    asked = [build(mine), build(its, shard=one.shard), build(its, "other", shard=one.shard)]
    first, second, third = await store.submit(asked)
    assert isinstance(first, Submitted) and isinstance(second, Submitted)
    assert isinstance(third, Submitted)
    assert (first.number, second.number, third.number) == (1, 1, 2)
    entries = [await store.inbox(shard, 9) for shard in (SHARD, one.shard)]
    assert [[e.workload for e in each if e.workload] for each in entries] == [
        [first.id],
        [second.id, third.id],
    ]
    for wanted in (
        WorkloadFilter(),
        WorkloadFilter(branch="main"),
        WorkloadFilter(state="registered"),  # type: ignore[arg-type]
    ):
        page = await store.workloads(wanted)
        assert [each.id for each in page.workloads] == [first.id]
        theirs = await store.workloads(attrs.evolve(wanted, organization=one.id))
        assert second.id in [each.id for each in theirs.workloads]
        assert first.id not in [each.id for each in theirs.workloads]
        assert {each.project_name for each in theirs.workloads} == {"web"}
    assert [each.id for each in await store.unfinished()] == [first.id]
    assert [each.id for each in await store.unfinished(one.id)] == [second.id, third.id]
    assert [w.id for w in (await store.activity(9, one.id)).unfinished] == [second.id, third.id]
    assert await store.find_number("web", 1) == first.id
    assert await store.find_number("web", 1, one.id) == second.id
    found = await store.workload(second.id)
    assert found is not None
    assert (found.organization, found.project_name) == (one.id, "web")
    state = (await loaded(store, one.shard)).state
    assert [project.name for project in state.projects] == ["web"]


async def test_a_worker_has_its_name_in_its_organization(store: Store) -> None:
    one = await made(store)
    mine = await store.connect_worker(worker("w", "default"))
    new = worker("w", "default", identity="another", organization=one.id, name="2\x1fw")
    its = await store.connect_worker(new)
    assert short_name(new.name) == "w"
    assert (mine.shard, its.shard) == (SHARD, one.shard)
    assert [each.name for each in await store.workers()] == ["w"]
    assert [each.name for each in await store.workers(one.id)] == ["w"]
    assert [p.worker for p in await store.pulses(one.shard)] == [its.connection.worker]
    assert [p.name for p in await store.pulses(one.shard)] == ["w"]
    both = [mine.connection.worker, its.connection.worker]
    assert await store.places(both) == dict.fromkeys(both, "node-1")
    await store.disconnect_workers([mine.connection])
    assert await store.places(both) == {its.connection.worker: "node-1"}, "only connected ones"


async def test_a_pause_belongs_to_its_organization(store: Store) -> None:
    one = await made(store)
    pause = Pause("freeze", None, None, None, False, "", "me", NOW, None)
    assert await store.put_pause(pause)
    assert await store.put_pause(attrs.evolve(pause, note="theirs"), one.id)
    assert [each.note for each in await store.pauses()] == [""]
    assert [each.note for each in await store.pauses(one.id)] == ["theirs"]
    assert (await loaded(store, one.shard)).state.pauses == tuple(await store.pauses(one.id))
    assert await store.drop_pause("freeze", "me", one.id)
    assert not await store.drop_pause("freeze", "me", one.id)
    assert len(await store.pauses()) == 1


# --- Deletion -------------------------------------------------------------------------------


async def test_an_organization_with_unfinished_workloads_stays(store: Store) -> None:
    one = await made(store)
    project, _ = await store.put_project("web", "{}", None, organization=one.id)
    await store.submit([build(project, shard=one.shard)])
    with pytest.raises(Conflict, match="acme has unfinished workloads"):
        await store.delete_organization("acme")
    assert await store.organization(one.id) == one
    assert await store.project("web", one.id) == project


async def test_the_default_organization_stays(store: Store) -> None:
    with pytest.raises(Conflict, match="default organization"):
        await store.delete_organization("default")


async def test_a_deleted_organization_leaves_nothing_and_frees_its_name(
    db: DatabaseUnderTest,
) -> None:
    store = await db.open()
    one = await made(store)
    await store.put_project("web", "{}", None, organization=one.id)
    await store.put_token(Token("token-1", "d", "worker", "", NOW, organization=one.id))
    assert await store.delete_organization("acme")
    assert not await store.delete_organization("acme")
    assert [each.name for each in await store.organizations()] == ["default"]
    assert (await store.organization(one.id), await store.projects(one.id)) == (None, [])
    assert await store.token("d") is None
    assert (await loaded(store, one.shard)).state.organization is None
    with pytest.raises(Conflict, match="organization was deleted"):
        await store.put_project("web", "{}", None, organization=one.id)
    with pytest.raises(Conflict, match="acme was deleted"):
        await store.set_organization(one)
    again = await made(store)
    assert (again.id, again.shard) == (3, 3), "its history stays in its own shard"
    await store.close()
    assert await check(db.url) == []
