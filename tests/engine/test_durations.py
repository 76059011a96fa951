"""How long a run took: measured where it ran, whatever the clocks of worker and node say."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    yield shop
    await shop.close()


def finished(
    assignment: Assignment, at: float, seconds: float | None, result: Result = Result.PASSED
) -> inbox.JobFinished:
    job, token = assignment.job, assignment.lease_token
    return inbox.JobFinished(job, token, at, result, 0, None, seconds=seconds)


def started(assignment: Assignment, at: float) -> inbox.JobStarted:
    return inbox.JobStarted(assignment.job, assignment.lease_token, at)


def durations(shop: Shop) -> list[tuple[float, ...]]:
    assert shop.engine.books is not None
    return list(shop.engine.books.durations.values())


@pytest.mark.parametrize("skew", [-60.0, 0.0, 60.0, 1e6])
async def test_a_worker_whose_clock_is_wrong(shop: Shop, skew: float) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    shop.clock.time += 1
    start = shop.clock.time
    await shop.report(started(assignment, start + skew))
    shop.clock.time += 6.5
    await shop.report(finished(assignment, start + skew + 6, 6.0))
    (job,) = (await shop.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (start, start + 6)
    assert durations(shop) == [(6.0,)]


async def test_a_start_that_is_reported_late(shop: Shop) -> None:
    """The node was away for 300 s of a run of 360 s: what was measured counts."""
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    began = shop.clock.time
    shop.clock.time += 300
    await shop.report(started(assignment, began))
    shop.clock.time += 60
    await shop.report(finished(assignment, began + 360, 360.0))
    (job,) = (await shop.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (began, began + 360)


async def test_both_reports_come_together_and_late(shop: Shop) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    shop.clock.time += 500
    await shop.report(started(assignment, 1.0), finished(assignment, 7.0, 6.0))
    (job,) = (await shop.look(id_)).jobs
    assert job.finished_at == shop.clock.time
    assert job.started_at == job.finished_at - 6.0
    assert durations(shop) == [(6.0,)]


async def test_a_job_never_seems_to_begin_before_its_workload(shop: Shop) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    shop.clock.time += 2
    await shop.report(started(assignment, 1.0), finished(assignment, 7.0, 1e9))
    found = await shop.look(id_)
    assert found.jobs[0].started_at == found.started_at
    assert found.jobs[0].finished_at == shop.clock.time


async def test_a_worker_that_measured_nothing_teaches_nothing(shop: Shop) -> None:
    """One of an earlier version: its own times could be of any clock."""
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    start = shop.clock.time
    await shop.report(started(assignment, 0.0))
    shop.clock.time += 6
    await shop.report(finished(assignment, 0.0, None))
    (job,) = (await shop.look(id_)).jobs
    assert (job.started_at, job.finished_at) == (start, start + 6)
    assert durations(shop) == []


async def test_a_failed_run_teaches_nothing(shop: Shop) -> None:
    await shop.build()
    (assignment,) = await shop.assignments()
    await shop.report(started(assignment, 0.0))
    await shop.report(finished(assignment, 0.0, 6.0, Result.FAILED))
    assert durations(shop) == []
