"""The ``reason`` of workloads and jobs: who canceled or stopped them, and why they failed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.model import Cancellation, WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker with three Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=3)
    await harness.project("pri")
    yield harness
    await harness.close()


async def reasons(
    harness: EngineHarness, workload: WorkloadId
) -> tuple[str | None, list[str | None]]:
    found = await harness.look(workload)
    return found.reason, [job.reason for job in found.jobs]


async def fail(
    harness: EngineHarness, assignment: Assignment, reason: str | None = "exit status 3"
) -> None:
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, harness.clock.now(), Result.FAILED, 3, reason
    )
    await harness.report(said)


def said(harness: EngineHarness, type_: str) -> list[tuple[str | None, str | None]]:
    data = [json.loads(event.data) for event in harness.events if event.type == type_]
    return [(one["by"], one["reason"]) for one in data]


async def test_a_superseded_build_names_its_successor_and_the_strategy(
    harness: EngineHarness,
) -> None:
    asked = {"project": "pri", "cancellation": Cancellation.ALL}
    runs, waits = await harness.build(**asked), await harness.build(project="pri")
    await harness.build(**asked)
    why = "superseded by pri#3 (cancellation: all)"
    assert await reasons(harness, waits) == (why, [why])
    assert (await harness.look(waits)).result is Result.CANCELED
    assert said(harness, "workload.stopping") == [("w3", why)]
    (stopped, *_) = await harness.assignments()
    assert stopped.stop and stopped.workload == runs
    await harness.finish(stopped, Result.STOPPED)
    assert await reasons(harness, runs) == (why, [why])
    assert said(harness, "workload.finished") == [("w3", why), (None, why)]


async def test_the_user_who_stops_or_cancels_is_named(harness: EngineHarness) -> None:
    runs, waits = await harness.build(project="pri"), await harness.build(project="pri")
    await harness.stop(waits)
    await harness.stop(runs)
    assert await reasons(harness, waits) == ("canceled by someone", ["canceled by someone"])
    assert (await harness.look(runs)).reason == "stopped by someone"
    await harness.restart()  # the next leader also knows it
    (assignment,) = await harness.assignments()
    await harness.finish(assignment, Result.STOPPED)
    assert await reasons(harness, runs) == ("stopped by someone", ["stopped by someone"])


async def test_a_job_that_fail_fast_canceled_names_the_job_that_failed(
    harness: EngineHarness,
) -> None:
    build = await harness.build(project="pri", jobs=3, fail_fast=True)
    first, second, third = await harness.assignments()
    await harness.start([first, second, third])
    await fail(harness, second)
    await harness.restart()
    await harness.finish(first, Result.STOPPED)
    await harness.finish(third, Result.PASSED)  # before the stop reached it
    why = "job j1 failed: exit status 3"
    assert await reasons(harness, build) == (why, [f"{why} (fail_fast)", "exit status 3", None])


async def test_a_failed_workload_names_its_first_failure_and_counts_the_others(
    harness: EngineHarness,
) -> None:
    build = await harness.build(project="pri", jobs=3)
    first, second, third = await harness.assignments()
    await harness.start([first, second, third])
    await fail(harness, third, "time limit of 60 s")
    await harness.restart()
    await fail(harness, first, None)
    await fail(harness, second)
    assert (await harness.look(build)).reason == (
        "job j2 failed: time limit of 60 s; 2 more jobs failed"
    )


async def test_a_stop_takes_precedence_over_an_earlier_failure_as_the_reason(
    harness: EngineHarness,
) -> None:
    build = await harness.build(project="pri", jobs=2, fail_fast=True)
    first, second = await harness.assignments()
    await harness.start([first, second])
    await fail(harness, first)
    await harness.stop(build)
    await harness.finish(second, Result.STOPPED)
    found = await harness.look(build)
    assert found.result is Result.STOPPED
    assert await reasons(harness, build) == (
        "stopped by someone",
        ["exit status 3", "stopped by someone"],
    )


async def test_a_passed_job_has_no_reason(harness: EngineHarness) -> None:
    build = await harness.build(project="pri")
    (assignment,) = await harness.assignments()
    await harness.finish(assignment)
    assert await reasons(harness, build) == (None, [None])


async def test_a_build_that_a_lower_limit_refuses_reports_the_limit(harness: EngineHarness) -> None:
    new = harness.new("pri", jobs=3)
    (build,) = await harness.submit(new)
    project, _ = harness.projects["pri"]
    await harness.settle()
    await harness.ask(inbox.ProjectSet(project, "pri", 2))
    await harness.settle()
    (late,) = await harness.submit(new)
    await harness.settle()
    why = "asks for 3 Boxes, more than the plan or its project allows"
    assert await reasons(harness, late) == (why, [why] * 3)
    assert (await harness.look(build)).reason is None
