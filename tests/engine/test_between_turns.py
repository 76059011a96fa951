"""Between two turns: workers connect while their Boxes go, settings change, leaders change."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.cluster.mirror import Mirror
from boxsched.engine.stages import Stages
from boxsched.engine.why import explain, sentences
from boxsched.errors import StoreAway
from boxsched.node.in_process import LocalWorker
from boxsched.protocol import inbox
from boxsched.protocol.batches import Batch, Committed
from boxsched.protocol.workers import Connected, NewWorker, WorkerConnection
from boxsched.secrets.assignment_secrets import AssignmentSecrets
from boxsched.secrets.vault import Vault
from boxsched.states import Result, State
from boxsched.store.store import Store
from tests.engine.shop import Shop

LOST_SECONDS = 140


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with one Box."""
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    yield shop
    await shop.close()


async def settled(shop: Shop) -> None:
    """As ``Engine.run`` does: what was told to load anew is loaded."""
    while True:
        if shop.engine.books is None:
            await shop.engine.load()
        elif not await shop.engine.turn():
            return


async def states(shop: Shop) -> list[State]:
    return [workload.state for workload in await shop.store.unfinished()]


def boxes_set(connected: Connected, node: str = "test") -> inbox.BoxesSet:
    connection = connected.connection
    boxes = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    return inbox.BoxesSet(connection.worker, boxes, node, connection.number)


