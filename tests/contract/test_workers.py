"""Workers that connect and leave: identities, connections, heartbeats."""

import asyncio
import time

import attrs
import pytest

from boxsched.errors import Conflict
from boxsched.model import BoxId, WorkerId
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected, NewWorker, Pulse, WorkerConnection
from boxsched.store.errors import BoundToAnother, InUse, NoPlace, NotYet, TokenTaken
from boxsched.store.records import Token
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader, build, worker
from tests.contract.test_loading import OTHER


async def pulse(store: Store, of: WorkerId) -> Pulse:
    (found,) = [each for each in await store.pulses(SHARD) if each.worker == of]
    return found


# --- Connecting -----------------------------------------------------------------------------


async def test_a_worker_keeps_its_id_and_its_boxes(store: Store) -> None:
    new = worker("w", "linux", "linux", "mac")
    first = await store.connect_worker(new)
    id_ = first.connection.worker
    assert (first.connection.number, first.shard) == (1, SHARD)
    assert [(b.worker, b.ordinal, b.box_type) for b in first.boxes] == [
        (id_, 1, "linux"),
        (id_, 2, "linux"),
        (id_, 3, "mac"),
    ]
    again = await store.connect_worker(attrs.evolve(new, address="10.0.0.2", node="node-2"))
    assert again == attrs.evolve(first, connection=WorkerConnection(id_, 2))
    other = await store.connect_worker(worker("x", "linux"))
    assert other.connection.worker != id_
    assert {b.id for b in other.boxes}.isdisjoint(b.id for b in first.boxes)
    assert [(w.name, w.address, w.state) for w in await store.workers()] == [
        ("w", "10.0.0.2", "connected"),
        ("x", "here", "connected"),
    ]
    assert (await pulse(store, id_)).node == "node-2"


async def test_new_boxes_are_not_in_use_before_the_engines_batch(store: Store) -> None:
    await store.connect_worker(worker("w", "linux"))
    assert await store.boxes() == []
    assert [each.boxes for each in await store.workers()] == [0]


async def test_a_worker_returns_with_other_boxes(leader: Leader) -> None:
    store = leader.store
    before = [box.id for box in leader.boxes]
    fewer = (await store.connect_worker(worker("w", "default", "mac"))).boxes
    assert fewer[0].id == before[0]
    assert fewer[1].id not in before, "an ordinal of another type is another Box"
    assert {box.id for box in await store.boxes()} >= set(before), "the engine retires them"
    more = (await store.connect_worker(worker("w", *["default"] * 6))).boxes
    assert [box.id for box in more][:4] == before
    assert len(more) == 6


async def test_a_worker_may_have_no_boxes(store: Store) -> None:
    assert (await store.connect_worker(worker("w"))).boxes == ()
    assert [each.boxes for each in await store.workers()] == [0]


async def test_a_worker_may_take_another_name_but_not_another_workers(store: Store) -> None:
    first = (await store.connect_worker(worker("w"))).connection
    await store.connect_worker(worker("x"))
    renamed = await store.connect_worker(worker("w", name="y"))
    assert renamed.connection == WorkerConnection(first.worker, 2)
    assert [each.name for each in await store.workers()] == ["x", "y"]
    with pytest.raises(Conflict, match="'x'"):
        await store.connect_worker(worker("w", name="x"))
    with pytest.raises(Conflict):
        await store.connect_worker(NewWorker("a stranger", "y", "there", "node-1", ()))
    assert (await store.connect_worker(worker("w", name="y"))).connection.number == 3
    free = await store.connect_worker(NewWorker("a stranger", "w", "there", "node-1", ()))
    assert free.connection.worker != first.worker


async def bound(store: Store, of: str) -> str | None:
    (found,) = [each for each in await store.workers() if each.name == of]
    return found.token


def token(name: str, **changes: object) -> Token:
    new = Token(name, f"digest of {name}", "worker", name, 1.0)
    return attrs.evolve(new, **changes)  # type: ignore[arg-type]


async def test_a_worker_is_bound_to_the_first_token_it_came_with(store: Store) -> None:
    for name in ("a", "b"):
        await store.put_token(token(name))
    first = await store.connect_worker(worker("w", "linux", token="a"))
    with pytest.raises(BoundToAnother, match="another token, a"):
        await store.connect_worker(worker("w", "linux", token="b"))
    with pytest.raises(BoundToAnother):
        await store.connect_worker(worker("w", "linux"))
    with pytest.raises(Conflict, match="name"):
        await store.connect_worker(worker("x", name="w", token="b"))
    again = await store.connect_worker(worker("w", "linux", token="a"))
    assert again == attrs.evolve(first, connection=WorkerConnection(first.connection.worker, 2))
    assert await bound(store, "w") == "a"


