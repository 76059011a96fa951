"""Workers that can begin no jobs: their Boxes are withdrawn; what they could not begin goes on."""

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
from tests.engine.shop import Shop

FULL = "disk full"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with two Boxes."""
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


async def on(shop: Shop, one: Connected) -> list[Assignment]:
    worker = one.connection.worker
    return (await shop.store.assignments([worker]))[worker]


async def beat(shop: Shop, *ones: Connected, problem: str | None = None) -> None:
    """Heartbeats that say so, and a look of the leader."""
    problems = {one.connection.worker: problem for one in ones} if problem else {}
    await shop.store.beat([one.connection for one in ones], None, problems)
    shop.clock.time += 1.0
    await shop.settle()


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


async def cannot_begin(shop: Shop, one: Connected, assignment: Assignment) -> None:
    """As a worker says it: first that it has a problem, then of what it could not begin."""
    worker = one.connection.worker
    await shop.store.beat([one.connection], None, {worker: FULL})
    await shop.ask(inbox.Reports(worker, (not_begun(assignment),)))
    await shop.settle()


def first(shop: Shop) -> Connected:
    assert shop.first is not None
    return shop.first


def types(shop: Shop) -> list[str]:
    return [event.type for event in shop.events]


async def test_a_job_that_a_worker_could_not_begin_goes_to_another(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    id_ = await shop.build()
    (given,) = await shop.assignments()
    other = await shop.another_worker("other", 1)
    await cannot_begin(shop, first(shop), given)
    (again,) = await on(shop, other)
    assert (again.job, again.attempt) == (given.job, 2)
    assert again.lease_token > given.lease_token
    assert await shop.assignments() == []
    found = await shop.look(id_)
    assert (found.state, found.result, found.reason) == (State.RUNNING, None, None)
    assert "job.unknown" in types(shop) and "worker.cannot_begin" in types(shop)
    assert "worker w can begin no jobs, and gets none until it can: disk full" in caplog.text


async def test_its_boxes_get_nothing_until_it_can_begin_jobs(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await shop.build()
    (given,) = await shop.assignments()
    await cannot_begin(shop, first(shop), given)
    waiting = await shop.build(branch="x")
    await beat(shop, first(shop), problem=FULL)
    assert await shop.assignments() == [], "it waits: its worker would begin it again"
    assert (await shop.look(waiting)).state is State.QUEUED
    (worker,) = await shop.store.workers()
    assert (worker.state, worker.problem) == ("connected", FULL)
    await beat(shop, first(shop))
    both = await shop.assignments()
    assert {one.attempt for one in both if one.job == given.job} == {2}
    assert len(both) == 2
    assert (await shop.store.workers())[0].problem is None
    assert "worker.can_begin" in types(shop)
    assert "worker w can begin jobs again" in caplog.text


async def test_a_deploy_that_never_began_also_gets_another_attempt(shop: Shop) -> None:
    """It is not run twice: nothing of it has run."""
    id_ = await shop.build(server="production")
    (given,) = await shop.assignments()
    await shop.start([given])  # git began
    other = await shop.another_worker("other", 1)
    await cannot_begin(shop, first(shop), given)
    (again,) = await on(shop, other)
    assert (again.job, again.attempt, again.started) == (given.job, 2, False)
    await shop.report(not_begun(given))
    assert len(await on(shop, other)) == 1, "said again, of an attempt that is over"
    assert (await shop.look(id_)).state is State.RUNNING


async def test_the_attempt_that_never_began_does_not_begin_while_its_job_waits(shop: Shop) -> None:
    """A worker that was started anew has forgotten that it could not, and looks up what it runs."""
    id_ = await shop.build(server="production")
    (given,) = await shop.assignments()
    await cannot_begin(shop, first(shop), given)
    assert await shop.assignments() == []
    events = len(shop.events)
    await shop.report(not_begun(given))
    assert len(shop.events) == events, "said again, it is no news"
    await shop.start([given])
    await shop.finish(given)
    (job,) = (await shop.look(id_)).jobs
    assert (job.state, job.result) == (JobState.UNKNOWN, None)
    await shop.connect(1)
    await shop.settle()
    (again,) = await shop.assignments()
    assert (again.job, again.attempt, again.started) == (given.job, 2, False)


async def test_running_jobs_continue(shop: Shop) -> None:
    id_ = await shop.build()
    (given,) = await shop.assignments()
    await shop.start([given])
    await beat(shop, first(shop), problem=FULL)
    assert (await shop.look(id_)).jobs[0].state is JobState.RUNNING
    books = shop.engine.books
    assert books is not None
    found = books.job(given.job)
    assert found is not None and not books.out_of_sight(found[1]), "nobody has to resolve it"
    await shop.finish(given)
    assert (await shop.look(id_)).result is Result.PASSED
    later = await shop.build()
    assert (await shop.look(later)).state is State.QUEUED, "its Box is not free by that"


async def test_a_job_that_no_worker_can_begin_is_not_repeated_for_ever(shop: Shop) -> None:
    id_ = await shop.build()
    for _ in range(BEGINNINGS_AT_MOST):
        (given,) = await shop.assignments()
        await cannot_begin(shop, first(shop), given)
        await beat(shop, first(shop))
    found = await shop.look(id_)
    assert (found.result, found.jobs[0].attempt) == (Result.FAILED, BEGINNINGS_AT_MOST)
    assert found.jobs[0].reason == "not begun in 10 tries; the last one, on w: disk full"


async def test_one_that_is_stopped_meanwhile_ends(shop: Shop) -> None:
    ids = [await shop.build(branch=name) for name in ("a", "b")]
    one, two = sorted(await shop.assignments(), key=lambda each: each.job)
    await shop.stop(ids[0])
    await cannot_begin(shop, first(shop), one)
    await cannot_begin(shop, first(shop), two)
    await shop.stop(ids[1])
    for id_ in ids:
        found = await shop.look(id_)
        assert (found.state, found.result) == (State.FINISHED, Result.STOPPED)


async def test_another_leader_knows_it(shop: Shop) -> None:
    id_ = await shop.build()
    (given,) = await shop.assignments()
    await cannot_begin(shop, first(shop), given)
    await shop.restart()
    await shop.settle()
    assert (await shop.look(id_)).jobs[0].state is JobState.UNKNOWN
    waiting = await shop.build(branch="x")
    assert (await shop.look(waiting)).state is State.QUEUED
    await beat(shop, first(shop))
    assert {one.attempt for one in await shop.assignments()} == {1, 2}


async def test_it_may_come_with_its_problem(shop: Shop) -> None:
    new = NewWorker("late", "late", "there", "test", ("default",), problem="git is not installed")
    late = await shop.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in late.boxes)
    worker, number = late.connection.worker, late.connection.number
    await shop.ask(inbox.BoxesSet(worker, rows, "test", number, "git is not installed"))
    await shop.settle()
    for branch in "abc":
        await shop.build(branch=branch)
    assert await on(shop, late) == []
    again = await shop.store.connect_worker(attrs.evolve(new, problem=None))
    await shop.ask(inbox.BoxesSet(worker, rows, "test", again.connection.number))
    await shop.settle()
    assert len(await on(shop, late)) == 1


async def test_one_that_is_away_too_comes_back_with_its_boxes(shop: Shop) -> None:
    await beat(shop, first(shop), problem=FULL)
    await shop.store.disconnect_workers([first(shop).connection])
    shop.clock.time += 2.0
    await shop.settle()
    await shop.connect(2)
    await shop.settle()
    await shop.build()
    assert len(await shop.assignments()) == 1


async def test_explanations_name_it_and_its_trouble(shop: Shop) -> None:
    ran = await shop.build()
    (given,) = await shop.assignments()
    await cannot_begin(shop, first(shop), given)
    waiting = await shop.build(branch="x")
    report = shop.why(waiting)
    assert report is not None and report.reason == "needs_boxes"
    assert report.text == "No worker can begin jobs: w (disk full)."
    report = shop.why(ran)
    assert report is not None and (report.phase, report.reason) == ("assignment", "needs_boxes")
    assert report.text == "A job waits for another Box: worker w could not begin it: disk full."
    assert set(shop.reasons().values()) == {report.text, "No worker can begin jobs: w (disk full)."}
    other = await shop.another_worker("other", 1)  # takes the job
    assert [one.attempt for one in await on(shop, other)] == [2]
    report = shop.why(waiting)
    assert report is not None
    assert report.text == "Needs 1 Box; 0 free now. 2 more can begin no jobs: w (disk full)."
    large = await shop.build(branch="y", jobs=3)
    report = shop.why(large)
    assert report is not None
    assert report.text == (
        "Needs 3 Boxes; 1 is on workers that can begin jobs, 2 more on w (disk full)."
    )
    assert WorkerId(0) not in shop.engine.books.names  # type: ignore[union-attr]
