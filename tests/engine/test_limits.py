"""Workers that are connected but do not start or do not end their jobs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.engine import limits
from boxsched.protocol import inbox
from boxsched.protocol.retries import Retries
from boxsched.states import JobState, Result, State
from tests.engine.harness import EngineHarness

LIMIT = 60.0
BEGIN_SECONDS = 101  # to start: the time limit, slack and grace, and one more look
END_SECONDS = 76
GIVE_UP_SECONDS = 36  # the grace of a stop and slack, and one more look


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


async def beating(harness: EngineHarness, seconds: int) -> None:
    """Advance the clock while the worker sends heartbeats."""
    assert harness.first is not None
    await harness.later(seconds, harness.first)


async def state(harness: EngineHarness) -> str:
    (worker,) = await harness.store.workers()
    return worker.state


@pytest.mark.parametrize("asked", [{}, {"server": "production"}], ids=["build", "deploy"])
@pytest.mark.parametrize("begins", [True, False])
async def test_a_connected_worker_that_does_not_run_a_job_loses_it_in_the_end(
    harness: EngineHarness, begins: bool, asked: dict[str, str]
) -> None:
    id_ = await harness.build(timeout=LIMIT, **asked)
    (given,) = await harness.assignments()
    if begins:
        await harness.start([given])
    await beating(harness, END_SECONDS if begins else BEGIN_SECONDS)
    (told,) = await harness.assignments()
    assert told.stop, "first it is told to"
    assert (await harness.look(id_)).state is State.RUNNING
    await beating(harness, GIVE_UP_SECONDS)
    found = await harness.look(id_)
    assert (found.state, found.result) == (State.FINISHED, Result.FAILED)
    what = "time limit of 60 s" if begins else "not begun within its time limit of 60 s"
    assert found.jobs[0].reason == f"{what}; its worker did not report its end"
    assert await state(harness) == "disconnected", "it is to connect anew"
    later = await harness.build(branch="x")
    assert (await harness.look(later)).state is State.QUEUED, "and gets nothing until then"
    await harness.connect(2)
    await harness.settle()
    assert len(await harness.assignments()) == 1
    await harness.report(
        inbox.JobFinished(given.job, given.lease_token, 0.0, Result.PASSED, 0, None)
    )
    assert (await harness.look(id_)).result is Result.FAILED, "its late word changes nothing"


@pytest.mark.parametrize("begins", [True, False])
async def test_another_attempt_after_a_failure_has_its_own_time_to_begin_and_to_end(
    harness: EngineHarness, begins: bool
) -> None:
    await harness.build(timeout=LIMIT, retry=Retries(any=1))
    (first,) = await harness.assignments()
    await harness.start([first])
    await beating(harness, int(LIMIT) - 5)
    await harness.finish(first, Result.FAILED)
    (second,) = await harness.assignments()
    assert second.attempt == 2
    if begins:
        await harness.start([second])
    enough = END_SECONDS if begins else BEGIN_SECONDS
    await beating(harness, enough - 10)
    (told,) = await harness.assignments()
    assert not told.stop
    await beating(harness, 10)
    (told,) = await harness.assignments()
    assert (told.attempt, told.stop) == (2, True)


async def test_a_stop_that_its_worker_ignores_is_enforced_by_the_leader(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(timeout=LIMIT)
    await harness.start(await harness.assignments())
    await harness.stop(id_)
    await beating(harness, GIVE_UP_SECONDS - 3)
    assert (await harness.look(id_)).state is State.STOPPING
    await beating(harness, 3)
    found = await harness.look(id_)
    assert (found.result, found.jobs[0].result) == (Result.STOPPED, Result.STOPPED)
    assert await state(harness) == "disconnected", "it is to connect anew"


async def test_a_stop_has_its_whole_grace_once_its_worker_is_back(harness: EngineHarness) -> None:
    id_ = await harness.build(server="production", timeout=LIMIT)
    await harness.start(await harness.assignments())
    await harness.later(100)
    await harness.stop(id_)
    await harness.later(100)
    await harness.connect(2)
    await harness.settle()
    await beating(harness, GIVE_UP_SECONDS - 7)
    assert (await harness.look(id_)).state is State.STOPPING
    await beating(harness, 7 + 5)
    assert (await harness.look(id_)).state is State.FINISHED


async def test_a_late_result_counts(harness: EngineHarness) -> None:
    id_ = await harness.build(timeout=LIMIT)
    (given,) = await harness.assignments()
    await harness.start([given])
    await beating(harness, END_SECONDS)
    await harness.finish(given)
    found = await harness.look(id_)
    assert (found.result, found.jobs[0].reason) == (Result.PASSED, None)


async def test_a_job_that_starts_late_has_its_whole_time_limit(harness: EngineHarness) -> None:
    id_ = await harness.build(timeout=LIMIT)
    await beating(harness, 90)
    await harness.start(await harness.assignments())
    await beating(harness, 70)
    (given,) = await harness.assignments()
    assert not given.stop
    await harness.finish(given)
    assert (await harness.look(id_)).result is Result.PASSED


async def test_seconds_in_which_no_report_could_arrive_count_for_no_job(
    harness: EngineHarness,
) -> None:
    """The leader itself was blocked: of these 50 s it counts 3."""
    id_ = await harness.build(timeout=LIMIT)
    await harness.start(await harness.assignments())
    harness.clock.time += 50.0
    await beating(harness, END_SECONDS - 3 - 2)
    assert not (await harness.assignments())[0].stop
    await beating(harness, 2)
    assert (await harness.assignments())[0].stop
    await beating(harness, GIVE_UP_SECONDS)
    assert (await harness.look(id_)).state is State.FINISHED


@pytest.mark.parametrize("loaded", [False, True])
async def test_time_of_an_outage_does_not_count_for_workers_that_connect_later(
    harness: EngineHarness, loaded: bool
) -> None:
    harness.clock.time += 50.0
    await beating(harness, 1)
    await harness.build(timeout=LIMIT)
    await harness.start(await harness.assignments())
    if loaded:  # the queue settings were changed
        await harness.ask(inbox.Reload())
        await harness.settle()
    await beating(harness, END_SECONDS - 2)
    assert not (await harness.assignments())[0].stop
    await beating(harness, 2)
    assert (await harness.assignments())[0].stop


async def test_a_deploy_of_an_absent_worker_is_not_given_up(harness: EngineHarness) -> None:
    """It may be running: only the worker or a person can tell."""
    id_ = await harness.build(server="production", timeout=LIMIT)
    await harness.start(await harness.assignments())
    await harness.later(600)
    found = await harness.look(id_)
    assert found.state is State.RUNNING
    assert found.jobs[0].state in (JobState.UNKNOWN, JobState.STOPPING)


async def test_another_leader_restarts_the_time_limit_and_also_enforces_it(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(timeout=LIMIT)
    await beating(harness, 90)
    await harness.restart()
    await harness.settle()
    await beating(harness, 70)
    assert not (await harness.assignments())[0].stop
    await beating(harness, 31 + GIVE_UP_SECONDS)
    assert (await harness.look(id_)).result is Result.FAILED


async def test_deadlines_of_ended_jobs_are_dropped_and_the_others_stay(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit can be a month, so the number of kept deadlines is limited."""
    monkeypatch.setattr(limits, "KEPT", 10)
    stays = await harness.build(branch="stays", timeout=LIMIT)
    (given,) = await harness.assignments()
    await harness.start([given])
    lengths = []
    for n in range(20):
        await harness.build(branch=str(n), timeout=36_000.0)
        (other,) = [one for one in await harness.assignments() if one.workload != stays]
        await harness.start([other])
        await harness.finish(other)
        lengths.append(len(harness.engine._deadlines._heap))
    assert max(lengths) <= 10 + 4 * 2 + 1
    assert max(lengths) > 10, "a few are kept: each turn would look at all of them"
    await beating(harness, END_SECONDS)
    (told,) = await harness.assignments()
    assert (told.workload, told.stop) == (stays, True)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_workers_own_stop_grace_is_used(harness: EngineHarness, restarted: bool) -> None:
    """The worker's grace is longer than that of the leading node."""
    await harness.connect(2, stop_grace=300.0)
    await harness.settle()
    stopped = await harness.build(timeout=LIMIT)
    late = await harness.build(timeout=LIMIT, branch="x")
    await beating(harness, 2)
    await harness.start(await harness.assignments())
    await harness.stop(stopped)
    if restarted:
        await harness.restart()
    await beating(harness, 300 + 15)
    assert await state(harness) == "connected"
    assert (await harness.look(stopped)).state is State.STOPPING
    assert [one.stop for one in await harness.assignments()] == [True, False]
    await beating(harness, int(LIMIT) - 5)
    assert (await harness.look(stopped)).result is Result.STOPPED
    assert (await harness.look(late)).state is State.RUNNING