async def test_a_copy_of_a_worker_that_is_connected_to_another_node_is_refused(
    store: Store, db: DatabaseUnderTest
) -> None:
    """Its own process moves from node to node. One that ends, or falls silent, has a successor."""
    first = await store.connect_worker(worker("w", "linux", start="one"))
    id_ = first.connection.worker
    copy = worker("w", "linux", start="other", node="node-2", address="there")
    with pytest.raises(InUse, match=r"from here to the node node-1.*empty data folder"):
        await store.connect_worker(copy)
    moved = await store.connect_worker(worker("w", "linux", start="one", node="node-2"))
    assert moved.connection == WorkerConnection(id_, 2)
    with pytest.raises(InUse):
        await store.connect_worker(attrs.evolve(copy, node="node-1"))
    again = await store.connect_worker(copy)
    assert again.connection == WorkerConnection(id_, 3), "a node knows what is connected to it"
    await store.disconnect_workers([again.connection])
    restarted = await store.connect_worker(worker("w", "linux", start="third"))
    assert restarted.connection == WorkerConnection(id_, 4)
    db.plant("UPDATE worker SET seen_at = seen_at - 16")
    late = await store.connect_worker(copy)
    assert late.connection == WorkerConnection(id_, 5)
    older = await store.connect_worker(worker("w", "linux"))
    assert older.connection == WorkerConnection(id_, 6), "it does not say"


async def test_another_token_takes_over_once_the_first_is_invalid(store: Store) -> None:
    await store.put_token(token("revoked"))
    await store.put_token(token("expired", expires_at=time.time() - 1.0))
    await store.put_token(token("lasting", expires_at=time.time() + 1e6))
    id_ = (await store.connect_worker(worker("w", token="revoked"))).connection.worker
    assert await store.revoke_token("revoked")
    assert (await store.connect_worker(worker("w", token="expired"))).connection.worker == id_
    assert (await store.connect_worker(worker("w", token="lasting"))).connection.worker == id_
    assert await bound(store, "w") == "lasting"
    with pytest.raises(BoundToAnother):
        await store.connect_worker(worker("w", token="expired"))


async def test_a_nodes_own_worker_is_bound_to_no_token(store: Store) -> None:
    await store.put_token(token("a"))
    await store.connect_worker(worker("in-process", token="in-process"))
    with pytest.raises(BoundToAnother):
        await store.connect_worker(worker("in-process", token="a"))
    assert (await store.connect_worker(worker("in-process", token="in-process"))).boxes == ()


async def test_a_worker_of_an_earlier_version_is_bound_when_it_connects(
    db: DatabaseUnderTest,
) -> None:
    store = await db.open()
    db.plant("INSERT INTO worker (id, name, address, state) VALUES (70, 'w', 'x', 'connected')")
    await store.put_token(token("a"))
    await store.put_token(token("b"))
    await store.connect_worker(worker("w", token="a"))
    with pytest.raises(BoundToAnother):
        await store.connect_worker(worker("w", token="b"))


