"""Durations are measured where the job ran, whatever the clocks of worker and node show."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


def finished(
    assignment: Assignment, at: float, seconds: float | None, result: Result = Result.PASSED
) -> inbox.JobFinished:
    job, token = assignment.job, assignment.lease_token
    return inbox.JobFinished(job, token, at, result, 0, None, seconds=seconds)


def started(assignment: Assignment, at: float) -> inbox.JobStarted:
    return inbox.JobStarted(assignment.job, assignment.lease_token, at)


def durations(harness: EngineHarness) -> list[tuple[float, ...]]:
    assert harness.engine.books is not None
    return list(harness.engine.books.durations.values())


@pytest.mark.parametrize("skew", [-60.0, 0.0, 60.0, 1e6])
async def test_a_wrong_clock_on_the_worker_does_not_change_a_duration(
    harness: EngineHarness, skew: float
) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    harness.clock.time += 1
    start = harness.clock.time
    await harness.report(started(assignment, start + skew))
    harness.clock.time += 6.5
    await harness.report(finished(assignment, start + skew + 6, 6.0))
    (job,) = (await harness.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (start, start + 6)
    assert durations(harness) == [(6.0,)]


async def test_a_late_report_of_the_start_does_not_change_the_duration(
    harness: EngineHarness,
) -> None:
    """The node was away for 300 s of a run of 360 s; the measured time counts."""
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    began = harness.clock.time
    harness.clock.time += 300
    await harness.report(started(assignment, began))
    harness.clock.time += 60
    await harness.report(finished(assignment, began + 360, 360.0))
    (job,) = (await harness.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (began, began + 360)


async def test_late_reports_of_start_and_end_may_come_together(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    harness.clock.time += 500
    await harness.report(started(assignment, 1.0), finished(assignment, 7.0, 6.0))
    (job,) = (await harness.look(id_)).jobs
    assert job.finished_at == harness.clock.time
    assert job.started_at == job.finished_at - 6.0
    assert durations(harness) == [(6.0,)]


async def test_a_job_never_seems_to_start_before_its_workload(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    harness.clock.time += 2
    await harness.report(started(assignment, 1.0), finished(assignment, 7.0, 1e9))
    found = await harness.look(id_)
    assert found.jobs[0].started_at == found.started_at
    assert found.jobs[0].finished_at == harness.clock.time


async def test_a_worker_without_measurements_adds_nothing_to_the_expected_durations(
    harness: EngineHarness,
) -> None:
    """An earlier version's own times could come from any clock."""
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    start = harness.clock.time
    await harness.report(started(assignment, 0.0))
    harness.clock.time += 6
    await harness.report(finished(assignment, 0.0, None))
    (job,) = (await harness.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (start, start + 6)
    assert durations(harness) == []


async def test_a_failed_run_adds_nothing_to_the_expected_durations(harness: EngineHarness) -> None:
    await harness.build()
    (assignment,) = await harness.assignments()
    await harness.report(started(assignment, 0.0))
    await harness.report(finished(assignment, 0.0, 6.0, Result.FAILED))
    assert durations(harness) == []
