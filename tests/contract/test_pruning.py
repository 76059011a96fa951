"""Old data is deleted completely, except what is still needed."""

import asyncio
import time

import attrs
import pytest

from boxsched.model import JobId, WorkloadId, job_id
from boxsched.protocol.batches import DeployDue, DurationChange, Live
from boxsched.protocol.shards import SHARD, Project
from boxsched.states import Result
from boxsched.store.errors import InvariantRefused
from boxsched.store.operating.check import check
from boxsched.store.records import WorkloadFilter
from boxsched.store.steps.pruning import CutPlace, Pruned
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, build, deploy, event, key, loaded, spec
from tests.contract.test_versions import run

LATER = NOW + 1e6


async def ran(
    leader: Leader, project: Project, result: Result = Result.PASSED, **changes: object
) -> WorkloadId:
    done = await leader.submit(build(project, **changes))  # type: ignore[arg-type]
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.store.append_log([(JobId(done.id << 10), 1, 0, b"x" * 10)])
    await leader.finish(done.id, 0, result=result)
    return done.id


async def deployed(leader: Leader, project: Project, of: WorkloadId) -> WorkloadId:
    done = await leader.submit(deploy(project, build=of))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.finish(done.id, 0)
    await leader.commit(live=(Live(project.id, "production", done.id),))
    return done.id


async def said_last(leader: Leader) -> None:
    """The newest event stays: here it belongs to no workload."""
    await leader.commit(events=(event("project.changed", leader.now()),))


async def prune(store: Store, before: float = LATER, limit: int = 500) -> tuple[int, int]:
    """Delete everything, slice by slice; return the number of events and workloads."""
    events = workloads = 0
    while (done := await store.prune_history(SHARD, before, limit)).events:
        events += done.events
        workloads += done.workloads
    place: CutPlace | None = CutPlace()
    while place is not None:
        count, place = await store.prune_cut(place, before, limit)
        workloads += count
    return events, workloads


async def left(store: Store) -> list[WorkloadId]:
    return [one.id for one in (await store.workloads(WorkloadFilter())).workloads][::-1]


async def test_a_slice_says_what_it_has_deleted_and_whether_there_is_more(leader: Leader) -> None:
    project = await leader.project()
    for _ in range(2):
        await ran(leader, project, Result.FAILED, jobs=(spec(),))
    await said_last(leader)
    found = len(await leader.store.events_after(SHARD, 0, 0, 100))
    slices = [await leader.store.prune_history(SHARD, LATER, 5) for _ in range(3)]
    assert [one.more for one in slices] == [True, True, False]
    assert {one.logs for one in slices} == {0}, "those of its workloads are not counted"
    assert sum(one.workloads for one in slices) == 1, "the one of the greatest id stays"
    left = len(await leader.store.events_after(SHARD, 0, 0, 100))
    assert sum(one.events for one in slices) == found - left
    assert await leader.store.prune_history(SHARD, LATER, 500) == Pruned()


@pytest.mark.parametrize("limit", [1, 3, 7, 500])
async def test_a_workload_is_deleted_with_everything_that_belongs_to_it(
    leader: Leader, db: DatabaseUnderTest, limit: int
) -> None:
    project = await leader.project()
    ids = [await ran(leader, project, Result.FAILED, jobs=(spec(),)) for _ in range(5)]
    await said_last(leader)
    assert await prune(leader.store, limit=limit) == (5 * 5, 4)
    assert await left(leader.store) == ids[-1:], "the one of the greatest id stays"
    assert await check(db.url) == []
    assert len(await leader.store.events_after(SHARD, 0, 0, 100)) == 1
    assert await leader.store.workload(ids[0]) is None
    assert await leader.store.job_state(job_id(ids[0], 0)) is None
    assert await leader.store.log_end(job_id(ids[0], 0), 1) == 0
    assert await prune(leader.store) == (0, 0)
    again = await leader.submit(build(project))
    assert (again.id > ids[-1], again.number) == (True, 6)
    assert await check(db.url) == []


async def test_only_old_data_is_deleted(leader: Leader, db: DatabaseUnderTest) -> None:
    project = await leader.project()
    first = await ran(leader, project, Result.FAILED)
    before = leader.now()
    ids = [await ran(leader, project, Result.FAILED) for _ in range(2)]
    assert await prune(leader.store, before, 4) == (5, 1)
    assert await left(leader.store) == ids
    assert first not in ids
    assert (await leader.store.history_starts())[SHARD].at < before
    assert await check(db.url) == []


