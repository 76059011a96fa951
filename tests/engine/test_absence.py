"""Workers that fall silent, come back, or are lost for good: over a real store, the clock held."""

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
from tests.engine.shop import Shop

LONG = 3_600.0
SILENT_SECONDS = 17  # a look beyond UNKNOWN_AFTER_SECONDS
LOST_SECONDS = 139  # a look beyond --lost-after, drift, and what supervisors have to end their jobs


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with two Boxes."""
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


async def on(shop: Shop, worker: WorkerId) -> list[Assignment]:
    return (await shop.store.assignments([worker]))[worker]


def first_job(workload: Workload) -> tuple[JobState, int, int | None]:
    job = workload.jobs[0]
    return job.state, job.attempt, job.lease_token


def types(shop: Shop) -> list[str]:
    return [event.type for event in shop.events]


async def begun(shop: Shop, **asked: object) -> Workload:
    """A workload of one job, which runs."""
    id_ = await shop.build(timeout=LONG, **asked)
    await shop.start(await shop.assignments())
    found = await shop.look(id_)
    assert found.jobs[0].state is JobState.RUNNING
    return found


async def test_silence_makes_a_job_unknown_and_nothing_more(shop: Shop) -> None:
    build = await begun(shop)
    await shop.later(SILENT_SECONDS)
    found = await shop.look(build.id)
    assert found.state is State.RUNNING
    assert first_job(found) == (JobState.UNKNOWN, 1, build.jobs[0].lease_token)
    report = shop.why(build.id)
    assert report is not None and report.reason == "unknown_job"
    assert types(shop)[-2:] == ["job.unknown", "worker.silent"]
    (worker,) = await shop.store.workers()
    assert worker.state == "disconnected"


async def test_a_silent_workers_heartbeat_makes_it_connect_again(shop: Shop) -> None:
    await shop.later(SILENT_SECONDS)
    assert await shop.store.beat([held(shop).connection]) == set()


async def test_a_beat_that_came_at_the_last_moment_counts(shop: Shop) -> None:
    """It was stored while the leader took the worker for silent."""
    build = await begun(shop)
    await shop.later(SILENT_SECONDS)
    (pulse,) = await shop.store.pulses(1)
    sights = shop.engine._lookout._watch.look(
        [attrs.evolve(pulse, beat=pulse.beat + 1)], shop.clock.time
    )
    assert sights.back == (pulse.worker,)
    assert (await shop.look(build.id)).jobs[0].state is JobState.UNKNOWN


async def test_a_silent_workers_boxes_exist_and_are_not_free(shop: Shop) -> None:
    await shop.later(SILENT_SECONDS)
    waiting = await shop.build(jobs=2)
    report = shop.why(waiting)
    assert report is not None and report.reason == "needs_boxes"  # not "no_such_boxes"
    assert report.free == {"default": 0} and report.expected_start is None
    await comes_back(shop)
    assert (await shop.look(waiting)).state is State.RUNNING


async def test_a_worker_that_answers_again_has_its_jobs_back(shop: Shop) -> None:
    build = await begun(shop)
    never_begun = await shop.build(branch="b")
    await shop.later(SILENT_SECONDS)
    await comes_back(shop)
    assert first_job(await shop.look(build.id))[:2] == (JobState.RUNNING, 1)
    assert first_job(await shop.look(never_begun))[:2] == (JobState.ASSIGNED, 1)
    assert "job.seen_again" in types(shop)


async def test_a_stop_reaches_a_job_that_was_unknown_when_it_was_asked(shop: Shop) -> None:
    build = await begun(shop)
    await shop.later(SILENT_SECONDS)
    await shop.stop(build.id)
    await comes_back(shop)
    (assignment,) = await shop.assignments()
    assert assignment.stop
    await shop.finish(assignment, Result.STOPPED)
    assert (await shop.look(build.id)).result is Result.STOPPED


async def test_a_lost_workers_builds_come_before_anything_that_waits(shop: Shop) -> None:
    lost = [await begun(shop), await begun(shop, branch="b")]
    other = await shop.another_worker("v", 1)
    third = await shop.build(branch="c", timeout=LONG)
    await shop.later(LOST_SECONDS, other)
    waiting = await shop.build(branch="d", priority=100)
    for workload in (third, *(one.id for one in lost), waiting):
        (runs,) = await on(shop, other.connection.worker)
        assert runs.workload == workload
        await finish_on(shop, other, runs)
    assert (await shop.look(lost[0].id)).jobs[0].attempt == 2
    for one in lost:
        assert (await shop.look(one.id)).result is Result.PASSED


async def test_a_repeated_build_finishes_on_its_new_box(shop: Shop) -> None:
    build = await begun(shop)
    other = await shop.another_worker("v", 1)
    await shop.later(LOST_SECONDS, other)
    (again,) = await on(shop, other.connection.worker)
    assert (again.job, again.attempt, again.started) == (job_id(build.id, 0), 2, False)
    # What the lost worker says late changes nothing.
    token = build.jobs[0].lease_token
    assert token is not None
    late = inbox.JobFinished(again.job, token, shop.clock.now(), Result.FAILED, 1, None)
    await shop.report(late)
    assert (await shop.look(build.id)).state is State.RUNNING
    await finish_on(shop, other, again)
    found = await shop.look(build.id)
    assert (found.result, found.jobs[0].attempt) == (Result.PASSED, 2)
    boxes = {box.id: box for box in await shop.store.boxes() if not box.retired}
    assert set(boxes) == {other.boxes[0].id}  # w's are gone


async def test_a_lost_job_waits_for_a_box_and_its_old_one_counts(shop: Shop) -> None:
    build = await begun(shop)
    await shop.later(LOST_SECONDS)
    assert first_job(await shop.look(build.id))[0] is JobState.UNKNOWN
    assert shop.engine.books is not None and shop.engine.books.core.usage.boxes == 1
    shop.engine.books.core.check()
    other = await shop.another_worker("v", 1)
    assert [a.job for a in await on(shop, other.connection.worker)] == [job_id(build.id, 0)]
    assert shop.engine.books.core.usage.boxes == 1
    shop.engine.books.core.check()


async def test_a_lost_job_that_is_stopped_is_not_repeated(shop: Shop) -> None:
    build = await begun(shop)
    await shop.later(LOST_SECONDS)
    await shop.stop(build.id)
    assert (await shop.look(build.id)).result is Result.STOPPED
    other = await shop.another_worker("v", 1)
    assert await on(shop, other.connection.worker) == []


async def test_a_lost_workers_job_that_was_being_stopped_has_stopped(shop: Shop) -> None:
    build = await begun(shop)
    await shop.stop(build.id)
    await shop.later(LOST_SECONDS)
    assert (await shop.look(build.id)).result is Result.STOPPED


async def test_a_deploy_stays_unknown_and_its_server_closed(shop: Shop) -> None:
    deploy = await begun(shop, server="production")
    behind = await shop.build(server="production")
    other = await shop.another_worker("v", 2)
    await shop.later(LOST_SECONDS, other)
    assert first_job(await shop.look(deploy.id))[:2] == (JobState.UNKNOWN, 1)
    assert (await shop.look(behind)).state is State.REGISTERED
    # The worker comes back: it ran on, and its result counts.
    await shop.connect(2)
    await shop.settle()
    assert first_job(await shop.look(deploy.id))[:2] == (JobState.RUNNING, 1)
    await shop.finish((await shop.assignments())[0])
    assert (await shop.look(deploy.id)).result is Result.PASSED
    assert (await shop.look(behind)).state is State.RUNNING


async def test_a_build_that_its_supervisor_ended_as_lost_runs_again(shop: Shop) -> None:
    build = await begun(shop)
    (held_one,) = await shop.assignments()
    for attempt in (2, 3):
        await shop.report(lost_report(shop, held_one))
        (held_one,) = await shop.assignments()
        assert held_one.attempt == attempt
    await shop.report(lost_report(shop, held_one))
    found = await shop.look(build.id)
    assert (found.result, found.jobs[0].attempt) == (Result.FAILED, 3)


async def test_a_lease_counts_by_what_the_workers_node_promised(shop: Shop) -> None:
    """Twice as long as the leader's own ``--lost-after``; of the others nothing changes."""
    await shop.connect(2, lost_after=240.0)
    build, other = await begun(shop), await shop.another_worker("v", 1)
    await shop.later(LOST_SECONDS, other)
    assert first_job(await shop.look(build.id))[:2] == (JobState.UNKNOWN, 1)
    assert await on(shop, other.connection.worker) == [], "its supervisor has not ended it yet"
    await shop.later(2 * 120 * 1.05 + 12 - LOST_SECONDS, other)
    assert [one.attempt for one in await on(shop, other.connection.worker)] == [2]


