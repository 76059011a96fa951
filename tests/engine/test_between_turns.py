"""Events between two turns: workers connect while Boxes are removed, settings change, leaders
change.
"""

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
from tests.engine.harness import EngineHarness

LOST_SECONDS = 140


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with one Box."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


async def settled(harness: EngineHarness) -> None:
    """Reload books that are marked for it, as ``Engine.run`` does."""
    while True:
        if harness.engine.books is None:
            await harness.engine.load()
        elif not await harness.engine.turn():
            return


async def states(harness: EngineHarness) -> list[State]:
    return [workload.state for workload in await harness.store.unfinished()]


def boxes_set(connected: Connected, node: str = "test") -> inbox.BoxesSet:
    connection = connected.connection
    boxes = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    return inbox.BoxesSet(connection.worker, boxes, node, connection.number)


async def test_a_worker_that_connects_while_it_is_marked_as_lost_has_its_boxes(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told ids of Boxes that the batch being committed removes."""
    commit, came = type(harness.store).commit, []

    async def meanwhile(store: Store, batch: Batch, *more: Any) -> Committed:
        if batch.gone:
            came.append(await store.connect_worker(NewWorker("w", "w", "", "test", ("default",))))
        return await commit(store, batch, *more)

    monkeypatch.setattr(type(harness.store), "commit", meanwhile)
    await harness.later(LOST_SECONDS)
    (connected,) = came
    await harness.ask(boxes_set(connected))
    await harness.settle()
    build = await harness.build()
    assert [a.workload for a in await harness.assignments()] == [build]
    await harness.restart()
    assert await states(harness) == [State.RUNNING]


async def test_workloads_that_fit_the_new_settings_start_at_once(harness: EngineHarness) -> None:
    """This also holds where that turn had already settled with the old settings."""
    was = await harness.store.organization()
    await harness.another_worker("v", 1)
    await harness.store.set_organization(attrs.evolve(was, max_boxes=1))
    await settled(harness)
    await harness.submit(harness.new(branch="a"))
    await harness.submit(harness.new(branch="b"))
    await settled(harness)
    assert await states(harness) == [State.RUNNING, State.QUEUED]
    await harness.store.set_organization(was)
    await harness.connect(1)
    await settled(harness)
    assert await states(harness) == [State.RUNNING, State.RUNNING]


async def test_workloads_that_the_former_leader_held_back_start_after_a_takeover(
    harness: EngineHarness,
) -> None:
    """The former leader considered the worker's node gone; the new one sees it."""
    harness.gone = {"test"}
    for _ in range(6):
        harness.clock.time += 1
        await harness.settle()
    await harness.build()
    assert await states(harness) == [State.QUEUED]
    harness.gone = set()
    await harness.restart()
    await harness.settle()
    assert await states(harness) == [State.RUNNING]


async def test_a_new_leader_applies_the_waiting_entries_in_its_first_turn(
    harness: EngineHarness,
) -> None:
    await harness.settle()
    ids = await harness.submit(*(harness.new(branch=str(n)) for n in range(5)))
    await harness.restart()
    assert await harness.engine.turn()
    assert [(await harness.look(id_)).state for id_ in ids].count(State.REGISTERED) == 0


async def test_a_new_leader_tells_every_worker_to_look_up_its_jobs(harness: EngineHarness) -> None:
    """The former leader may have ended between its commit and its hint."""
    await harness.settle()
    other = await harness.another_worker("v", 1)
    harness.told.clear()
    await harness.restart()
    assert harness.told == {harness.worker: "test", other.connection.worker: "test"}


async def test_a_worker_that_moved_to_another_node_is_told_there(harness: EngineHarness) -> None:
    await harness.settle()
    harness.told.clear()
    new = NewWorker("w", "w", "here", "B", ("default",))
    connected = await harness.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    await harness.ask(inbox.BoxesSet(harness.worker, rows, "B", connected.connection.number))
    await harness.settle()
    assert harness.told == {harness.worker: "B"}


async def test_only_workers_whose_jobs_changed_are_told_to_look(harness: EngineHarness) -> None:
    await harness.settle()
    await harness.another_worker("v", 1)
    harness.told.clear()
    await harness.build()
    (assignment,) = await harness.assignments()
    assert harness.told == {harness.worker: "test"}
    harness.told.clear()
    await harness.start([assignment])
    assert harness.told == {}
    await harness.finish(assignment)
    assert harness.told == {harness.worker: "test"}


async def test_a_reload_that_changes_nothing_commits_nothing(harness: EngineHarness) -> None:
    await harness.settle()
    before = await harness.store.batch_number(1)
    await harness.restart()
    await harness.settle()
    epoch, batch = await harness.store.batch_number(1)
    assert (epoch, batch) == (before[0] + 1, before[1])


async def test_an_in_process_worker_repeats_what_was_not_stored(
    harness: EngineHarness, tmp_path: Path
) -> None:
    away = False

    async def ask(shard: int, command: inbox.Command) -> None:
        if away:
            raise StoreAway("for a moment")
        await harness.ask(command)

    new = NewWorker("in", "in", "in-process", "test", ("default",) * 2, lost_after=120.0)
    local = LocalWorker(
        new, harness.store, AssignmentSecrets(harness.store, Vault(None)), ask, ask, harness.clock,
        folder=tmp_path / "in", driver="none", log_limit=1_000,
        stop_grace=1.0, cluster="c", lost_after=120.0, deadline=True,
        stages=Stages(harness.clock.monotonic), is_notified=lambda: True,
    )  # fmt: skip
    await local.connect()
    await harness.settle()
    had = set(harness.engine.books.boxes)  # type: ignore[union-attr]
    await harness.later(LOST_SECONDS)
    assert not harness.engine.books.boxes  # type: ignore[union-attr]
    away = True
    with pytest.raises(StoreAway):
        await local._beat(1.0)
    away = False
    await local._beat(2.0)
    await harness.settle()
    # type: ignore[union-attr]
    assert had >= set(harness.engine.books.boxes) == {row.id for row in local._connected.boxes}


async def test_a_node_that_does_not_lead_explains_jobs_that_its_leader_holds_back(
    harness: EngineHarness,
) -> None:
    """The leader gives nothing to a worker whose node is gone; the store does not show that."""
    harness.gone = {"test"}
    for _ in range(6):
        harness.clock.time += 1
        await harness.settle()
    build = await harness.build()
    assert await states(harness) == [State.QUEUED]
    seen = await Mirror(harness.store, 1, lambda node: node != "test").books()
    report = explain(seen, build, harness.clock.now())
    assert (report is not None and "not connected" in report.text) or "No worker" in report.text
    late = await Mirror(harness.store, 1, lambda node: True).books()
    report = explain(late, build, harness.clock.now())
    assert report is not None and report.reason == "needs_boxes"
    assert sentences(late, harness.clock.now())(build, State.QUEUED)


async def test_a_workload_that_arrives_during_an_answer_has_a_reason(
    harness: EngineHarness,
) -> None:
    books = harness.engine.books
    assert books is not None
    sentence = sentences(books, harness.clock.now())
    build = await harness.build(jobs=2)
    assert sentence(build, State.QUEUED)


async def test_a_sentence_is_only_given_for_the_state_that_it_describes(
    harness: EngineHarness,
) -> None:
    books = harness.engine.books
    assert books is not None
    build = await harness.build(jobs=2)
    sentence = sentences(books, harness.clock.now())
    assert sentence(build, State.QUEUED)
    assert sentence(build, State.RUNNING) is None  # as a store would hold it a moment later


async def test_a_job_whose_box_is_missing_in_the_store_affects_only_itself(
    harness: EngineHarness, tmp_path: Path
) -> None:
    """This should never happen, but otherwise no node could lead the shard again."""
    build = await harness.build()
    (lost,) = await harness.assignments()
    await harness.start([lost])
    with contextlib.closing(sqlite3.connect(tmp_path / "harness.sqlite")) as raw:
        raw.execute("DELETE FROM box WHERE id = ?", (lost.box,))
        harness.broken = True
        raw.commit()
    await harness.restart()
    await harness.connect(1)
    await harness.settle()
    (again,) = await harness.assignments()
    assert (again.workload, again.attempt) == (build, 2)
    assert again.box != lost.box and again.lease_token > lost.lease_token
    await harness.finish(again)
    assert (await harness.look(build)).result is Result.PASSED
    assert set(harness.engine.books.boxes) == {again.box}  # type: ignore[union-attr]


async def test_a_late_message_of_a_removed_worker_adds_no_boxes(harness: EngineHarness) -> None:
    connected = await harness.another_worker("v", 1)
    await harness.settle()
    await harness.store.disconnect_workers([connected.connection])
    worker, number = connected.connection.worker, connected.connection.number
    await harness.ask(inbox.WorkerForgotten(worker, number, "admin"))
    assert not await harness.store.forget_worker(connected.connection), (
        "the leader has not heard it"
    )
    await harness.settle()
    assert await harness.store.forget_worker(connected.connection)
    await harness.ask(boxes_set(connected))
    await harness.settle()
    assert not harness.engine.books.boxes_of(worker)  # type: ignore[union-attr]


async def forgotten(harness: EngineHarness, name: str) -> WorkerConnection:
    """A worker that was forgotten, and its row as it was before."""
    connection = (await harness.another_worker(name, 1)).connection
    await harness.store.disconnect_workers([connection])
    await harness.ask(inbox.WorkerForgotten(connection.worker, connection.number, "ada"))
    await harness.settle()
    return connection


async def test_a_forgotten_worker_is_no_longer_named(harness: EngineHarness) -> None:
    """Neither its leader, which may have read its row, nor an unchanged mirror names it."""
    assert harness.first is not None
    await harness.later(1, harness.first)
    waiting = await harness.build(jobs=9)
    old = await harness.another_worker("old", 1)
    await harness.store.disconnect_workers([old.connection])
    await harness.later(1, harness.first)
    mirror = Mirror(harness.store, 1, lambda node: True)
    books = harness.engine.books
    assert books is not None and "old" in books.names.values()
    await harness.ask(inbox.WorkerForgotten(old.connection.worker, old.connection.number, "ada"))
    await harness.settle()
    assert "old" not in books.names.values()
    await harness.later(1, harness.first)
    assert "old" not in books.names.values(), "its row is there, and it is forgotten"
    assert "old" in (await mirror.books()).names.values()
    assert await harness.store.forget_worker(old.connection)
    assert "old" not in (await mirror.books()).names.values()
    report = harness.why(waiting)
    assert report is not None and "old" not in report.text


async def test_the_number_of_remembered_connections_of_forgotten_workers_is_limited(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.engine.books.FORGOTTEN_KEPT", 2)
    assert harness.first is not None
    gone = []
    for number in range(5):
        gone.append(await forgotten(harness, f"v{number}"))
        assert await harness.store.forget_worker(gone[-1])
        await harness.later(1, harness.first)
    books = harness.engine.books
    assert books is not None
    assert set(books.connections) == {harness.worker, *(one.worker for one in gone[-2:])}
    assert set(books.names) == set(books.places) == {harness.worker}
