"""Workers that fall silent, return, or are lost, over a real store with a held clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.model import WorkerId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import Connected
from boxsched.states import JobState, Result, State
from boxsched.store.records import Workload
from tests.engine.harness import EngineHarness

LONG = 3_600.0
SILENT_SECONDS = 17  # one look after UNKNOWN_AFTER_SECONDS
# one look after --lost-after, the drift, and the time supervisors need to end their jobs
LOST_SECONDS = 139


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


async def on(harness: EngineHarness, worker: WorkerId) -> list[Assignment]:
    return (await harness.store.assignments([worker]))[worker]


def first_job(workload: Workload) -> tuple[JobState, int, int | None]:
    job = workload.jobs[0]
    return job.state, job.attempt, job.lease_token


def types(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events]


async def begun(harness: EngineHarness, **asked: object) -> Workload:
    """Start a build with one job."""
    id_ = await harness.build(timeout=LONG, **asked)
    await harness.start(await harness.assignments())
    found = await harness.look(id_)
    assert found.jobs[0].state is JobState.RUNNING
    return found


async def test_silence_only_makes_a_job_unknown(harness: EngineHarness) -> None:
    build = await begun(harness)
    await harness.later(SILENT_SECONDS)
    found = await harness.look(build.id)
    assert found.state is State.RUNNING
    assert first_job(found) == (JobState.UNKNOWN, 1, build.jobs[0].lease_token)
    report = harness.why(build.id)
    assert report is not None and report.reason == "unknown_job"
    assert types(harness)[-2:] == ["job.unknown", "worker.silent"]
    (worker,) = await harness.store.workers()
    assert worker.state == "disconnected"


async def test_a_heartbeat_of_a_silent_worker_makes_it_connect_again(
    harness: EngineHarness,
) -> None:
    await harness.later(SILENT_SECONDS)
    assert await harness.store.beat([held(harness).connection]) == {}


async def test_a_heartbeat_at_the_last_moment_counts(harness: EngineHarness) -> None:
    """It was stored while the leader marked the worker as silent."""
    build = await begun(harness)
    await harness.later(SILENT_SECONDS)
    (pulse,) = await harness.store.pulses(1)
    sights = harness.engine._monitor._watch.look(
        [attrs.evolve(pulse, beat=pulse.beat + 1)], harness.clock.time
    )
    assert sights.back == (pulse.worker,)
    assert (await harness.look(build.id)).jobs[0].state is JobState.UNKNOWN


async def test_boxes_of_a_silent_worker_exist_and_are_not_free(harness: EngineHarness) -> None:
    await harness.later(SILENT_SECONDS)
    waiting = await harness.build(jobs=2)
    report = harness.why(waiting)
    assert report is not None and report.reason == "needs_boxes"  # not "no_such_boxes"
    assert report.free == {"default": 0} and report.expected_start is None
    await comes_back(harness)
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_a_worker_that_answers_again_keeps_its_jobs(harness: EngineHarness) -> None:
    build = await begun(harness)
    never_begun = await harness.build(branch="b")
    await harness.later(SILENT_SECONDS)
    await comes_back(harness)
    assert first_job(await harness.look(build.id))[:2] == (JobState.RUNNING, 1)
    assert first_job(await harness.look(never_begun))[:2] == (JobState.ASSIGNED, 1)
    assert "job.seen_again" in types(harness)


async def test_a_stop_that_was_asked_while_a_job_was_unknown_reaches_it_later(
    harness: EngineHarness,
) -> None:
    build = await begun(harness)
    await harness.later(SILENT_SECONDS)
    await harness.stop(build.id)
    await comes_back(harness)
    (assignment,) = await harness.assignments()
    assert assignment.stop
    await harness.finish(assignment, Result.STOPPED)
    assert (await harness.look(build.id)).result is Result.STOPPED


async def test_builds_of_a_lost_worker_come_before_all_other_waiting_work(
    harness: EngineHarness,
) -> None:
    lost = [await begun(harness), await begun(harness, branch="b")]
    other = await harness.another_worker("v", 1)
    third = await harness.build(branch="c", timeout=LONG)
    await harness.later(LOST_SECONDS, other)
    waiting = await harness.build(branch="d", priority=100)
    for workload in (third, *(one.id for one in lost), waiting):
        (runs,) = await on(harness, other.connection.worker)
        assert runs.workload == workload
        await finish_on(harness, other, runs)
    assert (await harness.look(lost[0].id)).jobs[0].attempt == 2
    for one in lost:
        assert (await harness.look(one.id)).result is Result.PASSED


async def test_a_repeated_build_finishes_on_its_new_box(harness: EngineHarness) -> None:
    build = await begun(harness)
    other = await harness.another_worker("v", 1)
    await harness.later(LOST_SECONDS, other)
    (again,) = await on(harness, other.connection.worker)
    assert (again.job, again.attempt, again.started) == (job_id(build.id, 0), 2, False)
    # Late reports of the lost worker change nothing.
    token = build.jobs[0].lease_token
    assert token is not None
    late = inbox.JobFinished(again.job, token, harness.clock.now(), Result.FAILED, 1, None)
    await harness.report(late)
    assert (await harness.look(build.id)).state is State.RUNNING
    await finish_on(harness, other, again)
    found = await harness.look(build.id)
    assert (found.result, found.jobs[0].attempt) == (Result.PASSED, 2)
    boxes = {box.id: box for box in await harness.store.boxes() if not box.retired}
    assert set(boxes) == {other.boxes[0].id}  # w's Boxes are gone


async def test_a_repeated_job_that_waits_for_a_box_still_counts_its_old_box(
    harness: EngineHarness,
) -> None:
    build = await begun(harness)
    await harness.later(LOST_SECONDS)
    assert first_job(await harness.look(build.id))[0] is JobState.UNKNOWN
    assert harness.engine.books is not None and harness.engine.books.core.usage.boxes == 1
    harness.engine.books.core.check()
    other = await harness.another_worker("v", 1)
    assert [a.job for a in await on(harness, other.connection.worker)] == [job_id(build.id, 0)]
    assert harness.engine.books.core.usage.boxes == 1
    harness.engine.books.core.check()


async def test_a_lost_job_that_was_stopped_is_not_repeated(harness: EngineHarness) -> None:
    build = await begun(harness)
    await harness.later(LOST_SECONDS)
    await harness.stop(build.id)
    assert (await harness.look(build.id)).result is Result.STOPPED
    other = await harness.another_worker("v", 1)
    assert await on(harness, other.connection.worker) == []


async def test_a_lost_job_that_was_being_stopped_counts_as_stopped(
    harness: EngineHarness,
) -> None:
    build = await begun(harness)
    await harness.stop(build.id)
    await harness.later(LOST_SECONDS)
    assert (await harness.look(build.id)).result is Result.STOPPED


async def test_a_deploy_of_a_lost_worker_stays_unknown_and_its_server_closed(
    harness: EngineHarness,
) -> None:
    deploy = await begun(harness, server="production")
    behind = await harness.build(server="production")
    other = await harness.another_worker("v", 2)
    await harness.later(LOST_SECONDS, other)
    assert first_job(await harness.look(deploy.id))[:2] == (JobState.UNKNOWN, 1)
    assert (await harness.look(behind)).state is State.REGISTERED
    # The worker returns: its job ran on, and the result counts.
    await harness.connect(2)
    await harness.settle()
    assert first_job(await harness.look(deploy.id))[:2] == (JobState.RUNNING, 1)
    await harness.finish((await harness.assignments())[0])
    assert (await harness.look(deploy.id)).result is Result.PASSED
    assert (await harness.look(behind)).state is State.RUNNING


async def test_a_build_whose_supervisor_ended_it_as_lost_runs_again(harness: EngineHarness) -> None:
    build = await begun(harness)
    (held_one,) = await harness.assignments()
    for attempt in (2, 3):
        await harness.report(lost_report(harness, held_one))
        (held_one,) = await harness.assignments()
        assert held_one.attempt == attempt
    await harness.report(lost_report(harness, held_one))
    found = await harness.look(build.id)
    assert (found.result, found.jobs[0].attempt) == (Result.FAILED, 3)


async def test_a_lease_lasts_as_long_as_the_node_of_its_worker_promised(
    harness: EngineHarness,
) -> None:
    """The promise is twice the leader's own ``--lost-after``; other workers are unaffected."""
    await harness.connect(2, lost_after=240.0)
    build, other = await begun(harness), await harness.another_worker("v", 1)
    await harness.later(LOST_SECONDS, other)
    assert first_job(await harness.look(build.id))[:2] == (JobState.UNKNOWN, 1)
    assert await on(harness, other.connection.worker) == [], "its supervisor has not ended it yet"
    await harness.later(2 * 120 * 1.05 + 12 - LOST_SECONDS, other)
    assert [one.attempt for one in await on(harness, other.connection.worker)] == [2]


