"""Workers that leave, and their heartbeats."""

import asyncio
import time

import attrs
import pytest

from boxsched.errors import Conflict
from boxsched.model import WorkerId
from boxsched.protocol.batches import DrainChange
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Drain, Pulse, WorkerConnection
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, loaded, worker


async def pulse(store: Store, of: WorkerId) -> Pulse:
    (found,) = [each for each in await store.pulses(SHARD) if each.worker == of]
    return found


async def state(store: Store, of: WorkerId) -> str:
    (found,) = [each for each in await store.workers() if each.id == of]
    return found.state


# --- Leaving, and being alive ----------------------------------------------------------------


async def test_the_end_of_an_old_connection_changes_nothing(store: Store) -> None:
    old = (await store.connect_worker(worker("w"))).connection
    new = (await store.connect_worker(worker("w", node="node-2"))).connection
    other = (await store.connect_worker(worker("x"))).connection
    await store.disconnect_workers([old, other])
    assert await state(store, new.worker) == "connected"
    assert await state(store, other.worker) == "disconnected"
    assert (await pulse(store, new.worker)).connected is True
    assert (await pulse(store, other.worker)).connected is False
    await store.disconnect_workers([new, new])
    assert await state(store, new.worker) == "disconnected"
    await store.disconnect_workers([])
    again = (await store.connect_worker(worker("w"))).connection
    assert again.number == 3
    assert await state(store, again.worker) == "connected"


async def test_the_time_of_the_last_heartbeat(store: Store) -> None:
    connection = (await store.connect_worker(worker("w"))).connection
    [first] = await store.workers()
    assert first.seen_at is not None and abs(first.seen_at - time.time()) < 60
    await asyncio.sleep(0.005)  # SQLite's clock has milliseconds
    await store.beat([connection])
    [beaten] = await store.workers()
    assert beaten.seen_at is not None and beaten.seen_at > first.seen_at
    await store.disconnect_workers([connection])
    assert [one.seen_at for one in await store.workers()] == [beaten.seen_at]


async def test_a_worker_is_forgotten_once_it_and_its_boxes_are_gone(store: Store) -> None:
    """Boxes that no batch made usable are gone, too."""
    old = (await store.connect_worker(worker("w", "linux", "mac"))).connection
    assert await store.forget_worker(old) is False  # connected
    await store.disconnect_workers([old])
    new = (await store.connect_worker(worker("w", "linux"))).connection
    await store.disconnect_workers([new])
    assert await store.forget_worker(old) is False  # connected again since
    other = (await store.connect_worker(worker("x", "linux"))).connection
    assert await store.forget_worker(new) is True
    assert [one.id for one in await store.workers()] == [other.worker]
    assert await store.forget_worker(new) is False
    again = (await store.connect_worker(worker("w", "linux"))).connection
    assert again.worker > other.worker  # a new one


async def test_only_the_heartbeat_of_the_current_connection_counts(store: Store) -> None:
    old = (await store.connect_worker(worker("w"))).connection
    new = (await store.connect_worker(worker("w"))).connection
    gone = (await store.connect_worker(worker("x"))).connection
    await store.disconnect_workers([gone])
    before = {each.worker: each.beat for each in await store.pulses(SHARD)}
    assert await store.beat([old, gone, WorkerConnection(WorkerId(4711), 1)]) == {}
    assert {each.worker: each.beat for each in await store.pulses(SHARD)} == before
    assert await store.beat([new, old]) == {new.worker: False}
    after = {each.worker: each.beat for each in await store.pulses(SHARD)}
    assert after == before | {new.worker: before[new.worker] + 1}
    assert await store.beat([]) == {}


async def test_a_drain_is_kept_until_it_is_taken_back(store: Store) -> None:
    leader = await Leader(store).lead(boxes=0)
    mine, other = [(await store.connect_worker(worker(name))).connection for name in "wx"]
    drain = Drain("ann", NOW, "new disk", NOW + 60)
    await leader.commit(drains=(DrainChange(mine.worker, drain, mine.number),))
    assert (await loaded(store)).state.drains == {mine.worker: drain}
    shown = {each.name: each for each in await store.workers()}
    assert (shown["w"].drain_by, shown["w"].drain_since) == ("ann", NOW)
    assert (shown["w"].drain_note, shown["w"].drain_stop_at) == ("new disk", NOW + 60)
    assert (shown["w"].drain_done, shown["x"].drain_since) == (False, None)
    assert await store.beat([mine, other]) == {mine.worker: False, other.worker: False}
    done = Drain("ann", NOW, done=True)
    await leader.commit(drains=(DrainChange(mine.worker, done, mine.number),))
    assert await store.beat([mine, other]) == {mine.worker: True, other.worker: False}
    again = (await store.connect_worker(worker("w"))).connection
    assert again.worker == mine.worker
    lasts = attrs.evolve(done, done=False)  # on the new connection it is not ending
    assert (await loaded(store)).state.drains == {mine.worker: lasts}
    await leader.commit(drains=(DrainChange(mine.worker, done, mine.number),))
    assert await store.beat([again]) == {mine.worker: False}, "that was the former connection"
    await leader.commit(drains=(DrainChange(mine.worker, None, 0),))
    assert (await loaded(store)).state.drains == {}
    assert await store.beat([again]) == {mine.worker: False}
    assert all(each.drain_by is None for each in await store.workers())


