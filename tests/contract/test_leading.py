"""The leader: its fence, its batches, and what the schema refuses."""

import asyncio

import attrs
import pytest

from boxsched.errors import Fenced
from boxsched.model import WorkloadId, job_id
from boxsched.protocol.batches import BoxChange, SetAside
from boxsched.protocol.shards import SHARD
from boxsched.states import Result, State
from boxsched.store.errors import InvariantRefused
from boxsched.store.records import Submitted
from boxsched.store.store import Store
from tests.contract.store_data import (
    NOW,
    Leader,
    assigned,
    build,
    deploy,
    ended,
    event,
    finished,
    loaded,
    queued,
    running,
    spec,
    stop,
    stopping,
)

# --- The fence (I7, V2) ---------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "batch"), [(-1, 0), (1, 0), (0, -1), (0, 1)])
async def test_another_epoch_or_batch_is_refused_and_writes_nothing(
    leader: Leader, epoch: int, batch: int
) -> None:
    await leader.store.ask(SHARD, [stop(WorkloadId(1))])
    before = await leader.store.batch_number(SHARD)
    wrong = leader.next_batch(inbox=await leader.take_inbox(), events=(event("x", NOW),))
    wrong = attrs.evolve(wrong, epoch=wrong.epoch + epoch, batch=wrong.batch + batch)
    with pytest.raises(Fenced):
        await leader.store.commit(wrong)
    assert await leader.store.batch_number(SHARD) == before
    assert len(await leader.store.inbox(SHARD, 10)) == 1
    assert await leader.store.last_event(SHARD) == (0, 0)
    await leader.commit()  # the right batch is accepted


async def test_a_batch_deletes_only_its_own_commands(leader: Leader) -> None:
    await leader.store.ask(SHARD, [stop(WorkloadId(n)) for n in range(1, 6)])
    first, second, third, fourth, fifth = await leader.take_inbox()
    await leader.commit(inbox=(fifth, first, second))
    assert await leader.take_inbox() == (third, fourth)


async def test_a_repeated_batch_is_refused(leader: Leader) -> None:
    batch = leader.next_batch(events=(event("x", NOW),))
    await leader.store.commit(batch)
    with pytest.raises(Fenced):
        await leader.store.commit(batch)
    assert len(await leader.store.events_after(SHARD, 0, 0, 10)) == 1
    assert await leader.store.batch_number(SHARD) == (leader.epoch, leader.batch + 1)


async def test_a_new_leader_shuts_the_old_one_out(leader: Leader) -> None:
    new = await Leader(leader.store).lead(boxes=0)
    assert new.epoch == leader.epoch + 1
    assert new.batch == leader.batch
    with pytest.raises(Fenced):
        await leader.commit()
    await new.commit()


async def test_one_of_two_simultaneous_commits_of_a_batch_wins(leader: Leader) -> None:
    batch = leader.next_batch(events=(event("x", NOW),))
    outcomes = await asyncio.gather(
        *(leader.store.commit(batch) for _ in range(5)), return_exceptions=True
    )
    assert sorted(str(type(each).__name__) for each in outcomes) == ["Committed"] + ["Fenced"] * 4


async def test_an_unknown_shard_has_no_leader(store: Store) -> None:
    with pytest.raises(Fenced):
        await store.raise_epoch(77, "node")
    with pytest.raises(Fenced):
        await loaded(store, 77)


# --- All or nothing -------------------------------------------------------------------------


async def test_a_refused_batch_leaves_nothing_behind(leader: Leader) -> None:
    project = await leader.project()
    first, second = await leader.submit(build(project)), await leader.submit(build(project))
    entries = await leader.take_inbox()
    with pytest.raises(InvariantRefused):
        await leader.commit(
            inbox=entries,
            workloads=(queued(first.id, NOW), queued(second.id, NOW)),
            events=(event("x", NOW),),
        )
    assert await leader.take_inbox() == entries
    assert {w.state for w in await leader.store.unfinished()} == {State.REGISTERED}
    assert await leader.store.batch_number(SHARD) == (leader.epoch, leader.batch)
    await leader.queue(first.id)


@pytest.mark.parametrize("past", [queued, running, stopping])
async def test_a_lane_has_one_workload_past_ordering(leader: Leader, past) -> None:
    project = await leader.project()
    done = [await leader.submit(deploy(project)) for _ in range(2)]
    await leader.queue(done[0].id)
    with pytest.raises(InvariantRefused):
        await leader.commit(workloads=(past(done[1].id, NOW),))


async def test_different_lanes_do_not_conflict(leader: Leader) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    new = [
        build(web, "main"),
        build(web, None, tag="main"),
        deploy(web, "main"),
        build(web, "Main"),
        build(app, "main"),
    ]
    outcomes = await leader.store.submit(new)
    await leader.queue(*(o.id for o in outcomes if isinstance(o, Submitted)))
    assert {w.state for w in await leader.store.unfinished()} == {State.QUEUED}


async def test_one_batch_ends_a_workload_and_starts_the_next_of_its_lane_on_its_box(
    leader: Leader,
) -> None:
    project = await leader.project()
    first, second = await leader.submit(build(project)), await leader.submit(build(project))
    await leader.queue(first.id)
    token = leader.batch + 1
    await leader.start(first.id, 0)
    box = leader.boxes[0].id
    now = leader.now()
    jobs = [job_id(each.id, 0) for each in (first, second)]
    await leader.commit(
        ended=(finished(first.id, now),),
        workloads=(running(second.id, now),),
        jobs=(
            ended(jobs[0], box, token, now, Result.PASSED),
            assigned(jobs[1], box, leader.batch + 1),
        ),
        freed=(BoxChange(box, None, project.id, "main", now),),
        taken=(BoxChange(box, jobs[1], project.id, "main", now),),
    )
    (assignment,) = await leader.assignments()
    assert assignment.job == jobs[1]
    assert (await leader.store.boxes())[0].last_branch == "main"


