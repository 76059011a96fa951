"""Workers that are connected but do not begin or do not end their jobs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.engine import limits
from boxsched.protocol import inbox
from boxsched.states import JobState, Result, State
from tests.engine.shop import Shop

LIMIT = 60.0
BEGIN_SECONDS = 101  # to begin: the time limit, slack and grace, and a look more
END_SECONDS = 76
GIVE_UP_SECONDS = 36  # the grace of a stop and slack, and a look more


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with two Boxes."""
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


async def beating(shop: Shop, seconds: int) -> None:
    """Time goes by, and the worker is heard all the while."""
    assert shop.first is not None
    await shop.later(seconds, shop.first)


async def state(shop: Shop) -> str:
    (worker,) = await shop.store.workers()
    return worker.state


@pytest.mark.parametrize("asked", [{}, {"server": "production"}], ids=["build", "deploy"])
@pytest.mark.parametrize("begins", [True, False])
async def test_a_worker_that_beats_and_does_not_run_keeps_no_job_for_ever(
    shop: Shop, begins: bool, asked: dict[str, str]
) -> None:
    id_ = await shop.build(timeout=LIMIT, **asked)
    (given,) = await shop.assignments()
    if begins:
        await shop.start([given])
    await beating(shop, END_SECONDS if begins else BEGIN_SECONDS)
    (told,) = await shop.assignments()
    assert told.stop, "first it is told to"
    assert (await shop.look(id_)).state is State.RUNNING
    await beating(shop, GIVE_UP_SECONDS)
    found = await shop.look(id_)
    assert (found.state, found.result) == (State.FINISHED, Result.FAILED)
    what = "time limit of 60 s" if begins else "not begun within its time limit of 60 s"
    assert found.jobs[0].reason == f"{what}; its worker did not say that it has ended"
    assert await state(shop) == "disconnected", "it is to connect anew"
    later = await shop.build(branch="x")
    assert (await shop.look(later)).state is State.QUEUED, "and gets nothing until then"
    await shop.connect(2)
    await shop.settle()
    assert len(await shop.assignments()) == 1
    await shop.report(inbox.JobFinished(given.job, given.lease_token, 0.0, Result.PASSED, 0, None))
    assert (await shop.look(id_)).result is Result.FAILED, "its late word changes nothing"


async def test_a_stop_that_its_worker_does_not_heed(shop: Shop) -> None:
    id_ = await shop.build(timeout=LIMIT)
    await shop.start(await shop.assignments())
    await shop.stop(id_)
    await beating(shop, GIVE_UP_SECONDS - 3)
    assert (await shop.look(id_)).state is State.STOPPING
    await beating(shop, 3)
    found = await shop.look(id_)
    assert (found.result, found.jobs[0].result) == (Result.STOPPED, Result.STOPPED)
    assert await state(shop) == "disconnected", "it is to connect anew"


async def test_a_stop_has_all_of_its_grace_once_its_worker_is_back(shop: Shop) -> None:
    id_ = await shop.build(server="production", timeout=LIMIT)
    await shop.start(await shop.assignments())
    await shop.later(100)
    await shop.stop(id_)
    await shop.later(100)
    await shop.connect(2)
    await shop.settle()
    await beating(shop, GIVE_UP_SECONDS - 7)
    assert (await shop.look(id_)).state is State.STOPPING
    await beating(shop, 7 + 5)
    assert (await shop.look(id_)).state is State.FINISHED


async def test_a_result_that_comes_late_counts(shop: Shop) -> None:
    id_ = await shop.build(timeout=LIMIT)
    (given,) = await shop.assignments()
    await shop.start([given])
    await beating(shop, END_SECONDS)
    await shop.finish(given)
    found = await shop.look(id_)
    assert (found.result, found.jobs[0].reason) == (Result.PASSED, None)


async def test_a_job_that_begins_late_has_all_of_its_time(shop: Shop) -> None:
    id_ = await shop.build(timeout=LIMIT)
    await beating(shop, 90)
    await shop.start(await shop.assignments())
    await beating(shop, 70)
    (given,) = await shop.assignments()
    assert not given.stop
    await shop.finish(given)
    assert (await shop.look(id_)).result is Result.PASSED


