"""The engine over a real store: what a turn writes, and what a restart reads."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import msgspec
import pytest

from boxsched.errors import Fenced, StoreAway
from boxsched.model import Cancellation, job_id
from boxsched.protocol import inbox
from boxsched.states import JobState, Result, State
from boxsched.store.records import JobSpec
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=8)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


async def test_the_third_of_three_builds_of_four_jobs_waits(shop: Shop) -> None:
    ids = await shop.submit(*(shop.new(branch=b, jobs=4) for b in "abc"))
    await shop.settle()
    states = [(await shop.look(id_)).state for id_ in ids]
    assert states == [State.RUNNING, State.RUNNING, State.QUEUED]
    report = shop.why(ids[2])
    assert report is not None
    assert (report.reason, report.needs, report.free) == (
        "needs_boxes", {"default": 4}, {"default": 0},
    )  # fmt: skip
    assert {b.id for b in report.blocked_by} == set(ids[:2])
    assert report.position == 1
    assert "Needs 4 Boxes; 0 free now." in report.text


async def test_a_job_runs_and_its_workload_finishes(shop: Shop) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    shop.clock.time += 1
    await shop.start([assignment])
    assert (await shop.look(id_)).jobs[0].state is JobState.RUNNING
    shop.clock.time += 7
    await shop.finish(assignment)
    done = await shop.look(id_)
    assert (done.state, done.result) == (State.FINISHED, Result.PASSED)
    job = done.jobs[0]
    assert job.started_at is not None and job.finished_at is not None
    assert job.finished_at - job.started_at == 7
    assert await shop.assignments() == []


async def test_an_old_lease_token_changes_nothing(shop: Shop) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    await shop.finish(assignment, token=assignment.lease_token - 1)
    assert (await shop.look(id_)).state is State.RUNNING
    await shop.finish(assignment)
    await shop.finish(assignment, Result.FAILED)  # late, and doubled
    assert (await shop.look(id_)).result is Result.PASSED


async def test_lease_tokens_grow_along_a_lane(shop: Shop) -> None:
    tokens = []
    for _ in range(3):
        await shop.build()
        (assignment,) = await shop.assignments()
        tokens.append(assignment.lease_token)
        await shop.finish(assignment)
    assert tokens == sorted(set(tokens))


async def test_a_stop_is_asked_of_the_worker_and_holds_the_lane_until_the_job_ends(
    shop: Shop,
) -> None:
    first = await shop.build()
    second = await shop.build()
    await shop.start(await shop.assignments())
    await shop.stop(first)
    assert (await shop.look(first)).state is State.STOPPING
    (assignment,) = await shop.assignments()
    assert assignment.stop
    assert (await shop.look(second)).state is State.REGISTERED
    await shop.finish(assignment, Result.STOPPED)
    assert (await shop.look(first)).result is Result.STOPPED
    assert (await shop.look(second)).state is State.RUNNING


async def test_a_waiting_workload_is_canceled_with_its_jobs(shop: Shop) -> None:
    await shop.build()
    waiting = await shop.build(jobs=2)
    await shop.stop(waiting)
    found = await shop.look(waiting)
    assert (found.result, found.queued_at, found.started_at) == (Result.CANCELED, None, None)
    assert [(j.state, j.result) for j in found.jobs] == [(JobState.FINISHED, Result.CANCELED)] * 2


async def test_a_new_build_stops_the_running_one_and_takes_its_lane_when_it_has_ended(
    shop: Shop,
) -> None:
    old = await shop.build(cancellation=Cancellation.ALL)
    new = await shop.build(cancellation=Cancellation.ALL)
    (assignment,) = await shop.assignments()
    assert assignment.stop
    assert (await shop.look(new)).state is State.REGISTERED
    await shop.finish(assignment, Result.STOPPED)
    assert (await shop.look(old)).result is Result.STOPPED
    assert (await shop.look(new)).state is State.RUNNING


async def test_fail_fast_stops_the_others_and_fails(shop: Shop) -> None:
    id_ = await shop.build(jobs=3, fail_fast=True)
    assignments = await shop.assignments()
    await shop.start(assignments)
    await shop.finish(assignments[0], Result.FAILED)
    assert (await shop.look(id_)).state is State.STOPPING
    for assignment in assignments[1:]:
        await shop.finish(assignment, Result.STOPPED)
    assert (await shop.look(id_)).result is Result.FAILED


async def test_a_job_past_its_time_limit_is_ended_and_fails_also_after_a_restart(
    shop: Shop,
) -> None:
    id_ = await shop.build(timeout=60.0)
    await shop.start(await shop.assignments())
    await shop.restart()
    assert shop.first is not None
    await shop.later(70, shop.first)
    assert not (await shop.assignments())[0].stop  # the worker has a while to do it by itself
    await shop.later(20, shop.first)
    (assignment,) = await shop.assignments()
    assert assignment.stop
    await shop.restart()
    await shop.finish(assignment, Result.STOPPED)
    done = await shop.look(id_)
    assert (done.result, done.jobs[0].reason) == (Result.FAILED, "time limit of 60 s")


async def test_durations_are_learned_and_stored_at_registration(shop: Shop) -> None:
    for seconds in (3.0, 9.0, 4.0):
        await shop.build()
        (assignment,) = await shop.assignments()
        await shop.start([assignment])
        shop.clock.time += seconds
        await shop.finish(assignment)
    id_ = await shop.build()
    assert (await shop.look(id_)).jobs[0].expected_seconds == pytest.approx(4.0)


async def test_boxes_come_and_go_with_their_worker(shop: Shop) -> None:
    id_ = await shop.build(jobs=8)
    await shop.connect(2)
    await shop.settle()
    assert sum(box.retired for box in await shop.store.boxes()) == 6
    for assignment in await shop.assignments():
        await shop.finish(assignment)
    assert (await shop.look(id_)).result is Result.PASSED
    assert len(await shop.store.boxes()) == 2
    three = await shop.build(jobs=3)
    report = shop.why(three)
    assert report is not None and report.reason == "no_such_boxes"
    await shop.connect(4)
    await shop.settle()
    assert (await shop.look(three)).state is State.RUNNING


async def test_a_worker_that_is_back_with_its_boxes_keeps_them(shop: Shop) -> None:
    await shop.build(jobs=8)
    await shop.connect(2)
    await shop.settle()
    await shop.connect(8)
    await shop.settle()
    assert not any(box.retired for box in await shop.store.boxes())
    for assignment in await shop.assignments():
        await shop.finish(assignment)
    await shop.restart()
    second = await shop.build(jobs=8)
    assert (await shop.look(second)).state is State.RUNNING


async def test_boxes_that_go_and_come_in_one_turn_stay(shop: Shop) -> None:
    await shop.connect(7)
    await shop.connect(8)
    await shop.settle()
    assert len(await shop.store.boxes()) == 8
    await shop.restart()
    id_ = await shop.build(jobs=8)
    await shop.restart()
    assert (await shop.look(id_)).state is State.RUNNING
    assert len(await shop.assignments()) == 8


async def test_a_build_over_a_reduced_limit_blocks_no_other(shop: Shop) -> None:
    blocked = await shop.build(jobs=8, branch="x")
    large = await shop.build(jobs=4, branch="y")
    await shop.project("web", 2)
    await shop.settle()
    for assignment in await shop.assignments():
        await shop.finish(assignment)
    small = await shop.build(branch="z")
    assert (await shop.look(blocked)).result is Result.PASSED
    assert (await shop.look(small)).state is State.RUNNING
    report = shop.why(large)
    assert report is not None and report.reason == "project_limit"
    assert "it can never start" in report.text


async def test_a_clock_that_was_set_back_continues_from_where_it_was(shop: Shop) -> None:
    await shop.build()
    await shop.start(await shop.assignments())
    before = shop.clock.time
    shop.clock.time -= 3_600
    await shop.restart()
    assert shop.clock.now() >= before
    shop.clock.time += 5
    (assignment,) = await shop.assignments()
    await shop.finish(assignment)
    assert shop.engine.books is not None
    assert list(shop.engine.books.durations.values()) == [(pytest.approx(5.0, abs=1e-4),)]


async def test_many_jobs_are_taken_in_several_turns(shop: Shop) -> None:
    await shop.submit(*(shop.new(branch=f"b{n}", jobs=900) for n in range(3)))
    assert await shop.engine.turn()
    assert len(await shop.store.inbox(1, 10)) == 1
    await shop.settle()
    assert await shop.store.inbox(1, 10) == []


async def test_a_build_without_a_commit_learns_it_from_its_jobs(shop: Shop) -> None:
    id_ = await shop.build(jobs=2)
    for assignment, commit in zip(await shop.assignments(), ("a" * 40, "b" * 40), strict=True):
        await shop.report(
            inbox.JobFinished(
                assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None, commit
            )
        )
    assert (await shop.look(id_)).commit == "a" * 40


async def test_a_commit_that_is_fixed_is_shown_at_once(shop: Shop) -> None:
    id_ = await shop.build(jobs=2)
    one, other = await shop.assignments()
    fix = shop.store.fix_commit
    for assignment, commit in ((one, "a" * 40), (other, "b" * 40)):
        assert await fix(assignment.job, assignment.lease_token, commit) == "a" * 40
    await shop.settle()
    (event,) = [e for e in shop.events if e.type == "workload.commit"]
    told = msgspec.json.decode(event.data)
    assert (told["workload"], told["commit"]) == (f"w{id_}", "a" * 40)
    for assignment in (one, other):
        await shop.finish(assignment)
    assert (await shop.look(id_)).commit == "a" * 40


async def test_a_box_is_warm_for_its_project_and_branch_also_after_a_restart(shop: Shop) -> None:
    await shop.project("api")
    await shop.submit(*(shop.new(branch=b) for b in "ab"), shop.new("api", branch="a"))
    await shop.settle()
    boxes = {}
    for assignment in await shop.assignments():
        boxes[assignment.project, assignment.branch] = assignment.box
        await shop.finish(assignment)
    await shop.restart()
    await shop.submit(shop.new("api", branch="x"), shop.new(branch="b"))
    await shop.settle()
    taken = {(a.project, a.branch): a.box for a in await shop.assignments()}
    assert taken["web", "b"] == boxes["web", "b"]
    assert taken["api", "x"] == boxes["api", "a"]


async def test_two_engines_one_is_fenced(shop: Shop) -> None:
    former = shop.engine
    await shop.restart()
    await shop.submit(shop.new())
    with pytest.raises(Fenced):
        await former.turn()
    await shop.settle()
    assert len(await shop.running()) == 1


async def test_a_commit_that_fails_reserves_nothing(shop: Shop, tmp_path: Path) -> None:
    """GANG-09: persisting fails every time; nothing leaks, however many attempts are made."""
    (id_,) = await shop.submit(shop.new(jobs=8))
    commit = shop.store.commit

    async def refused(batch: object, *more: object) -> None:
        raise StoreAway("the disk is full")

    shop.store.commit = refused  # type: ignore[method-assign, assignment]
    for _ in range(5):
        with pytest.raises(StoreAway):
            await shop.engine.turn()
        await shop.restart()
    assert (await shop.look(id_)).state is State.REGISTERED
    assert all(box.job is None for box in await shop.store.boxes())
    shop.store.commit = commit  # type: ignore[method-assign]
    await shop.settle()
    assert (await shop.look(id_)).state is State.RUNNING


async def test_events_are_gapless_and_published_as_stored(shop: Shop) -> None:
    await shop.build()
    await shop.finish((await shop.assignments())[0])
    stored = await shop.store.events_after(1, 0, 0, 1000)
    assert [(e.batch, e.n, e.data) for e in stored] == [(e.batch, e.n, e.data) for e in shop.events]
    by_batch: dict[int, list[int]] = {}
    for event in stored:
        by_batch.setdefault(event.batch, []).append(event.n)
    assert all(ns == list(range(1, len(ns) + 1)) for ns in by_batch.values())
    types = [event.type for event in stored if event.type.startswith("workload.")]
    assert types == [f"workload.{t}" for t in ("registered", "queued", "started", "finished")]
    finished = msgspec.json.decode(stored[-1].data)
    assert finished["capacity"] == {"total": 8, "busy": 0}


async def test_a_stop_of_an_unknown_or_finished_workload_changes_nothing(shop: Shop) -> None:
    id_ = await shop.build()
    await shop.finish((await shop.assignments())[0])
    await shop.stop(id_)
    await shop.stop(type(id_)(999_999))
    await shop.report(inbox.JobFinished(job_id(id_, 7), 1, 0.0, Result.PASSED, 0, None))
    assert (await shop.look(id_)).result is Result.PASSED


async def test_the_database_is_whole_afterwards(tmp_path: Path) -> None:
    shop = await Shop.open(tmp_path, boxes=8)
    await shop.project("web")
    for branch in "abcdefgh":
        await shop.build(branch=branch, jobs=2)
    for assignment in (await shop.assignments())[:5]:
        await shop.finish(assignment)
    await shop.close()
    with sqlite3.connect(tmp_path / "shop.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_changed_queue_settings_are_valid_from_the_next_turn_on(shop: Shop) -> None:
    """A node was started with another plan, while this one leads."""
    organization = await shop.store.organization()
    await shop.store.set_organization(attrs.evolve(organization, max_boxes=1))
    assert await shop.engine.turn()
    assert not shop.engine.leads
    await shop.engine.load()
    ids = await shop.submit(*(shop.new(branch=branch) for branch in "ab"))
    await shop.settle()
    states = [(await shop.look(id_)).state for id_ in ids]
    assert states == [State.RUNNING, State.QUEUED]


async def test_so_many_job_names_are_remembered_and_the_oldest_go(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may be made up for each build."""
    monkeypatch.setattr("boxsched.engine.books.DURATIONS_AT_MOST", 2)
    for name in ("a", "b", "a", "c"):
        spec = JobSpec(name, "default", 60.0, ("true",), {})
        await shop.submit(attrs.evolve(shop.new(), jobs=(spec,)))
        await shop.settle()
        (assignment,) = await shop.assignments()
        await shop.start([assignment])
        await shop.finish(assignment)
    assert shop.engine.books is not None
    assert [name for _, name in shop.engine.books.durations] == ["a", "c"]
    await shop.restart()
    assert sorted(name for _, name in shop.engine.books.durations) == ["a", "c"]


