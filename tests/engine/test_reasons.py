"""The ``reason`` of workloads and jobs: who canceled or stopped them, and why they failed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.model import Cancellation, WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker with three Boxes."""
    shop = await Shop.open(tmp_path, boxes=3)
    await shop.project("pri")
    yield shop
    await shop.close()


async def reasons(shop: Shop, workload: WorkloadId) -> tuple[str | None, list[str | None]]:
    found = await shop.look(workload)
    return found.reason, [job.reason for job in found.jobs]


async def fail(shop: Shop, assignment: Assignment, reason: str | None = "exit status 3") -> None:
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, shop.clock.now(), Result.FAILED, 3, reason
    )
    await shop.report(said)


def said(shop: Shop, type_: str) -> list[tuple[str | None, str | None]]:
    data = [json.loads(event.data) for event in shop.events if event.type == type_]
    return [(one["by"], one["reason"]) for one in data]


async def test_a_superseded_build_names_its_successor_and_the_strategy(shop: Shop) -> None:
    asked = {"project": "pri", "cancellation": Cancellation.ALL}
    runs, waits = await shop.build(**asked), await shop.build(project="pri")
    await shop.build(**asked)
    why = "superseded by pri#3 (cancellation: all)"
    assert await reasons(shop, waits) == (why, [why])
    assert (await shop.look(waits)).result is Result.CANCELED
    assert said(shop, "workload.stopping") == [("w3", why)]
    (stopped, *_) = await shop.assignments()
    assert stopped.stop and stopped.workload == runs
    await shop.finish(stopped, Result.STOPPED)
    assert await reasons(shop, runs) == (why, [why])
    assert said(shop, "workload.finished") == [("w3", why), (None, why)]


async def test_the_user_who_stops_or_cancels_is_named(shop: Shop) -> None:
    runs, waits = await shop.build(project="pri"), await shop.build(project="pri")
    await shop.stop(waits)
    await shop.stop(runs)
    assert await reasons(shop, waits) == ("canceled by someone", ["canceled by someone"])
    assert (await shop.look(runs)).reason == "stopped by someone"
    await shop.restart()  # the next leader knows, too
    (assignment,) = await shop.assignments()
    await shop.finish(assignment, Result.STOPPED)
    assert await reasons(shop, runs) == ("stopped by someone", ["stopped by someone"])


async def test_a_victim_of_fail_fast_names_the_job_that_failed(shop: Shop) -> None:
    build = await shop.build(project="pri", jobs=3, fail_fast=True)
    first, second, third = await shop.assignments()
    await shop.start([first, second, third])
    await fail(shop, second)
    await shop.restart()
    await shop.finish(first, Result.STOPPED)
    await shop.finish(third, Result.PASSED)  # before the stop reached it
    why = "job j1 failed: exit status 3"
    assert await reasons(shop, build) == (why, [f"{why} (fail_fast)", "exit status 3", None])


async def test_a_failed_workload_names_its_first_failure_and_counts_the_others(shop: Shop) -> None:
    build = await shop.build(project="pri", jobs=3)
    first, second, third = await shop.assignments()
    await shop.start([first, second, third])
    await fail(shop, third, "time limit of 60 s")
    await shop.restart()
    await fail(shop, first, None)
    await fail(shop, second)
    assert (await shop.look(build)).reason == (
        "job j2 failed: time limit of 60 s; 2 more jobs failed"
    )


async def test_a_stop_says_more_than_a_failure_before(shop: Shop) -> None:
    build = await shop.build(project="pri", jobs=2, fail_fast=True)
    first, second = await shop.assignments()
    await shop.start([first, second])
    await fail(shop, first)
    await shop.stop(build)
    await shop.finish(second, Result.STOPPED)
    found = await shop.look(build)
    assert found.result is Result.STOPPED
    assert await reasons(shop, build) == (
        "stopped by someone",
        ["exit status 3", "stopped by someone"],
    )


async def test_a_passed_job_has_no_reason(shop: Shop) -> None:
    build = await shop.build(project="pri")
    (assignment,) = await shop.assignments()
    await shop.finish(assignment)
    assert await reasons(shop, build) == (None, [None])


async def test_a_build_that_a_lower_limit_refuses_reports_it(shop: Shop) -> None:
    new = shop.new("pri", jobs=3)
    (build,) = await shop.submit(new)
    project, _ = shop.projects["pri"]
    await shop.settle()
    await shop.ask(inbox.ProjectSet(project, "pri", 2))
    await shop.settle()
    (late,) = await shop.submit(new)
    await shop.settle()
    why = "asks for 3 Boxes, more than the plan or its project allows"
    assert await reasons(shop, late) == (why, [why] * 3)
    assert (await shop.look(build)).reason is None
