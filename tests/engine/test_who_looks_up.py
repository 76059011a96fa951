"""Which workers are told to look up their jobs; otherwise each looks every 10 s."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.states import JobState
from tests.engine.harness import EngineHarness

LONG = 36_000.0
SILENT_SECONDS = 17
LOST_SECONDS = 139
END_SECONDS = 76  # the time limit, slack and grace, and one more look


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with one Box."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


async def begun(harness: EngineHarness, **asked: object) -> inbox.JobStarted:
    """Start a build with one job, and count from here who is told."""
    await harness.build(**{"timeout": LONG, **asked})
    (assignment,) = await harness.assignments()
    await harness.start([assignment])
    harness.told.clear()
    return inbox.JobStarted(assignment.job, assignment.lease_token, harness.clock.now())


async def test_the_worker_that_gets_a_job_of_a_lost_worker_is_told(harness: EngineHarness) -> None:
    await begun(harness)
    other = await harness.another_worker("v", 1)
    harness.told.clear()
    await harness.later(LOST_SECONDS, other)
    assert other.connection.worker in harness.told


async def test_the_worker_whose_job_is_stopped_is_told(harness: EngineHarness) -> None:
    job = await begun(harness)
    await harness.stop((await harness.store.unfinished())[0].id)
    assert harness.told == {harness.worker: "test"}
    harness.told.clear()
    await harness.report(job)
    assert harness.told == {}, "it knows"


async def test_the_worker_whose_job_exceeds_its_time_limit_is_told(harness: EngineHarness) -> None:
    await begun(harness, timeout=60.0)
    assert harness.first is not None
    await harness.later(END_SECONDS - 10, harness.first)
    assert harness.told == {}
    await harness.later(10, harness.first)
    assert harness.told == {harness.worker: "test"}


@pytest.mark.parametrize("result", [*inbox.Resolution])
async def test_the_worker_whose_job_is_resolved_is_told(
    harness: EngineHarness, result: inbox.Resolution
) -> None:
    """It may still run the job, and only it can end it."""
    job = await begun(harness, server="production")
    await harness.later(SILENT_SECONDS)
    harness.told.clear()
    await harness.ask(inbox.Resolve(job.job, job.lease_token, result, "ada", ""))
    await harness.settle()
    assert harness.told == {harness.worker: "test"}


async def test_a_worker_whose_box_is_removed_is_told(harness: EngineHarness) -> None:
    assert harness.first is not None
    await harness.later(1, harness.first)
    harness.told.clear()
    await harness.later(LOST_SECONDS)
    assert harness.told == {harness.worker: "test"}


async def test_nobody_is_told_while_a_worker_is_only_silent(harness: EngineHarness) -> None:
    await begun(harness)
    await harness.later(SILENT_SECONDS)
    workload = await harness.look((await harness.store.unfinished())[0].id)
    assert workload.jobs[0].state is JobState.UNKNOWN
    assert harness.told == {}