async def test_no_deploy_goes_to_a_worker_whose_node_is_gone(harness: EngineHarness) -> None:
    build = await begun(harness)
    harness.gone.add("test")
    await harness.later(6)
    assert types(harness)[-1] == "worker.disconnected"
    deploy = await harness.build(server="production", timeout=LONG)
    assert (await harness.look(deploy)).state is State.QUEUED
    assert first_job(await harness.look(build.id))[:2] == (JobState.RUNNING, 1), "as it was"
    await harness.later(1, held(harness))  # the node still serves, but holds no locks
    assert types(harness)[-3:].count("worker.heard_again") == 1
    assert (await harness.look(deploy)).state is State.RUNNING
    assert first_job(await harness.look(build.id))[:2] == (JobState.RUNNING, 1)


async def test_a_worker_whose_node_is_gone_returns_by_connecting(harness: EngineHarness) -> None:
    harness.gone.add("test")
    await harness.later(6)
    deploy = await harness.build(server="production", timeout=LONG)
    assert (await harness.look(deploy)).state is State.QUEUED
    await comes_back(harness)
    assert (await harness.look(deploy)).state is State.RUNNING
    await harness.later(6, held(harness))
    assert types(harness).count("worker.disconnected") == 1


async def test_after_a_takeover_every_lease_counts_from_now(harness: EngineHarness) -> None:
    build = await begun(harness)
    await harness.later(LOST_SECONDS - 5)
    await harness.restart()
    await harness.later(10)
    assert first_job(await harness.look(build.id))[:2] == (JobState.UNKNOWN, 1)
    await harness.later(LOST_SECONDS)
    other = await harness.another_worker("v", 1)
    assert len(await on(harness, other.connection.worker)) == 1


async def test_a_report_from_another_worker_changes_nothing(harness: EngineHarness) -> None:
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    other = await harness.another_worker("v", 1)
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, harness.clock.now(), Result.PASSED, 0, None
    )
    await harness.ask(inbox.Reports(other.connection.worker, (said,)))
    await harness.settle()
    assert (await harness.look(build.id)).state is State.RUNNING


async def comes_back(harness: EngineHarness) -> None:
    await harness.connect(2)
    await harness.settle()


def held(harness: EngineHarness) -> Connected:
    assert harness.first is not None
    return harness.first


def lost_report(harness: EngineHarness, assignment: Assignment) -> inbox.JobFinished:
    job, token = assignment.job, assignment.lease_token
    return inbox.JobFinished(
        job, token, harness.clock.now(), Result.FAILED, None, "lost", lost=True
    )


async def finish_on(harness: EngineHarness, worker: Connected, assignment: Assignment) -> None:
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, harness.clock.now(), Result.PASSED, 0, None
    )
    await harness.ask(inbox.Reports(worker.connection.worker, (said,)))
    await harness.settle()
