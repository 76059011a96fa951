"""Workers that operators drain: nothing new for them, and they end when they have no job."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import Connected
from boxsched.states import JobState, Result, State
from boxsched.store.records import Worker
from tests.engine.harness import EngineHarness

FULL = "disk full"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


def first(harness: EngineHarness) -> Connected:
    assert harness.first is not None
    return harness.first


async def drain(
    harness: EngineHarness, one: Connected, note: str = "new disk", stop_after: float | None = None
) -> None:
    now = harness.clock.now()
    stop_at = None if stop_after is None else now + stop_after
    await harness.ask(inbox.DrainSet(one.connection.worker, "ann", note, now, stop_at))
    await harness.settle()


async def take_back(harness: EngineHarness, one: Connected) -> None:
    await harness.ask(inbox.DrainEnded(one.connection.worker, "bob"))
    await harness.settle()


async def row(harness: EngineHarness, one: Connected) -> Worker:
    (found,) = [each for each in await harness.store.workers() if each.id == one.connection.worker]
    return found


async def on(harness: EngineHarness, one: Connected) -> list[Assignment]:
    worker = one.connection.worker
    return (await harness.store.assignments([worker]))[worker]


def types(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events if event.type.startswith("worker.")]


async def test_a_drained_worker_gets_no_more_jobs_and_keeps_those_it_has(
    harness: EngineHarness,
) -> None:
    running = await harness.build()
    (given,) = await harness.assignments()
    await harness.start([given])
    await drain(harness, first(harness))
    waiting = await harness.build(branch="x")
    assert (await harness.look(waiting)).state is State.QUEUED
    assert [one.job for one in await harness.assignments()] == [given.job]
    found = await row(harness, first(harness))
    assert (found.state, found.drain_by, found.drain_note) == ("connected", "ann", "new disk")
    assert not found.drain_done, "it has a job"
    await harness.finish(given)
    assert (await harness.look(running)).result is Result.PASSED
    assert (await harness.look(waiting)).state is State.QUEUED, "its free Boxes are given to nobody"
    assert (await row(harness, first(harness))).drain_done
    assert types(harness)[-2:] == ["worker.draining", "worker.drained"]


async def test_a_worker_without_jobs_is_drained_at_once(harness: EngineHarness) -> None:
    await drain(harness, first(harness))
    assert (await row(harness, first(harness))).drain_done
    assert await harness.store.beat([first(harness).connection]) == {harness.worker: True}


async def test_other_workers_take_the_jobs_of_a_draining_worker(harness: EngineHarness) -> None:
    other = await harness.another_worker("other", 1)
    await drain(harness, first(harness))
    await harness.build()
    await harness.build(branch="x")
    assert await harness.assignments() == []
    assert len(await on(harness, other)) == 1


async def test_a_drain_that_is_taken_back_gives_the_boxes_back(harness: EngineHarness) -> None:
    await harness.build()
    await drain(harness, first(harness))
    waiting = await harness.build(branch="x")
    await take_back(harness, first(harness))
    assert (await harness.look(waiting)).state is State.RUNNING
    found = await row(harness, first(harness))
    assert (found.drain_by, found.drain_since, found.drain_done) == (None, None, False)
    assert types(harness)[-1] == "worker.drain_ended"


async def test_a_worker_that_may_be_ending_has_to_connect_again(harness: EngineHarness) -> None:
    """It was told to end, so a new job would be lost with it."""
    await drain(harness, first(harness))
    await take_back(harness, first(harness))
    waiting = await harness.build()
    assert (await harness.look(waiting)).state is State.QUEUED
    assert await harness.store.beat([first(harness).connection]) == {}, (
        "its connection counts no more"
    )
    await harness.connect(2)
    await harness.settle()
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_a_drain_lasts_when_the_worker_connects_again(harness: EngineHarness) -> None:
    await drain(harness, first(harness))
    await harness.connect(3)
    await harness.settle()
    waiting = await harness.build()
    assert (await harness.look(waiting)).state is State.QUEUED
    assert await harness.store.beat([first(harness).connection]) == {harness.worker: True}


async def test_another_leader_knows_it(harness: EngineHarness) -> None:
    running = await harness.build()
    (given,) = await harness.assignments()
    await drain(harness, first(harness))
    await harness.restart()
    waiting = await harness.build(branch="x")
    assert (await harness.look(waiting)).state is State.QUEUED
    await harness.finish(given)
    assert (await harness.look(running)).result is Result.PASSED
    assert (await row(harness, first(harness))).drain_done
    await take_back(harness, first(harness))
    await harness.connect(2)
    await harness.settle()
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_what_runs_too_long_is_stopped(harness: EngineHarness) -> None:
    slow, quick = await harness.build(), await harness.build(branch="quick")
    given = {each.workload: each for each in await harness.assignments()}
    await harness.start(list(given.values()))
    await drain(harness, first(harness), stop_after=30.0)
    await harness.finish(given[quick])
    harness.clock.time += 29.0
    await harness.settle()
    assert (await harness.look(slow)).state is State.RUNNING
    harness.clock.time += 1.0
    await harness.settle()
    found = await harness.look(slow)
    assert (found.state, found.reason) == (State.STOPPING, "stopped by ann, who drains w")
    assert not (await row(harness, first(harness))).drain_done
    await harness.finish(given[slow], Result.STOPPED)
    assert (await row(harness, first(harness))).drain_done
    assert (await harness.look(slow)).result is Result.STOPPED
    assert (await harness.look(quick)).result is Result.PASSED


async def test_a_drain_is_not_done_while_a_deploy_is_unknown(
    harness: EngineHarness,
) -> None:
    deploy = await harness.build(server="production")
    (given,) = await harness.assignments()
    await harness.start([given])
    await drain(harness, first(harness))
    await harness.later(60.0)
    assert (await harness.look(deploy)).jobs[0].state is JobState.UNKNOWN
    assert not (await row(harness, first(harness))).drain_done
    said = inbox.Resolve(given.job, given.lease_token, inbox.Resolution.PASSED, "ann", "")
    await harness.ask(said)
    await harness.settle()
    assert (await harness.look(deploy)).result is Result.PASSED
    assert (await row(harness, first(harness))).drain_done


async def test_a_job_of_a_draining_worker_that_is_connected_needs_nobody(
    harness: EngineHarness,
) -> None:
    await harness.build(server="production")
    (given,) = await harness.assignments()
    await drain(harness, first(harness))
    books = harness.engine.books
    assert books is not None
    found = books.job(given.job)
    assert found is not None and not books.out_of_sight(found[1])


async def test_a_problem_and_a_drain_are_two_reasons(harness: EngineHarness) -> None:
    """The Boxes are usable again when neither applies."""
    await harness.build()
    await drain(harness, first(harness))
    await harness.store.beat([first(harness).connection], None, {harness.worker: FULL})
    harness.clock.time += 1.0
    await harness.settle()
    await take_back(harness, first(harness))
    waiting = await harness.build(branch="x")
    assert (await harness.look(waiting)).state is State.QUEUED, "its disk is full"
    await drain(harness, first(harness))
    await harness.store.beat([first(harness).connection])
    harness.clock.time += 1.0
    await harness.settle()
    assert (await harness.look(waiting)).state is State.QUEUED, "it is drained"
    await take_back(harness, first(harness))
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_a_drain_of_a_worker_that_was_removed_changes_nothing(harness: EngineHarness) -> None:
    await harness.ask(inbox.DrainSet(4711, "ann", "", harness.clock.now(), None))
    await harness.ask(inbox.DrainEnded(4711, "ann"))
    await harness.settle()
    assert types(harness) == ["worker.connected"]


async def test_with_a_problem_here_and_a_drain_there_both_are_named(
    harness: EngineHarness,
) -> None:
    other = await harness.another_worker("other", 1)
    await drain(harness, other)
    await harness.store.beat([first(harness).connection], None, {harness.worker: FULL})
    harness.clock.time += 1.0
    await harness.settle()
    report = harness.why(await harness.build())
    assert report is not None
    assert report.text == "No connected worker is given jobs: other (draining), w (disk full)."


async def test_explanations_say_which_workers_are_draining(harness: EngineHarness) -> None:
    await harness.build()
    await drain(harness, first(harness))
    waiting = await harness.build(branch="x")
    report = harness.why(waiting)
    assert report is not None and report.reason == "needs_boxes"
    assert report.text == "Every connected worker is draining: w."
    await harness.another_worker("other", 1)
    later = await harness.build(branch="y")
    report = harness.why(later)
    assert report is not None
    assert report.text == "Needs 1 Box; 0 free now. 2 Boxes are draining: w."
    large = await harness.build(branch="z", jobs=3)
    report = harness.why(large)
    assert report is not None
    assert report.text == (
        "Needs 3 Boxes; 1 is on workers that are given jobs, 2 more on w, draining."
    )
