"""Jobs that fail are tried again in their Box, as their settings say."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.retries import Retries, counted
from boxsched.states import JobState, Result, State
from boxsched.store.records import Job
from tests.engine.harness import EngineHarness, told

LONG = 36_000.0
ANY = Retries(any=1)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


async def begin(harness: EngineHarness, **asked: object) -> Assignment:
    id_ = await harness.build(**{"timeout": LONG, **asked})
    return (await begun(harness, id_))[0]


async def begun(harness: EngineHarness, id_: WorkloadId) -> list[Assignment]:
    given = [one for one in await harness.assignments() if one.workload == id_]
    await harness.start(given)
    return given


async def fail(
    harness: EngineHarness, one: Assignment, status: int | None = 1, reason: str | None = None,
    *, lost: bool = False,
) -> None:  # fmt: skip
    said = inbox.JobFinished(
        one.job, one.lease_token, 0.0, Result.FAILED, status, reason, lost=lost, seconds=1.0
    )
    await harness.report(said)


async def job(harness: EngineHarness, one: Assignment) -> Job:
    found = await harness.look(one.workload)
    return next(each for each in found.jobs if each.id == one.job)


async def only(harness: EngineHarness) -> Assignment:
    (found,) = await harness.assignments()
    return found


async def test_a_failed_job_has_another_attempt_in_its_box_with_a_new_token(
    harness: EngineHarness,
) -> None:
    first = await begin(harness, retry=ANY)
    await fail(harness, first, reason="the script failed")
    now = await job(harness, first)
    assert (now.state, now.attempt, now.box) == (JobState.ASSIGNED, 2, first.box)
    assert (now.reason, now.exit_status, now.started_at) == (None, None, None)
    second = await only(harness)
    assert (second.attempt, second.started) == (2, False)
    assert second.lease_token > first.lease_token
    await fail(harness, first)
    assert await job(harness, first) == now, "the old token counts for nothing"
    await harness.start([second])
    await harness.finish(second)
    ended = await job(harness, first)
    assert (ended.result, ended.retries, ended.is_flaky) == (Result.PASSED, 1, True)
    retried = next(one for one in told(harness) if one["type"] == "job.retried")
    assert (retried["attempt"], retried["reason"]) == (2, "the script failed")
    assert harness.engine.counters.flaky == 1 and harness.engine.counters.retried == 1


async def test_the_workload_fails_when_no_retry_is_left(harness: EngineHarness) -> None:
    first = await begin(harness, retry=ANY)
    await fail(harness, first)
    await fail(harness, await only(harness), reason="again")
    found = await harness.look(first.workload)
    assert (found.result, found.jobs[0].attempt, found.jobs[0].reason) == (
        Result.FAILED, 2, "again",
    )  # fmt: skip
    assert not found.jobs[0].is_flaky


async def test_a_job_without_retries_and_one_that_passes_at_once_are_not_flaky(
    harness: EngineHarness,
) -> None:
    first = await begin(harness, retry=ANY)
    await harness.finish(first)
    assert not (await job(harness, first)).is_flaky
    other = await begin(harness)
    await fail(harness, other)
    assert (await harness.look(other.workload)).result is Result.FAILED


async def test_the_core_hears_only_of_the_last_end(harness: EngineHarness) -> None:
    """The other Box is free, and the failed job keeps its own: the next build gets the other."""
    first = await begin(harness, retry=ANY)
    await fail(harness, first)
    other = await begin(harness, branch="x")
    assert other.box != first.box
    waiting = await harness.build(branch="y")
    assert (await harness.look(waiting)).state is State.QUEUED


async def test_fail_fast_stops_the_others_only_after_the_last_attempt(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(jobs=2, fail_fast=True, retry=ANY, timeout=LONG)
    one, other = await begun(harness, id_)
    await fail(harness, one)
    assert (await harness.look(id_)).state is State.RUNNING
    assert (await job(harness, other)).state is JobState.RUNNING
    (second,) = [each for each in await harness.assignments() if each.job == one.job]
    await fail(harness, second)
    assert (await harness.look(id_)).state is State.STOPPING
    await fail(harness, other)
    assert (await job(harness, other)).attempt == 1, "nothing is tried again while it is stopped"
    assert (await harness.look(id_)).result is Result.FAILED


async def test_a_stopped_job_is_not_tried_again(harness: EngineHarness) -> None:
    first = await begin(harness, retry=Retries(any=5))
    await harness.stop(first.workload)
    await fail(harness, first)
    found = await harness.look(first.workload)
    assert (found.result, found.jobs[0].attempt) == (Result.STOPPED, 1)


async def test_a_retry_can_be_stopped(harness: EngineHarness) -> None:
    first = await begin(harness, retry=Retries(any=5))
    await fail(harness, first)
    await harness.stop(first.workload)
    second = await only(harness)
    assert second.stop and second.attempt == 2
    await harness.finish(second, Result.STOPPED)
    assert (await harness.look(first.workload)).result is Result.STOPPED


async def test_a_job_that_its_worker_did_not_end_in_time_is_not_tried_again(
    harness: EngineHarness,
) -> None:
    first = await begin(harness, retry=Retries(any=5), timeout=60.0)
    assert harness.first is not None
    await harness.later(80, harness.first)
    assert (await job(harness, first)).state is JobState.STOPPING
    await fail(harness, first)
    assert (await harness.look(first.workload)).result is Result.FAILED


async def test_a_draining_worker_tries_again_and_ends_after_that(harness: EngineHarness) -> None:
    first = await begin(harness, retry=ANY)
    await harness.ask(inbox.DrainSet(harness.worker, "ann", "", harness.clock.now(), None))
    await harness.settle()
    await fail(harness, first)
    second = await only(harness)
    assert not (await harness.store.workers())[0].drain_done
    await harness.start([second])
    await harness.finish(second)
    assert (await harness.store.workers())[0].drain_done


async def test_a_deploy_is_tried_again_as_its_settings_say_but_not_when_it_was_lost(
    harness: EngineHarness,
) -> None:
    deploy = await begin(harness, server="s", retry=Retries(lost=3, exit=((137, 1),), any=3))
    await fail(harness, deploy, 137)
    second = await only(harness)
    await harness.start([second])
    await fail(harness, second, None, "lost: its supervisor died")
    found = await harness.look(deploy.workload)
    assert (found.result, found.jobs[0].attempt) == (Result.FAILED, 2), "it may have run"


@pytest.mark.parametrize(("lost", "reason"), [(True, None), (False, "lost: its supervisor died")])
async def test_a_lost_build_stays_in_its_box_while_it_may(
    harness: EngineHarness, lost: bool, reason: str | None
) -> None:
    first = await begin(harness, retry=Retries(lost=1))
    await fail(harness, first, None, reason, lost=lost)
    second = await only(harness)
    assert (second.attempt, second.box) == (2, first.box)
    assert (await job(harness, first)).retries == 1


async def test_retries_do_not_count_as_lost_attempts(harness: EngineHarness) -> None:
    """A build whose worker is lost is given again twice, however often it was tried again."""
    first = await begin(harness, retry=Retries(any=3))
    for _ in range(3):
        await fail(harness, await only(harness))
    for attempt in (5, 6):
        (given,) = await harness.assignments()
        await harness.start([given])
        await fail(harness, given, None, lost=True)
        assert (await job(harness, first)).attempt == attempt
    await fail(harness, await only(harness), None, lost=True)
    assert (await harness.look(first.workload)).result is Result.FAILED


async def test_a_retry_on_a_worker_that_falls_silent_is_given_to_another(
    harness: EngineHarness,
) -> None:
    first = await begin(harness, retry=ANY)
    await fail(harness, first)
    other = await harness.another_worker("other", 1)
    await harness.later(140, other)
    (given,) = (await harness.store.assignments([other.connection.worker]))[other.connection.worker]
    assert (given.job, given.attempt) == (first.job, 3)
    said = inbox.JobFinished(given.job, given.lease_token, 0.0, Result.PASSED, 0, None)
    await harness.ask(inbox.Reports(other.connection.worker, (said,)))
    await harness.settle()
    assert (await job(harness, first)).is_flaky


async def test_another_leader_goes_on_counting(harness: EngineHarness) -> None:
    first = await begin(harness, retry=Retries(exit=((2, 1),), any=1))
    await fail(harness, first, 2)
    await harness.restart()
    second = await only(harness)
    await harness.start([second])
    await fail(harness, second, 2)
    third = await only(harness)
    assert third.attempt == 3
    await harness.restart()
    await fail(harness, third, 2)
    assert (await harness.look(first.workload)).result is Result.FAILED


def test_each_cause_has_its_own_retries_and_any_comes_last() -> None:
    allowed = Retries(lost=1, exit=((2, 1), (137, 2)), any=1)
    used = Retries()
    for lost, status, expected in (
        (False, 137, Retries(exit=((137, 1),))),
        (True, None, Retries(1, ((137, 1),))),
        (False, 2, Retries(1, ((2, 1), (137, 1)))),
        (False, 137, Retries(1, ((2, 1), (137, 2)))),
        (False, 2, Retries(1, ((2, 1), (137, 2)), 1)),
    ):
        found = counted(allowed, used, lost=lost, exit_status=status)
        assert found == expected
        used = expected
    for lost, status in ((True, None), (False, 2), (False, 137), (False, 9), (False, None)):
        assert counted(allowed, used, lost=lost, exit_status=status) is None
    assert used.total == 5


def naive(allowed: Retries, ends: list[int]) -> int:
    """Return how many attempts a job has whose attempts exit so, counted one by one."""
    left = dict(allowed.exit)
    any_left = allowed.any
    for attempts, status in enumerate(ends, 1):
        if status == 0:
            return attempts
        if left.get(status, 0):
            left[status] -= 1
        elif any_left:
            any_left -= 1
        else:
            return attempts
    return len(ends)


@pytest.mark.parametrize("seed", range(4))
async def test_random_ends_give_as_many_attempts_as_a_naive_count(
    harness: EngineHarness, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(6):
        exits = {chance.randint(1, 3): chance.randint(1, 2) for _ in range(chance.randint(0, 2))}
        allowed = Retries(exit=tuple(sorted(exits.items())), any=chance.randint(0, 2))
        ends = [chance.choice((0, 1, 1, 2, 3)) for _ in range(12)]
        where = {"server": "s"} if chance.random() < 0.5 else {}
        first = await begin(harness, retry=allowed, **where)
        for status in ends:
            if chance.random() < 0.3:
                await harness.restart()
            given = [one for one in await harness.assignments() if one.job == first.job]
            if not given:
                break
            await harness.start(given)
            if status:
                await fail(harness, given[0], status)
            else:
                await harness.finish(given[0])
        found = await job(harness, first)
        assert found.state is JobState.FINISHED
        assert found.attempt == naive(allowed, ends)
        assert found.is_flaky == (found.result is Result.PASSED and found.attempt > 1)
