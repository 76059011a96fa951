"""What is loaded by a leader, or by a node that explains."""

import asyncio
import threading
from concurrent.futures import Future

import attrs
import pytest

from boxsched.errors import Fenced, StoreAway
from boxsched.model import ProjectId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.batches import DurationChange
from boxsched.protocol.shards import SHARD, ShardState
from boxsched.states import State
from boxsched.store.records import Submitted
from boxsched.store.steps import loading
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import (
    NOW,
    Leader,
    Loaded,
    build,
    finished,
    key,
    loaded,
    queued,
    spec,
    stop,
    worker,
)


async def test_a_new_leader_finds_all_unfinished_work(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    over, live, waiting, new = [
        await leader.submit(build(project, jobs=(spec(), spec("lint", 60.0)))) for _ in range(4)
    ]
    await leader.queue(over.id)
    await leader.start(over.id, 0, 1)
    durations = (DurationChange(project.id, "test", (1.1, 2.2), 2.0),)
    await leader.finish(over.id, 0, 1, durations=durations)
    await leader.queue(live.id)
    at = await leader.start(live.id, 2, 3)
    late = await leader.submit(build(project))

    store = await db.reopen()
    assert await store.raise_epoch(SHARD, "node-2") == leader.epoch + 1
    found = await loaded(store)
    state = found.state
    assert (state.shard, state.epoch, state.batch) == (SHARD, leader.epoch + 1, leader.batch)
    assert state.organization == await store.organization()
    assert state.projects == (project,)
    assert state.durations == {(project.id, "test"): (1.1, 2.2)}
    assert [box.id for box in state.boxes] == [box.id for box in leader.boxes]
    assert [box.job for box in state.boxes] == [None, None, job_id(live.id, 0), job_id(live.id, 1)]
    assert not any(box.retired for box in state.boxes)
    assert state.pulses == tuple(await store.pulses(SHARD))
    assert [(w.id, w.state) for w in found.workloads] == [
        (live.id, State.RUNNING),
        (waiting.id, State.REGISTERED),
        (new.id, State.REGISTERED),
    ], "what is still in the inbox comes from there"
    first = found.workloads[0]
    assert (first.number, first.branch, first.priority) == (2, "main", 50)
    assert (first.created_at, first.started_at) == (NOW, at)
    test, lint = first.jobs
    assert (test.name, lint.name, lint.timeout_seconds) == ("test", "lint", 60.0)
    assert (test.box, test.attempt, test.lease_token) == (leader.boxes[2].id, 1, leader.batch)
    (entry,) = await store.inbox(SHARD, 10)
    assert str(late.id).encode() in entry.payload


async def test_a_promise_to_the_head_outlives_its_leader(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    head, other = [await leader.submit(build(project)) for _ in range(2)]
    at = await leader.queue(head.id)
    promised = attrs.evolve(queued(head.id, at), promise=NOW + 1 / 3)
    await leader.commit(workloads=(promised,))
    found = await loaded(await db.reopen())
    assert [(w.id, w.promise) for w in found.workloads] == [
        (head.id, NOW + 1 / 3),  # to the last digit
        (other.id, None),
    ]


async def test_loading_changes_nothing(leader: Leader) -> None:
    before = await leader.store.shards()
    await loaded(leader.store)
    assert await leader.store.shards() == before
    await leader.commit()


async def test_boxes_are_added_retired_and_removed(leader: Leader) -> None:
    one, two, three, _ = (box.id for box in leader.boxes)
    await leader.commit(retired=(one, two), gone=(two, three))
    assert [(box.id, box.retired) for box in (await loaded(leader.store)).state.boxes] == [
        (one, True),
        (two, True),
        (three, True),  # its row stays: a worker may just have been told of it
        (leader.boxes[3].id, False),
    ]
    assert [box.id for box in await leader.store.boxes()] == [leader.boxes[3].id]


async def test_an_empty_shard_has_its_organization_and_one_without_has_none(store: Store) -> None:
    await store.open_shards(2)
    first, second = (await loaded(store, 1)), (await loaded(store, 2))
    assert first.state.organization == await store.organization()
    assert second.state == ShardState(2, 0, 0, None, (), (), {}, ())
    assert first.workloads == second.workloads == []


# --- Pages ----------------------------------------------------------------------------------


async def test_pages_are_complete_and_without_duplicates(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when all pages are small."""
    monkeypatch.setattr(loading, "PAGE_ROWS", 2)
    monkeypatch.setattr(loading, "PAGE_WORKLOADS", 7)
    monkeypatch.setattr(loading, "PAGE_JOBS", 5)
    projects = [await leader.project(f"p{i}") for i in range(5)]
    group = [
        build(projects[i % 5], f"b{i}", jobs=tuple(spec(f"j{j}") for j in range(1 + i % 3)))
        for i in range(30)
    ]
    done = [o for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    ended = {done[3].id, done[4].id, done[20].id}
    entries = await leader.store.inbox(SHARD, 1000)
    waits = {o.id for o in done[::7]} - ended
    of_waiting = {
        each.id
        for each in entries
        if isinstance(told := inbox.read(each.kind, each.payload), inbox.Submit)
        and told.workload in waits
    }
    await leader.commit(
        inbox=tuple(each.id for each in entries if each.id not in of_waiting),
        ended=tuple(finished(id_, NOW) for id_ in sorted(ended)),
        durations=tuple(
            DurationChange(project.id, f"j{j}", (1.0 + j,), 1.0 + j)
            for project in projects
            for j in range(3)
        ),
    )
    assert len(of_waiting) == len(waits)
    found = await loaded(leader.store)
    assert [w.id for w in found.workloads] == [o.id for o in done if o.id not in ended | waits]
    assert [len(w.jobs) for w in found.workloads] == [
        1 + i % 3 for i, o in enumerate(done) if o.id not in ended | waits
    ]
    assert max(found.pages) <= 7
    assert found.state.projects == tuple(await leader.store.projects())
    assert [box.id for box in found.state.boxes] == [box.id for box in leader.boxes]
    assert found.state.durations == {
        (project.id, f"j{j}"): (1.0 + j,) for project in projects for j in range(3)
    }


class InterruptedLoad(Loaded):
    """Writes something during the load."""

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self.leader = leader
        self.loop = asyncio.get_running_loop()
        self.written: Future[None] | None = None

    def begin(self, state: ShardState) -> None:
        super().begin(state)
        self.written = asyncio.run_coroutine_threadsafe(self._write(), self.loop)

    async def _write(self) -> None:
        await self.leader.submit(build(await self.leader.project(), "new"))
        await self.leader.commit(inbox=await self.leader.take_inbox())


async def test_a_load_sees_one_moment_while_others_write(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PAGE_WORKLOADS", 1)
    project = await leader.project()
    done = [await leader.submit(build(project, f"b{i}")) for i in range(200)]
    await leader.commit(inbox=await leader.take_inbox())
    found = InterruptedLoad(leader)
    await leader.store.load(SHARD, found)
    assert found.written is not None
    await asyncio.wrap_future(found.written)
    assert [w.id for w in found.workloads] == [o.id for o in done]
    assert found.state.batch == leader.batch - 1


class FailingLoad(Loaded):
    def add(self, workloads: object) -> None:
        raise ZeroDivisionError


async def test_an_interrupted_load_leaves_the_store_consistent(leader: Leader) -> None:
    project = await leader.project()
    await leader.submit(build(project))
    await leader.commit(inbox=await leader.take_inbox())
    for _ in range(12):
        with pytest.raises(ZeroDivisionError):
            await leader.store.load(SHARD, FailingLoad())
        with pytest.raises(Fenced):
            await leader.store.load(77, Loaded())
    assert len((await loaded(leader.store)).workloads) == 1


async def test_no_page_has_many_more_jobs_than_its_limit(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PAGE_JOBS", 5)
    project = await leader.project()
    three = tuple(spec(f"j{n}") for n in range(3))
    group = [build(project, f"b{n}", jobs=three if n < 5 else (spec(),)) for n in range(10)]
    await leader.store.submit(group)
    await leader.commit(inbox=await leader.take_inbox())
    found = await loaded(leader.store)
    assert [len(one.jobs) for one in found.workloads] == [3] * 5 + [1] * 5
    assert found.pages == [2, 2, 3, 3], "5 jobs or the first more than that"


class CancelledLoad(Loaded):
    """Its task is cancelled during the load; it waits for the task's end in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def begin(self, state: ShardState) -> None:
        super().begin(state)
        self.task.get_loop().call_soon_threadsafe(self.task.cancel)
        if threading.current_thread() is not threading.main_thread():
            assert self.ended.wait(20)

    task: asyncio.Task[None]


async def test_a_cancelled_load_makes_no_more_calls(leader: Leader) -> None:
    project = await leader.project()
    await leader.store.submit([build(project, f"b{i}") for i in range(10)])
    await leader.commit(inbox=await leader.take_inbox())
    found = CancelledLoad()
    found.task = asyncio.create_task(leader.store.load(SHARD, found))
    found.task.add_done_callback(lambda _: found.ended.set())
    with pytest.raises(asyncio.CancelledError):
        await found.task
    heard = len(found.workloads)
    assert len((await loaded(leader.store)).workloads) == 10
    assert len(found.workloads) == heard


async def test_a_closed_store_is_not_loaded(db: DatabaseUnderTest) -> None:
    store = await db.open()
    await db.close()
    with pytest.raises(StoreAway):
        await store.load(SHARD, Loaded())


# --- Several shards -------------------------------------------------------------------------

OTHER = """
INSERT INTO organization (id, name, policy, max_boxes, shard) VALUES (2, 'other', 'strict', 3, 2);
INSERT INTO project (id, name, settings, version, next_number, deleted, organization)
VALUES (1001, 'theirs', '{}', 1, 1, FALSE, 2);
INSERT INTO job_history (project, job_name, recent, expected_seconds)
VALUES (1001, 'test', '[7.5]', 7.5);
"""


async def test_workloads_of_another_shard_are_loaded_only_there(db: DatabaseUnderTest) -> None:
    store = await db.open()
    await store.open_shards(2)
    db.plant(OTHER)
    ours = await Leader(store).lead()
    mine = await ours.project()
    theirs = attrs.evolve(mine, id=ProjectId(1001), name="theirs")
    connected = await store.connect_worker(worker("theirs", "mac", organization=2))
    assert connected.shard == 2
    outcomes = await store.submit([build(mine), build(theirs), build(mine, "x")])
    one, two, three = (o for o in outcomes if isinstance(o, Submitted))

    told = {shard: await store.inbox(shard, 10) for shard in (1, 2)}
    assert [each.kind for each in told[1]] == ["project", "submit", "submit"]
    assert [each.kind for each in told[2]] == ["submit"]
    assert (await loaded(store, 2)).workloads == [], "it is in the inbox"
    await ours.commit(inbox=await ours.take_inbox())
    epoch = await store.raise_epoch(2, "node-2")
    await store.commit(
        attrs.evolve(ours.next_batch(), shard=2, epoch=epoch, batch=0, inbox=(told[2][0].id,))
    )

    first, second = await loaded(store, 1), await loaded(store, 2)
    assert [w.id for w in first.workloads] == [one.id, three.id]
    assert [w.id for w in second.workloads] == [two.id]
    assert first.state.organization == await store.organization()
    assert second.state.organization is not None
    assert (second.state.organization.name, second.state.organization.shard) == ("other", 2)
    assert [p.name for p in first.state.projects] == ["web"]
    assert [p.name for p in second.state.projects] == ["theirs"]
    assert [box.box_type for box in second.state.boxes] == ["mac"]
    assert {box.box_type for box in first.state.boxes} == {"default"}
    assert second.state.durations == {(theirs.id, "test"): (7.5,)}
    assert first.state.durations == {}
    assert [p.worker for p in second.state.pulses] == [connected.connection.worker]
    assert [p.worker for p in first.state.pulses] == [ours.worker]
    assert (second.state.epoch, second.state.batch) == (1, 1)


async def test_a_stop_finds_the_shard_of_its_workload(db: DatabaseUnderTest) -> None:
    store = await db.open()
    await store.open_shards(2)
    db.plant(OTHER)
    leader = await Leader(store).lead(boxes=0)
    theirs = attrs.evolve(await leader.project(), id=ProjectId(1001))
    done = await leader.submit(build(theirs))
    stop_it = (inbox.Stop(done.id, "ada"), done.id, done.number, key("k"))
    assert await store.ask_once(*stop_it) == Submitted(done.id, done.number, repeated=False)
    assert await store.ask_once(*stop_it) == Submitted(done.id, done.number, repeated=True)
    assert [each.kind for each in await store.inbox(2, 10)] == ["submit", "stop"]
    await store.ask(2, [stop(done.id)])
    assert len(await store.inbox(2, 10)) == 3
    assert [each.kind for each in await store.inbox(1, 10)] == ["project"]