async def test_seconds_in_which_no_report_could_come_count_for_no_job(shop: Shop) -> None:
    """The leader itself was held up: of these 50 s it counts 3."""
    id_ = await shop.build(timeout=LIMIT)
    await shop.start(await shop.assignments())
    shop.clock.time += 50.0
    await beating(shop, END_SECONDS - 3 - 2)
    assert not (await shop.assignments())[0].stop
    await beating(shop, 2)
    assert (await shop.assignments())[0].stop
    await beating(shop, GIVE_UP_SECONDS)
    assert (await shop.look(id_)).state is State.FINISHED


@pytest.mark.parametrize("loaded", [False, True])
async def test_time_of_an_outage_does_not_count_for_workers_that_connect_later(
    shop: Shop, loaded: bool
) -> None:
    shop.clock.time += 50.0
    await beating(shop, 1)
    await shop.build(timeout=LIMIT)
    await shop.start(await shop.assignments())
    if loaded:  # the settings of the queue were changed
        await shop.ask(inbox.Reload())
        await shop.settle()
    await beating(shop, END_SECONDS - 2)
    assert not (await shop.assignments())[0].stop
    await beating(shop, 2)
    assert (await shop.assignments())[0].stop


async def test_a_deploy_of_a_worker_that_is_away_is_not_given_up(shop: Shop) -> None:
    """It may be running: that is for the worker or a person to say."""
    id_ = await shop.build(server="production", timeout=LIMIT)
    await shop.start(await shop.assignments())
    await shop.later(600)
    found = await shop.look(id_)
    assert found.state is State.RUNNING
    assert found.jobs[0].state in (JobState.UNKNOWN, JobState.STOPPING)


async def test_another_leader_restarts_the_time_and_also_ends_it(shop: Shop) -> None:
    id_ = await shop.build(timeout=LIMIT)
    await beating(shop, 90)
    await shop.restart()
    await shop.settle()
    await beating(shop, 70)
    assert not (await shop.assignments())[0].stop
    await beating(shop, 31 + GIVE_UP_SECONDS)
    assert (await shop.look(id_)).result is Result.FAILED


async def test_deadlines_of_ended_jobs_are_dropped_and_those_of_others_hold(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit can be a month: what is kept has a bound."""
    monkeypatch.setattr(limits, "KEPT", 10)
    stays = await shop.build(branch="stays", timeout=LIMIT)
    (given,) = await shop.assignments()
    await shop.start([given])
    lengths = []
    for n in range(20):
        await shop.build(branch=str(n), timeout=36_000.0)
        (other,) = [one for one in await shop.assignments() if one.workload != stays]
        await shop.start([other])
        await shop.finish(other)
        lengths.append(len(shop.engine._deadlines._heap))
    assert max(lengths) <= 10 + 4 * 2 + 1
    assert max(lengths) > 10, "a few are kept: each turn would look at all of them"
    await beating(shop, END_SECONDS)
    (told,) = await shop.assignments()
    assert (told.workload, told.stop) == (stays, True)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_workers_own_stop_grace_is_used(shop: Shop, restarted: bool) -> None:
    """The worker's grace is longer than that of the leading node."""
    await shop.connect(2, stop_grace=300.0)
    await shop.settle()
    stopped = await shop.build(timeout=LIMIT)
    late = await shop.build(timeout=LIMIT, branch="x")
    await beating(shop, 2)
    await shop.start(await shop.assignments())
    await shop.stop(stopped)
    if restarted:
        await shop.restart()
    await beating(shop, 300 + 15)
    assert await state(shop) == "connected"
    assert (await shop.look(stopped)).state is State.STOPPING
    assert [one.stop for one in await shop.assignments()] == [True, False]
    await beating(shop, int(LIMIT) - 5)
    assert (await shop.look(stopped)).result is Result.STOPPED
    assert (await shop.look(late)).state is State.RUNNING