async def test_no_deploy_goes_to_a_worker_whose_node_is_gone(shop: Shop) -> None:
    build = await begun(shop)
    shop.gone.add("test")
    await shop.later(6)
    assert types(shop)[-1] == "worker.disconnected"
    deploy = await shop.build(server="production", timeout=LONG)
    assert (await shop.look(deploy)).state is State.QUEUED
    assert first_job(await shop.look(build.id))[:2] == (JobState.RUNNING, 1), "as it was"
    await shop.later(1, held(shop))  # the node serves on, without its locks
    assert types(shop)[-3:].count("worker.heard_again") == 1
    assert (await shop.look(deploy)).state is State.RUNNING
    assert first_job(await shop.look(build.id))[:2] == (JobState.RUNNING, 1)


async def test_a_worker_whose_node_is_gone_comes_back_by_connecting(shop: Shop) -> None:
    shop.gone.add("test")
    await shop.later(6)
    deploy = await shop.build(server="production", timeout=LONG)
    assert (await shop.look(deploy)).state is State.QUEUED
    await comes_back(shop)
    assert (await shop.look(deploy)).state is State.RUNNING
    await shop.later(6, held(shop))
    assert types(shop).count("worker.disconnected") == 1


async def test_every_lease_counts_from_now_after_a_takeover(shop: Shop) -> None:
    build = await begun(shop)
    await shop.later(LOST_SECONDS - 5)
    await shop.restart()
    await shop.later(10)
    assert first_job(await shop.look(build.id))[:2] == (JobState.UNKNOWN, 1)
    await shop.later(LOST_SECONDS)
    other = await shop.another_worker("v", 1)
    assert len(await on(shop, other.connection.worker)) == 1


async def test_a_report_from_another_worker_changes_nothing(shop: Shop) -> None:
    build = await begun(shop)
    (assignment,) = await shop.assignments()
    other = await shop.another_worker("v", 1)
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, shop.clock.now(), Result.PASSED, 0, None
    )
    await shop.ask(inbox.Reports(other.connection.worker, (said,)))
    await shop.settle()
    assert (await shop.look(build.id)).state is State.RUNNING


async def comes_back(shop: Shop) -> None:
    await shop.connect(2)
    await shop.settle()


def held(shop: Shop) -> Connected:
    assert shop.first is not None
    return shop.first


def lost_report(shop: Shop, assignment: Assignment) -> inbox.JobFinished:
    job, token = assignment.job, assignment.lease_token
    return inbox.JobFinished(job, token, shop.clock.now(), Result.FAILED, None, "lost", lost=True)


async def finish_on(shop: Shop, worker: Connected, assignment: Assignment) -> None:
    said = inbox.JobFinished(
        assignment.job, assignment.lease_token, shop.clock.now(), Result.PASSED, 0, None
    )
    await shop.ask(inbox.Reports(worker.connection.worker, (said,)))
    await shop.settle()