async def test_the_last_heartbeat_also_moves_with_a_connect(store: Store) -> None:
    id_ = (await store.connect_worker(worker("w"))).connection.worker
    before = (await pulse(store, id_)).beat
    await store.connect_worker(worker("w"))
    assert (await pulse(store, id_)).beat > before


async def test_one_statement_stores_many_heartbeats(store: Store) -> None:
    found = [(await store.connect_worker(worker(f"w{i}"))).connection for i in range(300)]
    assert await store.beat(found) == {each.worker: False for each in found}
    assert [each.beat for each in await store.pulses(SHARD)] == [2] * 300
    await store.disconnect_workers(found)
    assert not any(each.connected for each in await store.pulses(SHARD))


async def test_a_connect_can_extend_the_promise_to_a_worker(store: Store) -> None:
    id_ = (await store.connect_worker(worker("w"))).connection.worker
    assert (await pulse(store, id_)).lost_after is None
    for promised, at_most in ((10.0, 10.0), (120.0, 120.0), (10.5, 120.0), (120.5, 120.5)):
        await store.connect_worker(worker("w", lost_after=promised))
        assert (await pulse(store, id_)).lost_after == at_most
    first = await store.connect_worker(worker("x", lost_after=33.25))
    assert (await pulse(store, first.connection.worker)).lost_after == 33.25


async def test_from_its_first_heartbeat_on_only_that_connections_promise_counts(
    store: Store,
) -> None:
    """Through one node with 120 s, then one with 10 s, and back."""
    old = (await store.connect_worker(worker("w", lost_after=120.0))).connection
    other = (await store.connect_worker(worker("x", lost_after=77.0))).connection
    new = (await store.connect_worker(worker("w", lost_after=10.0))).connection
    await store.beat([old], 120.0)
    assert (await pulse(store, new.worker)).lost_after == 120.0
    before = (await pulse(store, new.worker)).beat
    await store.beat([new], 10.0)
    after = await pulse(store, new.worker)
    assert (after.lost_after, after.beat) == (10.0, before + 1)
    await store.beat([old], 120.0)
    assert await pulse(store, new.worker) == after, "a beat of an old connection"
    assert (await pulse(store, other.worker)).lost_after == 77.0
    back = (await store.connect_worker(worker("w", lost_after=120.0))).connection
    await store.beat([new], 10.0)
    assert (await pulse(store, back.worker)).lost_after == 120.0
    await store.disconnect_workers([back])
    await store.connect_worker(worker("w", lost_after=10.0))
    assert (await pulse(store, back.worker)).lost_after == 120.0, "it may not have heard of 10"


async def test_an_unknown_promise_stays_unknown(store: Store) -> None:
    """For a single node: its in-process worker's builds have no such deadline."""
    one = (await store.connect_worker(worker("w"))).connection
    await store.beat([one])
    assert (await pulse(store, one.worker)).lost_after is None
    one = (await store.connect_worker(worker("w", lost_after=10.0))).connection
    await store.beat([one])
    assert (await pulse(store, one.worker)).lost_after is None


async def test_a_check_connects_no_worker(store: Store) -> None:
    await store.check_worker(worker("w", "linux"))
    assert not await store.workers()
    mine = (await store.connect_worker(worker("w", "linux"))).connection
    await store.check_worker(worker("w", "mac"))
    assert await store.beat([mine]) == {mine.worker: False}, "it is the newest connection"
    again = (await store.connect_worker(worker("w", "linux"))).boxes
    assert [box.box_type for box in again] == ["linux"]
    with pytest.raises(Conflict, match="another worker has the name"):
        await store.check_worker(attrs.evolve(worker("w"), identity="another"))