async def test_a_worker_that_connects_while_it_is_taken_for_lost_has_its_boxes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told the ids of Boxes that go with the batch that is being committed."""
    commit, came = type(shop.store).commit, []

    async def meanwhile(store: Store, batch: Batch, *more: Any) -> Committed:
        if batch.gone:
            came.append(await store.connect_worker(NewWorker("w", "w", "", "test", ("default",))))
        return await commit(store, batch, *more)

    monkeypatch.setattr(type(shop.store), "commit", meanwhile)
    await shop.later(LOST_SECONDS)
    (connected,) = came
    await shop.ask(boxes_set(connected))
    await shop.settle()
    build = await shop.build()
    assert [a.workload for a in await shop.assignments()] == [build]
    await shop.restart()
    assert await states(shop) == [State.RUNNING]


async def test_workloads_that_fit_the_new_settings_continue_at_once(shop: Shop) -> None:
    """Also where the turn that heard of them had something else to do: it settled by the old."""
    was = await shop.store.organization()
    await shop.another_worker("v", 1)
    await shop.store.set_organization(attrs.evolve(was, max_boxes=1))
    await settled(shop)
    await shop.submit(shop.new(branch="a"))
    await shop.submit(shop.new(branch="b"))
    await settled(shop)
    assert await states(shop) == [State.RUNNING, State.QUEUED]
    await shop.store.set_organization(was)
    await shop.connect(1)
    await settled(shop)
    assert await states(shop) == [State.RUNNING, State.RUNNING]


async def test_workloads_that_the_former_leader_delayed_continue_after_a_takeover(
    shop: Shop,
) -> None:
    """It gave nothing to a worker whose node it took for gone; the new one sees it there."""
    shop.gone = {"test"}
    for _ in range(6):
        shop.clock.time += 1
        await shop.settle()
    await shop.build()
    assert await states(shop) == [State.QUEUED]
    shop.gone = set()
    await shop.restart()
    await shop.settle()
    assert await states(shop) == [State.RUNNING]


async def test_a_new_leader_takes_what_has_gathered_in_its_first_turn(shop: Shop) -> None:
    await shop.settle()
    ids = await shop.submit(*(shop.new(branch=str(n)) for n in range(5)))
    await shop.restart()
    assert await shop.engine.turn()
    assert [(await shop.look(id_)).state for id_ in ids].count(State.REGISTERED) == 0


async def test_a_new_leader_has_every_worker_look_up_its_jobs(shop: Shop) -> None:
    """The former one may have ended between its commit and its word."""
    await shop.settle()
    other = await shop.another_worker("v", 1)
    shop.told.clear()
    await shop.restart()
    assert shop.told == {shop.worker: "test", other.connection.worker: "test"}


async def test_a_worker_that_connects_to_another_node_is_told_there(shop: Shop) -> None:
    await shop.settle()
    shop.told.clear()
    new = NewWorker("w", "w", "here", "B", ("default",))
    connected = await shop.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    await shop.ask(inbox.BoxesSet(shop.worker, rows, "B", connected.connection.number))
    await shop.settle()
    assert shop.told == {shop.worker: "B"}


async def test_only_workers_whose_jobs_changed_are_told_to_look(shop: Shop) -> None:
    await shop.settle()
    await shop.another_worker("v", 1)
    shop.told.clear()
    await shop.build()
    (assignment,) = await shop.assignments()
    assert shop.told == {shop.worker: "test"}
    shop.told.clear()
    await shop.start([assignment])
    assert shop.told == {}
    await shop.finish(assignment)
    assert shop.told == {shop.worker: "test"}


async def test_a_load_behind_which_nothing_moves_commits_nothing(shop: Shop) -> None:
    await shop.settle()
    before = await shop.store.batch_number(1)
    await shop.restart()
    await shop.settle()
    epoch, batch = await shop.store.batch_number(1)
    assert (epoch, batch) == (before[0] + 1, before[1])


async def test_an_in_process_worker_says_again_what_was_not_stored(
    shop: Shop, tmp_path: Path
) -> None:
    away = False

    async def ask(shard: int, command: inbox.Command) -> None:
        if away:
            raise StoreAway("for a moment")
        await shop.ask(command)

    new = NewWorker("in", "in", "in-process", "test", ("default",) * 2, lost_after=120.0)
    local = LocalWorker(
        new, shop.store, AssignmentSecrets(shop.store, Vault(None)), ask, ask, shop.clock,
        folder=tmp_path / "in", driver="none", log_limit=1_000,
        stop_grace=1.0, cluster="c", lost_after=120.0, deadline=True,
        stages=Stages(shop.clock.monotonic), is_notified=lambda: True,
    )  # fmt: skip
    await local.connect()
    await shop.settle()
    had = set(shop.engine.books.boxes)  # type: ignore[union-attr]
    await shop.later(LOST_SECONDS)
    assert not shop.engine.books.boxes  # type: ignore[union-attr]
    away = True
    with pytest.raises(StoreAway):
        await local._beat(1.0)
    away = False
    await local._beat(2.0)
    await shop.settle()
    # type: ignore[union-attr]
    assert had >= set(shop.engine.books.boxes) == {row.id for row in local._connected.boxes}


async def test_a_node_that_does_not_lead_explains_what_its_leader_holds_back(shop: Shop) -> None:
    """The leader gives nothing to a worker whose node is gone; the store does not know of it."""
    shop.gone = {"test"}
    for _ in range(6):
        shop.clock.time += 1
        await shop.settle()
    build = await shop.build()
    assert await states(shop) == [State.QUEUED]
    seen = await Mirror(shop.store, 1, lambda node: node != "test").books()
    report = explain(seen, build, shop.clock.now())
    assert (report is not None and "not connected" in report.text) or "No worker" in report.text
    late = await Mirror(shop.store, 1, lambda node: True).books()
    report = explain(late, build, shop.clock.now())
    assert report is not None and report.reason == "needs_boxes"
    assert sentences(late, shop.clock.now())(build, State.QUEUED)


async def test_a_workload_that_arrives_during_an_answer_has_its_reason(shop: Shop) -> None:
    books = shop.engine.books
    assert books is not None
    sentence = sentences(books, shop.clock.now())
    build = await shop.build(jobs=2)
    assert sentence(build, State.QUEUED)


async def test_no_sentence_is_said_of_another_state(shop: Shop) -> None:
    books = shop.engine.books
    assert books is not None
    build = await shop.build(jobs=2)
    sentence = sentences(books, shop.clock.now())
    assert sentence(build, State.QUEUED)
    assert sentence(build, State.RUNNING) is None  # as a store would have it a moment later


async def test_a_job_whose_box_is_not_in_the_store_costs_no_more_than_itself(
    shop: Shop, tmp_path: Path
) -> None:
    """That must not be; but no node could lead the shard again."""
    build = await shop.build()
    (lost,) = await shop.assignments()
    await shop.start([lost])
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite")) as raw:
        raw.execute("DELETE FROM box WHERE id = ?", (lost.box,))
        shop.broken = True
        raw.commit()
    await shop.restart()
    await shop.connect(1)
    await shop.settle()
    (again,) = await shop.assignments()
    assert (again.workload, again.attempt) == (build, 2)
    assert again.box != lost.box and again.lease_token > lost.lease_token
    await shop.finish(again)
    assert (await shop.look(build)).result is Result.PASSED
    assert set(shop.engine.books.boxes) == {again.box}  # type: ignore[union-attr]


async def test_a_late_message_of_a_removed_worker_adds_no_boxes(shop: Shop) -> None:
    connected = await shop.another_worker("v", 1)
    await shop.settle()
    await shop.store.disconnect_workers([connected.connection])
    worker, number = connected.connection.worker, connected.connection.number
    await shop.ask(inbox.WorkerForgotten(worker, number, "admin"))
    assert not await shop.store.forget_worker(connected.connection), "the leader has not heard it"
    await shop.settle()
    assert await shop.store.forget_worker(connected.connection)
    await shop.ask(boxes_set(connected))
    await shop.settle()
    assert not shop.engine.books.boxes_of(worker)  # type: ignore[union-attr]


async def forgotten(shop: Shop, name: str) -> WorkerConnection:
    """A worker that came, went, and was forgotten; its row is still there."""
    connection = (await shop.another_worker(name, 1)).connection
    await shop.store.disconnect_workers([connection])
    await shop.ask(inbox.WorkerForgotten(connection.worker, connection.number, "ada"))
    await shop.settle()
    return connection


async def test_a_worker_that_is_forgotten_is_named_no_more(shop: Shop) -> None:
    """Neither by its leader, which may have read its row, nor by a mirror that stands still."""
    assert shop.first is not None
    await shop.later(1, shop.first)
    waiting = await shop.build(jobs=9)
    old = await shop.another_worker("old", 1)
    await shop.store.disconnect_workers([old.connection])
    await shop.later(1, shop.first)
    mirror = Mirror(shop.store, 1, lambda node: True)
    books = shop.engine.books
    assert books is not None and "old" in books.names.values()
    await shop.ask(inbox.WorkerForgotten(old.connection.worker, old.connection.number, "ada"))
    await shop.settle()
    assert "old" not in books.names.values()
    await shop.later(1, shop.first)
    assert "old" not in books.names.values(), "its row is there, and it is forgotten"
    assert "old" in (await mirror.books()).names.values()
    assert await shop.store.forget_worker(old.connection)
    assert "old" not in (await mirror.books()).names.values()
    report = shop.why(waiting)
    assert report is not None and "old" not in report.text


async def test_the_connections_of_forgotten_workers_have_a_bound(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.engine.books.FORGOTTEN_KEPT", 2)
    assert shop.first is not None
    gone = []
    for number in range(5):
        gone.append(await forgotten(shop, f"v{number}"))
        assert await shop.store.forget_worker(gone[-1])
        await shop.later(1, shop.first)
    books = shop.engine.books
    assert books is not None
    assert set(books.connections) == {shop.worker, *(one.worker for one in gone[-2:])}
    assert set(books.names) == set(books.places) == {shop.worker}