async def test_a_token_for_one_worker_is_taken_by_the_first(db: DatabaseUnderTest) -> None:
    """Also when it has been removed: somebody else may have read its token."""
    store = await db.open()
    stores = [store, await db.open("node-2") if db.url.startswith("postgres") else store]
    await store.put_token(token("one", max_workers=1, bound=True))
    found = await asyncio.gather(
        *(stores[n % 2].connect_worker(worker(f"w{n}", token="one")) for n in range(4)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in found) == ["Connected"] + ["TokenTaken"] * 3
    (mine,) = [each for each in found if isinstance(each, Connected)]
    (name,) = [one.name for one in await store.workers()]
    again = await store.connect_worker(worker(name, token="one"))
    assert again.connection.number == 2
    await store.disconnect_workers([again.connection])
    assert await store.forget_worker(again.connection)
    with pytest.raises(TokenTaken, match="--fleet"):
        await store.connect_worker(worker("another", token="one"))
    assert (await store.connect_worker(worker(name, token="one"))).connection.number == 1
    (kept,) = await store.tokens()
    assert kept.bound and kept.taken_by == worker(name).identity
    assert mine.connection.number == 1


async def test_a_token_has_a_limited_number_of_workers(db: DatabaseUnderTest) -> None:
    """The worker absent for longest makes room for another; no other worker does."""
    store = await db.open()
    stores = [store, await db.open("node-2") if db.url.startswith("postgres") else store]
    await store.put_token(token("few", max_workers=2))
    await store.put_token(token("b"))
    found = await asyncio.gather(
        *(stores[n % 2].connect_worker(worker(f"w{n}", "linux", token="few")) for n in range(8)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in found) == ["Connected"] * 2 + ["NoPlace"] * 6
    there = [each.connection for each in found if isinstance(each, Connected)]
    await store.connect_worker(worker("another's", token="b"))
    with pytest.raises(NoPlace, match="2 workers"):
        await store.connect_worker(worker("w9", token="few"))
    await store.disconnect_workers(there[:1])
    await store.ask(SHARD, [("boxes", b"[]")])
    with pytest.raises(NotYet, match="2 workers"):  # a report of its Boxes waits for the leader
        await store.connect_worker(worker("w9", token="few"))
    leader = await Leader(store).lead(boxes=0)
    await leader.commit(inbox=await leader.take_inbox())
    await store.connect_worker(worker("w9", token="few"))
    assert there[0].worker not in {each.id for each in await store.workers()}
    assert len([each for each in await store.workers() if each.token == "few"]) == 2


async def test_rows_of_boxes_that_it_no_longer_has_are_deleted(leader: Leader) -> None:
    """Whatever types it reports at each connect, but not while its leader may be about to use
    them."""
    store = leader.store

    async def come(*types: str) -> list[BoxId]:
        return [box.id for box in (await store.connect_worker(worker("w", *types))).boxes]

    first = await come("mac", "mac")
    assert await come(*["default"] * 4) == [box.id for box in leader.boxes], "in use: they stay"
    second = await come("mac", "mac")
    assert set(first).isdisjoint(second), "rows that went meanwhile"
    await store.ask(SHARD, [("boxes", b"[]")])
    await come("default")
    assert await come("mac", "mac") == second
    for number in range(2):
        await come(*[f"type {number}"] * 6_000)
    with pytest.raises(NotYet):
        await come("default")
    await leader.commit(inbox=await leader.take_inbox())
    assert await come("default") == [leader.boxes[0].id]


async def test_another_organizations_token_does_not_accept_the_worker(
    db: DatabaseUnderTest,
) -> None:
    store = await db.open()
    await store.open_shards(2)
    db.plant(OTHER)
    await store.connect_worker(worker("w"))
    with pytest.raises(Conflict, match="another organization"):
        await store.connect_worker(worker("w", organization=2))
    theirs = await store.connect_worker(worker("x", organization=2))
    assert theirs.shard == 2
    assert [each.worker for each in await store.pulses(2)] == [theirs.connection.worker]


async def test_a_row_without_an_identity_is_taken_by_the_first_of_its_name(
    db: DatabaseUnderTest,
) -> None:
    store = await db.open()
    db.plant("INSERT INTO worker (id, name, address, state) VALUES (70, 'w', 'x', 'connected')")
    with pytest.raises(Conflict):
        await store.connect_worker(worker("w", identity="x", name="w", organization=9))
    assert (await store.connect_worker(worker("w"))).connection == WorkerConnection(WorkerId(70), 1)
    with pytest.raises(Conflict):
        await store.connect_worker(worker("w", identity="another"))
    assert (await store.connect_worker(worker("w"))).connection == WorkerConnection(WorkerId(70), 2)


async def test_one_worker_that_connects_many_times_at_once_is_one(db: DatabaseUnderTest) -> None:
    store = await db.open()
    stores = [store, store]
    if db.url.startswith("postgres"):
        stores[1] = await db.open("node-2")
    found = await asyncio.gather(
        *(stores[i % 2].connect_worker(worker("w", "a", node=f"n{i}")) for i in range(6))
    )
    assert len({each.connection.worker for each in found}) == 1
    assert sorted(each.connection.number for each in found) == [1, 2, 3, 4, 5, 6]
    assert len({each.boxes for each in found}) == 1
    (last,) = [i for i, each in enumerate(found) if each.connection.number == 6]
    assert (await pulse(store, found[0].connection.worker)).node == f"n{last}"


async def test_one_of_several_new_workers_gets_a_name(db: DatabaseUnderTest) -> None:
    store = await db.open()
    answers = await asyncio.gather(
        *(store.connect_worker(worker("w", identity=f"stranger {i}")) for i in range(5)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in answers) == ["Conflict"] * 4 + ["Connected"]


# --- The jobs they should run ---------------------------------------------------------------


async def test_every_worker_that_was_asked_about_has_an_answer(leader: Leader) -> None:
    store = leader.store
    idle = (await store.connect_worker(worker("idle", "default"))).connection.worker
    project = await leader.project()
    done = await leader.submit(build(project))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    nobody = WorkerId(4711)
    found = await store.assignments([leader.worker, idle, nobody, leader.worker])
    assert {id_: len(each) for id_, each in found.items()} == {leader.worker: 1, idle: 0, nobody: 0}
    assert list(found) == [leader.worker, idle, nobody]
    assert await store.assignments([]) == {}


async def test_one_query_reads_the_jobs_of_many_workers(leader: Leader) -> None:
    ids = [WorkerId(i) for i in range(1, 1001)]
    assert set(await leader.store.assignments(ids)) == set(ids)
