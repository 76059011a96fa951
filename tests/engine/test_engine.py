"""The engine over a real store: what a turn writes and what a restart reads."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from boxsched.model import Cancellation, job_id
from boxsched.protocol import inbox
from boxsched.states import JobState, Result, State
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=8)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


async def test_the_third_of_three_builds_of_four_jobs_waits(
    harness: EngineHarness,
) -> None:
    ids = await harness.submit(*(harness.new(branch=b, jobs=4) for b in "abc"))
    await harness.settle()
    states = [(await harness.look(id_)).state for id_ in ids]
    assert states == [State.RUNNING, State.RUNNING, State.QUEUED]
    report = harness.why(ids[2])
    assert report is not None
    assert (report.reason, report.needs, report.free) == (
        "needs_boxes", {"default": 4}, {"default": 0},
    )  # fmt: skip
    assert {b.id for b in report.blocked_by} == set(ids[:2])
    assert report.position == 1
    assert "Needs 4 Boxes; 0 free now." in report.text


async def test_a_job_runs_and_its_workload_finishes(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    harness.clock.time += 1
    await harness.start([assignment])
    assert (await harness.look(id_)).jobs[0].state is JobState.RUNNING
    harness.clock.time += 7
    await harness.finish(assignment)
    done = await harness.look(id_)
    assert (done.state, done.result) == (State.FINISHED, Result.PASSED)
    job = done.jobs[0]
    assert job.started_at is not None and job.finished_at is not None
    assert job.finished_at - job.started_at == 7
    assert await harness.assignments() == []


async def test_an_old_lease_token_changes_nothing(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    await harness.finish(assignment, token=assignment.lease_token - 1)
    assert (await harness.look(id_)).state is State.RUNNING
    await harness.finish(assignment)
    await harness.finish(assignment, Result.FAILED)  # late, and sent twice
    assert (await harness.look(id_)).result is Result.PASSED


async def test_lease_tokens_grow_along_a_lane(harness: EngineHarness) -> None:
    tokens = []
    for _ in range(3):
        await harness.build()
        (assignment,) = await harness.assignments()
        tokens.append(assignment.lease_token)
        await harness.finish(assignment)
    assert tokens == sorted(set(tokens))


async def test_a_stop_goes_to_the_worker_and_holds_the_lane_until_the_job_ends(
    harness: EngineHarness,
) -> None:
    first = await harness.build()
    second = await harness.build()
    await harness.start(await harness.assignments())
    await harness.stop(first)
    assert (await harness.look(first)).state is State.STOPPING
    (assignment,) = await harness.assignments()
    assert assignment.stop
    assert (await harness.look(second)).state is State.REGISTERED
    await harness.finish(assignment, Result.STOPPED)
    assert (await harness.look(first)).result is Result.STOPPED
    assert (await harness.look(second)).state is State.RUNNING


async def test_a_waiting_workload_is_canceled_with_its_jobs(harness: EngineHarness) -> None:
    await harness.build()
    waiting = await harness.build(jobs=2)
    await harness.stop(waiting)
    found = await harness.look(waiting)
    assert (found.result, found.queued_at, found.started_at) == (Result.CANCELED, None, None)
    assert [(j.state, j.result) for j in found.jobs] == [(JobState.FINISHED, Result.CANCELED)] * 2


async def test_a_new_build_stops_the_running_one_and_takes_its_lane_once_it_has_ended(
    harness: EngineHarness,
) -> None:
    old = await harness.build(cancellation=Cancellation.ALL)
    new = await harness.build(cancellation=Cancellation.ALL)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    assert (await harness.look(new)).state is State.REGISTERED
    await harness.finish(assignment, Result.STOPPED)
    assert (await harness.look(old)).result is Result.STOPPED
    assert (await harness.look(new)).state is State.RUNNING


async def test_with_fail_fast_a_failure_stops_the_other_jobs(harness: EngineHarness) -> None:
    id_ = await harness.build(jobs=3, fail_fast=True)
    assignments = await harness.assignments()
    await harness.start(assignments)
    await harness.finish(assignments[0], Result.FAILED)
    assert (await harness.look(id_)).state is State.STOPPING
    for assignment in assignments[1:]:
        await harness.finish(assignment, Result.STOPPED)
    assert (await harness.look(id_)).result is Result.FAILED


async def test_a_job_past_its_time_limit_is_ended_and_fails_also_after_a_restart(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(timeout=60.0)
    await harness.start(await harness.assignments())
    await harness.restart()
    assert harness.first is not None
    await harness.later(70, harness.first)
    assert not (await harness.assignments())[0].stop  # the worker first has time to end it itself
    await harness.later(20, harness.first)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    await harness.restart()
    await harness.finish(assignment, Result.STOPPED)
    done = await harness.look(id_)
    assert (done.result, done.jobs[0].reason) == (Result.FAILED, "time limit of 60 s")


async def test_durations_are_learned_and_stored_at_registration(harness: EngineHarness) -> None:
    for seconds in (3.0, 9.0, 4.0):
        await harness.build()
        (assignment,) = await harness.assignments()
        await harness.start([assignment])
        harness.clock.time += seconds
        await harness.finish(assignment)
    id_ = await harness.build()
    assert (await harness.look(id_)).jobs[0].expected_seconds == pytest.approx(4.0)


@pytest.mark.parametrize("restarted", [False, True])
async def test_boxes_are_added_and_removed_with_their_worker(
    harness: EngineHarness, restarted: bool
) -> None:
    id_ = await harness.build(jobs=8)
    await harness.connect(2)
    await harness.settle()
    assert sum(box.retired for box in await harness.store.boxes()) == 6
    if restarted:
        await harness.restart()
    for assignment in await harness.assignments():
        await harness.finish(assignment)
    assert (await harness.look(id_)).result is Result.PASSED
    assert len(await harness.store.boxes()) == 2
    three = await harness.build(jobs=3)
    report = harness.why(three)
    assert report is not None and report.reason == "no_such_boxes"
    await harness.connect(4)
    await harness.settle()
    assert (await harness.look(three)).state is State.RUNNING


async def test_a_worker_that_has_no_box_any_more_is_not_among_those_with_boxes(
    harness: EngineHarness,
) -> None:
    books = harness.engine.books
    assert books is not None
    assert list(books.workers) == [harness.worker]
    await harness.connect(0)
    await harness.settle()
    assert (list(books.workers), books.boxes_of(harness.worker)) == ([], ())
    await harness.connect(2)
    await harness.settle()
    assert list(books.workers) == [harness.worker]
    assert len(books.boxes_of(harness.worker)) == 2


async def test_a_worker_that_returns_with_its_boxes_keeps_them(harness: EngineHarness) -> None:
    await harness.build(jobs=8)
    await harness.connect(2)
    await harness.settle()
    await harness.connect(8)
    await harness.settle()
    assert not any(box.retired for box in await harness.store.boxes())
    for assignment in await harness.assignments():
        await harness.finish(assignment)
    await harness.restart()
    second = await harness.build(jobs=8)
    assert (await harness.look(second)).state is State.RUNNING


async def test_boxes_that_are_removed_and_added_in_one_turn_stay(harness: EngineHarness) -> None:
    await harness.connect(7)
    await harness.connect(8)
    await harness.settle()
    assert len(await harness.store.boxes()) == 8
    await harness.restart()
    id_ = await harness.build(jobs=8)
    await harness.restart()
    assert (await harness.look(id_)).state is State.RUNNING
    assert len(await harness.assignments()) == 8


async def test_a_build_above_a_reduced_limit_blocks_no_other(harness: EngineHarness) -> None:
    blocked = await harness.build(jobs=8, branch="x")
    large = await harness.build(jobs=4, branch="y")
    await harness.project("web", 2)
    await harness.settle()
    for assignment in await harness.assignments():
        await harness.finish(assignment)
    small = await harness.build(branch="z")
    assert (await harness.look(blocked)).result is Result.PASSED
    assert (await harness.look(small)).state is State.RUNNING
    report = harness.why(large)
    assert report is not None and report.reason == "project_limit"
    assert "it can never start" in report.text


async def test_a_clock_that_was_set_back_continues_from_where_it_was(
    harness: EngineHarness,
) -> None:
    await harness.build()
    await harness.start(await harness.assignments())
    before = harness.clock.time
    harness.clock.time -= 3_600
    await harness.restart()
    assert harness.clock.now() >= before
    harness.clock.time += 5
    (assignment,) = await harness.assignments()
    await harness.finish(assignment)
    assert harness.engine.books is not None
    assert list(harness.engine.books.durations.values()) == [(pytest.approx(5.0, abs=1e-4),)]


async def test_many_jobs_are_accepted_in_several_turns(harness: EngineHarness) -> None:
    await harness.submit(*(harness.new(branch=f"b{n}", jobs=900) for n in range(3)))
    assert await harness.engine.turn()
    assert len(await harness.store.inbox(1, 10)) == 1
    await harness.settle()
    assert await harness.store.inbox(1, 10) == []


async def test_a_build_without_a_commit_gets_it_from_its_jobs(harness: EngineHarness) -> None:
    id_ = await harness.build(jobs=2)
    for assignment, commit in zip(await harness.assignments(), ("a" * 40, "b" * 40), strict=True):
        await harness.report(
            inbox.JobFinished(
                assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None, commit
            )
        )
    assert (await harness.look(id_)).commit == "a" * 40


async def test_a_fixed_commit_is_shown_at_once(harness: EngineHarness) -> None:
    id_ = await harness.build(jobs=2)
    one, other = await harness.assignments()
    fix = harness.store.fix_commit
    for assignment, commit in ((one, "a" * 40), (other, "b" * 40)):
        assert await fix(assignment.job, assignment.lease_token, commit) == "a" * 40
    await harness.settle()
    (event,) = [e for e in harness.events if e.type == "workload.commit"]
    told = msgspec.json.decode(event.data)
    assert (told["workload"], told["commit"]) == (f"w{id_}", "a" * 40)
    for assignment in (one, other):
        await harness.finish(assignment)
    assert (await harness.look(id_)).commit == "a" * 40


async def test_a_box_stays_warm_for_its_project_and_branch_after_a_restart(
    harness: EngineHarness,
) -> None:
    await harness.project("api")
    await harness.submit(*(harness.new(branch=b) for b in "ab"), harness.new("api", branch="a"))
    await harness.settle()
    boxes = {}
    for assignment in await harness.assignments():
        boxes[assignment.project, assignment.branch] = assignment.box
        await harness.finish(assignment)
    await harness.restart()
    await harness.submit(harness.new("api", branch="x"), harness.new(branch="b"))
    await harness.settle()
    taken = {(a.project, a.branch): a.box for a in await harness.assignments()}
    assert taken["web", "b"] == boxes["web", "b"]
    assert taken["api", "x"] == boxes["api", "a"]


async def test_events_are_gapless_and_published_as_stored(harness: EngineHarness) -> None:
    await harness.build()
    await harness.finish((await harness.assignments())[0])
    stored = await harness.store.events_after(1, 0, 0, 1000)
    assert [(e.batch, e.n, e.data) for e in stored] == [
        (e.batch, e.n, e.data) for e in harness.events
    ]
    by_batch: dict[int, list[int]] = {}
    for event in stored:
        by_batch.setdefault(event.batch, []).append(event.n)
    assert all(ns == list(range(1, len(ns) + 1)) for ns in by_batch.values())
    types = [event.type for event in stored if event.type.startswith("workload.")]
    assert types == [f"workload.{t}" for t in ("registered", "queued", "started", "finished")]
    finished = msgspec.json.decode(stored[-1].data)
    assert finished["capacity"] == {"total": 8, "busy": 0}


async def test_a_stop_of_an_unknown_or_finished_workload_changes_nothing(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build()
    await harness.finish((await harness.assignments())[0])
    await harness.stop(id_)
    await harness.stop(type(id_)(999_999))
    await harness.report(inbox.JobFinished(job_id(id_, 7), 1, 0.0, Result.PASSED, 0, None))
    assert (await harness.look(id_)).result is Result.PASSED


async def test_the_database_passes_the_check_afterwards(tmp_path: Path) -> None:
    harness = await EngineHarness.open(tmp_path, boxes=8)
    await harness.project("web")
    for branch in "abcdefgh":
        await harness.build(branch=branch, jobs=2)
    for assignment in (await harness.assignments())[:5]:
        await harness.finish(assignment)
    await harness.close()
    with sqlite3.connect(tmp_path / "harness.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