async def test_a_deleted_project_is_forgotten(shop: Shop) -> None:
    id_, _ = shop.projects["web"]
    await shop.build()
    (assignment,) = await shop.assignments()
    await shop.start([assignment])
    await shop.finish(assignment)
    books = shop.engine.books
    assert books is not None and id_ in books.projects and books.durations
    assert await shop.store.delete_project("web")
    await shop.settle()
    assert id_ not in books.projects and not books.durations
    assert shop.events[-1].type == "project.deleted"


async def test_a_submission_after_a_change_of_settings_uses_the_new_settings(shop: Shop) -> None:
    """One look at the inbox finds both."""
    organization = await shop.store.organization()
    await shop.store.set_organization(attrs.evolve(organization, max_boxes=1))
    while await shop.engine.step():
        pass
    await shop.store.set_organization(organization)
    (id_,) = await shop.submit(shop.new(jobs=3))
    while await shop.engine.step():
        pass
    assert (await shop.look(id_)).state is State.RUNNING


@pytest.mark.parametrize("ahead", [5.0, -5.0])
async def test_nothing_is_queued_before_it_was_created(shop: Shop, ahead: float) -> None:
    """The clock of the node that took it may be ahead of the leader's, or behind."""
    created = shop.clock.time + ahead
    (id_,) = await shop.submit(attrs.evolve(shop.new(), created_at=created))
    await shop.settle()
    workload = await shop.look(id_)
    assert workload.queued_at == max(created, shop.clock.time)