async def test_a_box_runs_one_job(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(build(project, jobs=(spec(), spec("lint"))))
    await leader.queue(done.id)
    job = job_id(done.id, 0)
    with pytest.raises(InvariantRefused):
        await leader.commit(
            taken=tuple(BoxChange(box.id, job, None, None, NOW) for box in leader.boxes[:2])
        )


@pytest.mark.parametrize(
    "change",
    [
        {"state": State.FINISHED},
        {"state": State.FINISHED, "result": Result.PASSED},
        {"state": State.RUNNING},
        {"state": State.RUNNING, "started_at": NOW},
        {"state": State.QUEUED},
        {"state": State.REGISTERED, "queued_at": NOW},
        {"state": State.STOPPING, "queued_at": NOW, "started_at": NOW},
        {"state": State.FINISHED, "result": Result.REFUSED, "finished_at": NOW},
        {
            "state": State.FINISHED,
            "result": Result.CANCELED,
            "queued_at": NOW,
            "started_at": NOW,
            "finished_at": NOW,
        },
    ],
    ids=str,
)
async def test_a_state_that_contradicts_its_times_is_refused(
    leader: Leader, change: dict[str, object]
) -> None:
    done = await leader.submit(build(await leader.project()))
    nothing = attrs.evolve(queued(done.id, NOW), queued_at=None)
    part = "ended" if change["state"] is State.FINISHED else "workloads"
    with pytest.raises(InvariantRefused):
        await leader.commit(**{part: (attrs.evolve(nothing, **change),)})


# --- Events ---------------------------------------------------------------------------------


async def test_events_are_numbered_by_their_batch_and_read_in_order(leader: Leader) -> None:
    start = leader.batch
    for count in (2, 0, 3):
        await leader.commit(events=tuple(event(f"t{i}", NOW) for i in range(count)))
    assert await leader.store.last_event(SHARD) == (start + 3, 3)
    found = await leader.store.events_after(SHARD, 0, 0, 100)
    assert [(e.shard, e.batch, e.n, e.type) for e in found] == [
        (SHARD, start + 1, 1, "t0"),
        (SHARD, start + 1, 2, "t1"),
        (SHARD, start + 3, 1, "t0"),
        (SHARD, start + 3, 2, "t1"),
        (SHARD, start + 3, 3, "t2"),
    ]
    assert found[0].data == event("t0", NOW).data
    assert await leader.store.events_after(SHARD, start + 1, 1, 2) == found[1:3]
    assert await leader.store.events_after(SHARD, start + 3, 3, 10) == []
    assert await leader.store.events_after(2, 0, 0, 10) == []


async def test_a_batch_may_have_many_events(leader: Leader) -> None:
    await leader.commit(events=tuple(event("t", NOW, number=i) for i in range(1001)))
    found = await leader.store.events_after(SHARD, 0, 0, 2000)
    assert [e.n for e in found] == list(range(1, 1002))


# --- Commands that are set aside ------------------------------------------------------------


async def test_a_submission_that_is_set_aside_never_runs(leader: Leader) -> None:
    project = await leader.project()
    good = await leader.submit(build(project))
    entries = await leader.take_inbox()
    await leader.commit(inbox=entries)
    bad = await leader.submit(build(project, jobs=(spec("a"), spec("b"))))
    (entry,) = await leader.store.inbox(SHARD, 10)
    assert entry.workload == bad.id
    aside = SetAside(entry.id, entry.kind, "KeyError: 7", NOW, bad.id)
    await leader.commit(inbox=(entry.id,), set_aside=(aside,))
    ended = await leader.store.workload(bad.id)
    assert ended is not None
    assert (ended.state, ended.result, ended.finished_at) == (
        State.FINISHED, Result.CANCELED, NOW,
    )  # fmt: skip
    assert ended.reason == "its submission was set aside: KeyError: 7"
    assert {(job.state, job.result) for job in ended.jobs} == {("finished", "canceled")}
    assert [one.id for one in await leader.store.unfinished()] == [good.id]
    (kept,) = await leader.store.set_aside(10)
    assert (kept.id, kept.payload.encode(), kept.workload) == (entry.id, entry.payload, bad.id)
    assert [one.id for one in (await loaded(leader.store)).workloads] == [good.id]


async def test_a_stop_that_is_set_aside_leaves_its_workload(leader: Leader) -> None:
    done = await leader.submit(build(await leader.project()))
    await leader.commit(inbox=await leader.take_inbox())
    await leader.store.ask(SHARD, [stop(done.id), stop(done.id)])
    entries = await leader.store.inbox(SHARD, 10)
    aside = tuple(SetAside(one.id, one.kind, "raised", NOW, done.id) for one in entries)
    await leader.commit(inbox=[one.id for one in entries], set_aside=aside)
    assert [one.id for one in await leader.store.unfinished()] == [done.id]
    kept = await leader.store.set_aside(10, done.id)
    assert [one.id for one in kept] == [one.id for one in reversed(entries)]
    assert len(await leader.store.set_aside(1)) == 1
    assert await leader.store.set_aside(10, WorkloadId(77)) == []
    assert await leader.store.drop_set_aside(kept[0].id)
    assert not await leader.store.drop_set_aside(kept[0].id)
    assert len(await leader.store.set_aside(10)) == 1
