"""Stops, silence and lost jobs: what a turn leaves in the store and in the events."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.states import JobState, Result, State
from tests.engine.harness import LONG, EngineHarness, begun, told

SILENT_SECONDS = 17


LOST_SECONDS = 139


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


async def comes_back(harness: EngineHarness, boxes: int = 2) -> None:
    await harness.connect(boxes)
    await harness.settle()


# --- Stops and silence ----------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
async def test_a_stop_that_was_asked_before_a_silence_still_holds_after_it(
    harness: EngineHarness, restart: bool
) -> None:
    build = await begun(harness)
    await harness.stop(build.id)
    await harness.later(SILENT_SECONDS)
    assert (await harness.look(build.id)).jobs[0].state is JobState.UNKNOWN
    if restart:
        await harness.restart()
    await comes_back(harness)
    found = await harness.look(build.id)
    assert (found.state, found.jobs[0].state) == (State.STOPPING, JobState.STOPPING)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    await harness.finish(assignment, Result.STOPPED)
    assert (await harness.look(build.id)).result is Result.STOPPED


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
async def test_a_stop_that_was_asked_during_a_silence_holds_the_lane_until_the_job_ends(
    harness: EngineHarness, restart: bool
) -> None:
    deploy = await begun(harness, server="production")
    waiting = await harness.build(server="production")
    await harness.later(SILENT_SECONDS)
    await harness.stop(deploy.id)
    if restart:
        await harness.restart()
    await harness.later(LOST_SECONDS)
    found = await harness.look(deploy.id)
    assert (found.state, found.jobs[0].result) == (State.STOPPING, None)
    assert (await harness.look(waiting)).state is State.REGISTERED
    await comes_back(harness)
    (assignment,) = await harness.assignments()
    assert (assignment.stop, assignment.attempt) == (True, 1)
    await harness.finish(assignment, Result.PASSED)  # it ended before the stop reached it
    found = await harness.look(deploy.id)
    assert (found.result, found.jobs[0].result) == (Result.STOPPED, Result.PASSED)
    assert found.reason == "stopped by someone"
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_a_job_past_its_time_limit_is_stopped_also_after_a_silence(
    harness: EngineHarness,
) -> None:
    build = await begun(harness, timeout=30.0)
    assert harness.first is not None
    await harness.later(50, harness.first)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    await harness.later(SILENT_SECONDS)
    assert (await harness.look(build.id)).jobs[0].state is JobState.UNKNOWN
    await comes_back(harness)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    await harness.finish(assignment, Result.STOPPED)
    found = await harness.look(build.id)
    assert (found.jobs[0].result, found.jobs[0].reason) == (Result.FAILED, "time limit of 30 s")


async def test_a_lost_job_that_was_being_stopped_counts_as_stopped(harness: EngineHarness) -> None:
    build = await begun(harness)
    await harness.stop(build.id)
    await harness.later(LOST_SECONDS + SILENT_SECONDS)
    found = await harness.look(build.id)
    assert (found.result, found.jobs[0].result) == (Result.STOPPED, Result.STOPPED)
    assert found.jobs[0].reason == "stopped by someone"


async def test_a_build_that_is_lost_in_every_attempt_fails(harness: EngineHarness) -> None:
    build = await begun(harness)
    for attempt in (2, 3):
        await harness.later(LOST_SECONDS)
        await harness.another_worker(f"v{attempt}", 1)
        found = (await harness.look(build.id)).jobs[0]
        assert (found.attempt, found.state) == (attempt, JobState.ASSIGNED)
    await harness.later(LOST_SECONDS)
    found = await harness.look(build.id)
    assert (found.result, found.jobs[0].result) == (Result.FAILED, Result.FAILED)
    assert found.jobs[0].reason == "lost: its worker was not heard from"
    assert found.reason == "job j0 failed: lost: its worker was not heard from"


async def test_a_lost_job_of_an_absent_worker_waits_until_a_worker_is_connected(
    harness: EngineHarness,
) -> None:
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    other = await harness.another_worker("v", 1)
    await harness.later(SILENT_SECONDS + 1)  # both are silent
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, harness.clock.now(), Result.FAILED, None, "lost",
        lost=True,
    )  # fmt: skip
    await harness.report(said)
    found = await harness.look(build.id)
    assert (found.jobs[0].state, found.jobs[0].attempt) == (JobState.UNKNOWN, 1)
    await harness.later(1, other)
    await harness.another_worker("v", 1)
    (again,) = (await harness.store.assignments([other.connection.worker]))[other.connection.worker]
    assert (again.job, again.attempt) == (assignment.job, 2)
    assert again.lease_token > assignment.lease_token


async def test_a_lost_job_that_had_started_runs_on_when_its_worker_returns(
    harness: EngineHarness,
) -> None:
    """Its start is reported late, after the worker was marked as lost."""
    id_ = await harness.build(timeout=LONG)
    (assignment,) = await harness.assignments()
    await harness.later(LOST_SECONDS)
    late = harness.clock.now()
    await harness.report(inbox.JobStarted(assignment.job, assignment.lease_token, late))
    (job,) = (await harness.look(id_)).jobs
    assert (job.state, job.started_at) == (JobState.UNKNOWN, late)
    await comes_back(harness)
    (job,) = (await harness.look(id_)).jobs
    assert (job.state, job.attempt, job.started_at) == (JobState.RUNNING, 1, late)


# --- Old attempts and old connections -------------------------------------------------------


async def test_an_old_attempt_that_still_runs_changes_nothing(harness: EngineHarness) -> None:
    """Its lost worker returns with it and reports that it started and how it ended."""
    build = await begun(harness)
    (old,) = await harness.assignments()
    other = await harness.another_worker("v", 1)
    await harness.later(LOST_SECONDS, other)
    before = (await harness.look(build.id)).jobs[0]
    assert (before.attempt, before.state) == (2, JobState.ASSIGNED)
    await comes_back(harness)
    assert await harness.assignments() == [], "w is told to run nothing"
    events = len(harness.events)
    now = harness.clock.now()
    await harness.report(inbox.JobStarted(old.job, old.lease_token, now))
    await harness.report(
        inbox.JobFinished(
            old.job, old.lease_token, now, Result.PASSED, 0, None, "a" * 40, seconds=5.0
        )
    )
    assert (await harness.look(build.id)).jobs[0] == before
    assert (await harness.look(build.id)).commit is None
    assert len(harness.events) == events
    assert harness.engine.books is not None and not harness.engine.books.durations


async def test_an_older_connection_does_not_remove_a_worker_that_returned(
    harness: EngineHarness,
) -> None:
    assert harness.first is not None
    older = harness.first.connection
    await comes_back(harness)
    await harness.ask(inbox.WorkerForgotten(older.worker, older.number, "ada"))
    await harness.settle()
    assert "worker.forgotten" not in [event.type for event in harness.events]
    build = await harness.build(jobs=2)
    assert (await harness.look(build)).state is State.RUNNING


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
async def test_an_older_connection_does_not_take_boxes_from_a_newer_one(
    harness: EngineHarness, restart: bool
) -> None:
    assert harness.first is not None
    older = harness.first
    await comes_back(harness, boxes=4)
    if restart:
        await harness.restart()
        await harness.settle()
    events = len(harness.events)
    row = older.boxes[0]
    late = inbox.BoxesSet(
        older.connection.worker,
        ((row.id, row.ordinal, row.box_type),),
        "elsewhere",
        older.connection.number,
        problem="the disk is full",
    )
    await harness.ask(late)
    await harness.settle()
    books = harness.engine.books
    assert books is not None
    assert (len(books.boxes), books.places[harness.worker], books.problems) == (4, "test", {})
    assert len(harness.events) == events
    build = await harness.build(jobs=4)
    assert (await harness.look(build)).state is State.RUNNING


async def test_a_forgotten_worker_is_named_in_the_event(harness: EngineHarness) -> None:
    assert harness.first is not None
    connection = harness.first.connection
    before = len(harness.events)
    await harness.ask(inbox.WorkerForgotten(connection.worker, connection.number, "ada"))
    await harness.settle()
    forgotten, changed = told(harness, before)[-2:]
    assert (forgotten["type"], forgotten["name"], forgotten["by"]) == (
        "worker.forgotten", "w", "ada",
    )  # fmt: skip
    assert (changed["type"], changed["total"]) == ("boxes.changed", 0)


async def test_a_worker_is_notified_by_the_node_that_it_connects_to(harness: EngineHarness) -> None:
    assert harness.first is not None
    connection, books = harness.first.connection, harness.engine.books
    rows = tuple((row.id, row.ordinal, row.box_type) for row in harness.first.boxes)
    await harness.ask(inbox.BoxesSet(connection.worker, rows, "elsewhere", connection.number))
    await harness.settle()
    assert books is not None and books.places == {connection.worker: "elsewhere"}


async def test_a_lane_stays_closed_over_a_restart(harness: EngineHarness) -> None:
    lanes = ({"branch": "a"}, {"server": "production"})
    for lane in lanes:
        await harness.build(**lane)
    await harness.restart()
    waiting = [await harness.build(**lane) for lane in lanes]
    assert [(await harness.look(id_)).state for id_ in waiting] == [State.REGISTERED] * 2


async def test_a_lost_job_that_is_stopped_is_forgotten(harness: EngineHarness) -> None:
    build = await begun(harness)
    await harness.later(LOST_SECONDS)
    books = harness.engine.books
    assert books is not None and books.lost == {build.jobs[0].id: False}
    await harness.stop(build.id)
    found = await harness.look(build.id)
    assert (found.result, found.jobs[0].result) == (Result.STOPPED, Result.STOPPED)
    assert found.jobs[0].reason == "stopped by someone"
    assert books.lost == {} and not books.core.lost
    assert books.core.usage.boxes == 0
