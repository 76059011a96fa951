"""Workers that cannot start jobs: their Boxes are withdrawn, and their jobs go to other workers."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.engine.endings import BEGINNINGS_AT_MOST
from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.states import JobState, Result, State
from tests.engine.harness import EngineHarness

FULL = "disk full"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


async def on(harness: EngineHarness, one: Connected) -> list[Assignment]:
    worker = one.connection.worker
    return (await harness.store.assignments([worker]))[worker]


async def beat(harness: EngineHarness, *ones: Connected, problem: str | None = None) -> None:
    """Send heartbeats with this problem, and let the leader look."""
    problems = {one.connection.worker: problem for one in ones} if problem else {}
    await harness.store.beat([one.connection for one in ones], None, problems)
    harness.clock.time += 1.0
    await harness.settle()


def not_begun(assignment: Assignment, reason: str = FULL) -> inbox.JobFinished:
    return inbox.JobFinished(
        assignment.job,
        assignment.lease_token,
        0.0,
        Result.FAILED,
        None,
        reason,
        lost=True,
        not_begun=True,
    )


async def cannot_begin(harness: EngineHarness, one: Connected, assignment: Assignment) -> None:
    """Report as a worker does: first its problem, then the job that it could not start."""
    worker = one.connection.worker
    await harness.store.beat([one.connection], None, {worker: FULL})
    await harness.ask(inbox.Reports(worker, (not_begun(assignment),)))
    await harness.settle()


def first(harness: EngineHarness) -> Connected:
    assert harness.first is not None
    return harness.first


def types(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events]


async def test_a_job_that_a_worker_could_not_start_goes_to_another(
    harness: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    id_ = await harness.build()
    (given,) = await harness.assignments()
    other = await harness.another_worker("other", 1)
    await cannot_begin(harness, first(harness), given)
    (again,) = await on(harness, other)
    assert (again.job, again.attempt) == (given.job, 2)
    assert again.lease_token > given.lease_token
    assert await harness.assignments() == []
    found = await harness.look(id_)
    assert (found.state, found.result, found.reason) == (State.RUNNING, None, None)
    assert "job.unknown" in types(harness) and "worker.cannot_begin" in types(harness)
    assert "worker w cannot begin jobs, and gets none until it can: disk full" in caplog.text


async def test_the_boxes_of_such_a_worker_get_nothing_until_it_can_start_jobs(
    harness: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await harness.build()
    (given,) = await harness.assignments()
    await cannot_begin(harness, first(harness), given)
    waiting = await harness.build(branch="x")
    await beat(harness, first(harness), problem=FULL)
    assert await harness.assignments() == [], "it waits: its worker would begin it again"
    assert (await harness.look(waiting)).state is State.QUEUED
    (worker,) = await harness.store.workers()
    assert (worker.state, worker.problem) == ("connected", FULL)
    await beat(harness, first(harness))
    both = await harness.assignments()
    assert {one.attempt for one in both if one.job == given.job} == {2}
    assert len(both) == 2
    assert (await harness.store.workers())[0].problem is None
    assert "worker.can_begin" in types(harness)
    assert "worker w can begin jobs again" in caplog.text


async def test_a_deploy_that_never_started_also_gets_another_attempt(
    harness: EngineHarness,
) -> None:
    """It does not run twice, because nothing of it has run."""
    id_ = await harness.build(server="production")
    (given,) = await harness.assignments()
    await harness.start([given])  # git started
    other = await harness.another_worker("other", 1)
    await cannot_begin(harness, first(harness), given)
    (again,) = await on(harness, other)
    assert (again.job, again.attempt, again.started) == (given.job, 2, False)
    await harness.report(not_begun(given))
    assert len(await on(harness, other)) == 1, "said again, of an attempt that is over"
    assert (await harness.look(id_)).state is State.RUNNING


async def test_an_attempt_that_could_not_start_does_not_start_while_its_job_waits(
    harness: EngineHarness,
) -> None:
    """A restarted worker has forgotten that it could not start the job, and looks up its jobs."""
    id_ = await harness.build(server="production")
    (given,) = await harness.assignments()
    await cannot_begin(harness, first(harness), given)
    assert await harness.assignments() == []
    events = len(harness.events)
    await harness.report(not_begun(given))
    assert len(harness.events) == events, "said again, it is no news"
    await harness.start([given])
    await harness.finish(given)
    (job,) = (await harness.look(id_)).jobs
    assert (job.state, job.result) == (JobState.UNKNOWN, None)
    await harness.connect(1)
    await harness.settle()
    (again,) = await harness.assignments()
    assert (again.job, again.attempt, again.started) == (given.job, 2, False)


async def test_running_jobs_of_such_a_worker_continue(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (given,) = await harness.assignments()
    await harness.start([given])
    await beat(harness, first(harness), problem=FULL)
    assert (await harness.look(id_)).jobs[0].state is JobState.RUNNING
    books = harness.engine.books
    assert books is not None
    found = books.job(given.job)
    assert found is not None and not books.out_of_sight(found[1]), "nobody has to resolve it"
    await harness.finish(given)
    assert (await harness.look(id_)).result is Result.PASSED
    later = await harness.build()
    assert (await harness.look(later)).state is State.QUEUED, "its Box is not free by that"


async def test_a_job_that_no_worker_can_start_is_not_repeated_for_ever(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build()
    for _ in range(BEGINNINGS_AT_MOST):
        (given,) = await harness.assignments()
        await cannot_begin(harness, first(harness), given)
        await beat(harness, first(harness))
    found = await harness.look(id_)
    assert (found.result, found.jobs[0].attempt) == (Result.FAILED, BEGINNINGS_AT_MOST)
    assert found.jobs[0].reason == "not begun in 10 tries; the last one, on w: disk full"


async def test_a_job_that_is_stopped_meanwhile_ends(harness: EngineHarness) -> None:
    ids = [await harness.build(branch=name) for name in ("a", "b")]
    one, two = sorted(await harness.assignments(), key=lambda each: each.job)
    await harness.stop(ids[0])
    await cannot_begin(harness, first(harness), one)
    await cannot_begin(harness, first(harness), two)
    await harness.stop(ids[1])
    for id_ in ids:
        found = await harness.look(id_)
        assert (found.state, found.result) == (State.FINISHED, Result.STOPPED)


async def test_another_leader_knows_the_problem(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (given,) = await harness.assignments()
    await cannot_begin(harness, first(harness), given)
    await harness.restart()
    await harness.settle()
    assert (await harness.look(id_)).jobs[0].state is JobState.UNKNOWN
    waiting = await harness.build(branch="x")
    assert (await harness.look(waiting)).state is State.QUEUED
    await beat(harness, first(harness))
    assert {one.attempt for one in await harness.assignments()} == {1, 2}


async def test_a_worker_may_connect_with_a_problem(harness: EngineHarness) -> None:
    new = NewWorker("late", "late", "there", "test", ("default",), problem="git is not installed")
    late = await harness.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in late.boxes)
    worker, number = late.connection.worker, late.connection.number
    await harness.ask(inbox.BoxesSet(worker, rows, "test", number, "git is not installed"))
    await harness.settle()
    for branch in "abc":
        await harness.build(branch=branch)
    assert await on(harness, late) == []
    again = await harness.store.connect_worker(attrs.evolve(new, problem=None))
    await harness.ask(inbox.BoxesSet(worker, rows, "test", again.connection.number))
    await harness.settle()
    assert len(await on(harness, late)) == 1


async def test_a_worker_with_a_problem_that_was_also_away_returns_with_its_boxes(
    harness: EngineHarness,
) -> None:
    await beat(harness, first(harness), problem=FULL)
    await harness.store.disconnect_workers([first(harness).connection])
    harness.clock.time += 2.0
    await harness.settle()
    await harness.connect(2)
    await harness.settle()
    await harness.build()
    assert len(await harness.assignments()) == 1


async def test_explanations_name_the_worker_and_its_problem(harness: EngineHarness) -> None:
    ran = await harness.build()
    (given,) = await harness.assignments()
    await cannot_begin(harness, first(harness), given)
    waiting = await harness.build(branch="x")
    report = harness.why(waiting)
    assert report is not None and report.reason == "needs_boxes"
    assert report.text == "No worker can begin jobs: w (disk full)."
    report = harness.why(ran)
    assert report is not None and (report.phase, report.reason) == ("assignment", "needs_boxes")
    assert report.text == (
        "A job waits for another Box: worker w could not begin it: disk full. "
        "No worker can begin jobs: w (disk full)."
    )
    assert set(harness.reasons().values()) == {
        report.text,
        "No worker can begin jobs: w (disk full).",
    }
    other = await harness.another_worker("other", 1)  # takes the job
    assert [one.attempt for one in await on(harness, other)] == [2]
    report = harness.why(waiting)
    assert report is not None
    assert report.text == "Needs 1 Box; 0 free now. 2 more cannot begin jobs: w (disk full)."
    large = await harness.build(branch="y", jobs=3)
    report = harness.why(large)
    assert report is not None
    assert report.text == (
        "Needs 3 Boxes; 1 is on workers that can begin jobs, 2 more on w (disk full)."
    )
    assert WorkerId(0) not in harness.engine.books.names  # type: ignore[union-attr]