async def test_needed_data_stays_and_is_deleted_later(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project()
    live_build = await ran(leader, project, branch="live")
    live = await deployed(leader, project, live_build)
    await ran(leader, project)
    passed = await ran(leader, project)
    await ran(leader, project, Result.FAILED)
    named, repeated, due = [
        await ran(leader, project, Result.FAILED, branch=name) for name in ("a", "b", "c")
    ]
    waits = await leader.submit(deploy(project, build=named))
    again = await leader.submit(build(project, branch="other", rebuild_of=repeated))
    await leader.queue(waits.id, again.id)
    await leader.commit(deploys_due=(DeployDue(due, "staging"),))
    await said_last(leader)
    await prune(leader.store)
    stay = [live_build, live, passed, named, repeated, due, waits.id, again.id]
    assert await left(leader.store) == stay
    assert await check(db.url) == []
    # Later they are deleted, too.
    await leader.store.drop_due(DeployDue(due, "staging"))
    newest = await ran(leader, project)
    await leader.start(waits.id, 0)
    await leader.finish(waits.id, 0)
    await leader.commit(live=(Live(project.id, "production", waits.id),))
    await leader.start(again.id, 1)
    await leader.finish(again.id, 1, result=Result.FAILED)
    await said_last(leader)
    assert await check(db.url) == []
    await prune(leader.store)
    assert await left(leader.store) == [live_build, named, waits.id, newest], (
        "the last passed build of a branch, what is live, and its build"
    )
    assert await check(db.url) == []


async def test_nothing_of_a_deleted_project_stays(leader: Leader, db: DatabaseUnderTest) -> None:
    project, other = await leader.project("gone"), await leader.project("web")
    await deployed(leader, project, await ran(leader, project))
    newest = await ran(leader, other)
    assert await leader.store.delete_project("gone")
    await said_last(leader)
    await prune(leader.store)
    assert await left(leader.store) == [newest]
    assert await check(db.url) == []


async def test_a_shard_without_its_old_history_is_loaded_as_before(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project()
    durations = DurationChange(project.id, "test", (1.0, 2.0), 2.0)
    await ran(leader, project)
    waits = await leader.submit(build(project))
    await leader.queue(waits.id)
    await leader.commit(durations=(durations,))
    await said_last(leader)
    before = await loaded(leader.store)
    await prune(leader.store)
    after = await loaded(await db.reopen())
    assert after.workloads == before.workloads
    assert after.state.durations == before.state.durations
    assert attrs.evolve(after.state, pulses=()) == attrs.evolve(before.state, pulses=())


async def test_a_workload_can_continue_after_its_old_events_were_deleted(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    """It was queued and started long ago."""
    project = await leader.project()
    queued = await leader.submit(build(project, branch="q"))
    runs = await leader.submit(build(project, branch="r"))
    await leader.queue(queued.id, runs.id)
    await leader.start(runs.id, 0)
    await said_last(leader)
    await prune(leader.store)
    assert await check(db.url) == []
    await leader.start(queued.id, 1)
    assert await check(db.url) == []
    await leader.finish(runs.id, 0)
    await leader.finish(queued.id, 1)
    assert await check(db.url) == []


async def test_a_batch_is_deleted_as_a_whole(leader: Leader, db: DatabaseUnderTest) -> None:
    many = tuple(event("project.changed", leader.now()) for _ in range(40))
    await leader.commit(events=many)
    await said_last(leader)
    done = await leader.store.prune_history(SHARD, LATER, 10)
    assert (done.events, done.workloads) == (40, 0)
    assert await check(db.url) == []


async def test_the_newest_events_stay(leader: Leader) -> None:
    many = tuple(event("project.changed", leader.now()) for _ in range(40))
    await leader.commit(events=many)
    for limit in (1, 10, 40, 41, 500):
        assert (await leader.store.prune_history(SHARD, LATER, limit)).events == 0
    assert await leader.store.last_event(SHARD) == (leader.batch, 40)


async def test_young_events_cannot_be_deleted(leader: Leader) -> None:
    """The database refuses it, whatever a node asks, and nothing is deleted."""
    at = time.time() - 7 * 86_400
    await leader.commit(events=(event("project.changed", NOW), event("project.changed", at)))
    await said_last(leader)
    with pytest.raises(InvariantRefused):
        await leader.store.prune_history(SHARD, time.time(), 500)
    assert await leader.store.history_starts() == {}


async def test_two_nodes_that_prune_at_once_count_each_deletion_once(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project()
    for _ in range(20):
        await ran(leader, project, Result.FAILED)
    await said_last(leader)
    other = await db.open("other") if db.url.startswith("postgres") else leader.store
    found = await asyncio.gather(
        *(store.prune_history(SHARD, LATER, 500) for store in (leader.store, other) for _ in "ab")
    )
    assert sum(one.workloads for one in found) == 19
    assert await check(db.url) == []


async def test_an_idempotency_key_of_a_deleted_workload_counts_as_new(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project()
    await ran(leader, project, Result.FAILED, idempotency=key("k"))
    await ran(leader, project, Result.FAILED)
    await said_last(leader)
    await prune(leader.store)
    assert await check(db.url) == []
    again = await leader.submit(build(project, idempotency=key("k")))
    assert not again.repeated or again.id in await left(leader.store)


async def test_a_deleted_project_is_removed_in_the_end(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project("gone")
    await ran(leader, project, Result.FAILED)
    await ran(leader, await leader.project("web"), Result.FAILED)
    await leader.commit(inbox=await leader.take_inbox())
    assert await leader.store.delete_project("gone")
    assert await leader.project("gone")
    await said_last(leader)
    await prune(leader.store)
    assert (await leader.store.sweep_projects(project.id.__class__(0), 10)).dropped == 1
    assert await check(db.url) == []


# --- Logs ------------------------------------------------------------------------------------


async def prune_logs(leader: Leader, before: float, limit: int) -> int:
    after: int | None = 0
    dropped = 0
    while after is not None:
        count, after = await leader.store.prune_logs(after, before, limit)
        dropped += count
    return dropped


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_logs_of_old_workloads_are_deleted(
    leader: Leader, db: DatabaseUnderTest, limit: int
) -> None:
    project = await leader.project()
    old = [await ran(leader, project, branch=f"b{n}", created_at=NOW + n) for n in range(3)]
    waits = await leader.submit(build(project, branch="w", created_at=NOW + 3))
    await leader.store.append_log([(job_id(waits.id, 0), 1, 0, b"runs")])
    before = leader.now()
    young = await ran(leader, project, branch="y", created_at=leader.now())
    assert await prune_logs(leader, before, limit) == 3
    ends = [await leader.store.log_end(job_id(id_, 0), 1) for id_ in (*old, waits.id, young)]
    assert ends == [0, 0, 0, 4, 10]
    assert await prune_logs(leader, before, limit) == 0


async def test_a_long_log_is_deleted_from_its_end(leader: Leader, db: DatabaseUnderTest) -> None:
    """So the rest is always a log without a gap."""
    done = await ran(leader, await leader.project())
    job = job_id(done, 0)
    for n in range(1, 10):
        await leader.store.append_log([(job, 1, n * 10, b"y" * 10)])
    await leader.store.append_log([(job, 2, n * 10, b"z" * 10) for n in range(5)])
    after: int | None = 0
    sizes = []
    while after is not None:
        _, after = await leader.store.prune_logs(after, LATER, 3)
        sizes.append(sum([await leader.store.log_end(job, n) for n in (1, 2)]))
        assert await check(db.url) == []
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 0 and len(sizes) > 4


async def test_logs_of_deleted_workloads_are_deleted(leader: Leader, db: DatabaseUnderTest) -> None:
    """As after a crash between the two, in a program that used another order."""
    columns = "job, attempt, first_byte, end_byte, data"
    db.plant(f"INSERT INTO log_chunk ({columns}) VALUES (999424, 1, 0, 1, 'x')")
    assert await prune_logs(leader, NOW, 10) == 1


# --- Pages and ids ----------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [1, 3])
async def test_a_deleted_cursor_still_leads_to_the_next_page(leader: Leader, gone: int) -> None:
    """Between two pages: the next page has what follows it, once."""
    project = await leader.project()
    stays = await ran(leader, project, branch="stays")
    ids = [await ran(leader, project, Result.FAILED) for _ in range(4)]
    other = await ran(leader, await leader.project("other"), Result.FAILED)
    wanted = WorkloadFilter(project=project.id, limit=4 - gone)
    page = await leader.store.workloads(wanted)
    assert [one.id for one in page.workloads] == ids[::-1][: 4 - gone]
    assert page.next is not None
    await said_last(leader)
    await prune(leader.store)
    behind = await leader.store.workloads(attrs.evolve(wanted, before=page.next))
    assert [one.id for one in behind.workloads] == [stays]
    assert await left(leader.store) == [stays, other]


async def test_ids_of_deleted_workloads_differ_from_unknown_ids(leader: Leader) -> None:
    project = await leader.project()
    first = await ran(leader, project, Result.FAILED)
    last = await ran(leader, project, Result.FAILED)
    assert not await leader.store.was_given(first)
    await said_last(leader)
    await prune(leader.store)
    assert await leader.store.was_given(first)
    assert not await leader.store.was_given(WorkloadId(last + 1))


async def test_the_size_of_the_database_is_reported(store: Store, db: DatabaseUnderTest) -> None:
    size = await store.database_bytes()
    assert size > 100_000
    if db.url.startswith("sqlite"):
        run(db, "CREATE TABLE more (x TEXT); INSERT INTO more VALUES (hex(zeroblob(1000000)))")
        assert await store.database_bytes() > size + 1_000_000
