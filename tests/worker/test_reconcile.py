"""The desired jobs are a level; a report is repeated until it is durable."""

import asyncio
from collections.abc import Callable

import pytest

from boxsched.errors import StoreAway
from boxsched.model import Kind
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from tests.worker.harness import LIMIT_SECONDS, AgentHarness, assigned, eventually, job


async def test_a_job_that_is_stopped_before_its_start_does_not_run(harness: AgentHarness) -> None:
    desired = [assigned(1, "echo never", stop=True)]
    await harness.agent.reconcile(desired)
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.STOPPED, None)
    await harness.agent.reconcile(desired)
    await harness.agent.reconcile([*desired, assigned(2, "true")])
    await harness.end(2)
    assert len(harness.store.reports) == 3  # stopped, started, passed: none of them twice
    assert not (harness.folder / "w1-1-1").exists()


async def test_an_away_store_loses_nothing(harness: AgentHarness) -> None:
    harness.store.away = StoreAway("away")
    await harness.agent.reconcile([assigned(1, "seq 30000")])
    await eventually(
        lambda: (harness.folder / "w1-1-1/result").exists() and harness.store.calls > 2
    )
    assert harness.store.reports == []
    harness.store.away = None
    assert (await harness.end(1)).result is Result.PASSED
    assert harness.store.log_when_finished[job(1)] == b"".join(
        b"%d\n" % i for i in range(1, 30_001)
    )


async def test_a_job_can_be_stopped_while_the_store_is_away(harness: AgentHarness) -> None:
    wanted = assigned(1, "echo ready; while :; do sleep 0.05; done")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    harness.store.away = StoreAway("away")
    await harness.agent.reconcile([])
    await eventually((harness.folder / "w1-1-1/result").exists)
    harness.store.away = None
    assert (await harness.end(1)).result is Result.STOPPED


async def test_an_attempt_starts_once_the_earlier_one_of_its_job_has_ended(
    harness: AgentHarness,
) -> None:
    """A person asked for it while the worker was away."""
    stubborn = "trap 'sleep 0.3; exit 1' TERM; echo ready; while :; do sleep 0.05; done"
    await harness.agent.reconcile([assigned(1, stubborn)])
    await harness.said(1, b"ready")
    again = assigned(1, "true", attempt=2, lease_token=9)
    await harness.agent.reconcile([again])

    def ended() -> list[tuple[int, Result]]:
        reports = [one for one in harness.store.reports if isinstance(one, JobFinished)]
        return [(one.lease_token, one.result) for one in reports]

    await harness.store.until(lambda: len(ended()) == 2)
    assert [token for token, _ in ended()] == [1, 9]
    began = [type(one) for one in harness.store.reports]
    assert began == [JobStarted, JobFinished, JobStarted, JobFinished]


async def test_an_internal_error_is_raised_and_not_hidden(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness()
    await harness.agent.start()
    harness.store.away = ZeroDivisionError("a bug")
    await harness.agent.reconcile([assigned(1, "true")])
    await eventually(lambda: harness.store.calls)
    await asyncio.wait([harness.agent._driver.__dict__["_watch"]])
    with pytest.raises(ZeroDivisionError):
        await harness.agent.reconcile([])
    harness.store.away = None
    await harness.restart()


# --- The driver that runs nothing -----------------------------------------------------------


async def test_the_driver_none_passes_everything_in_one_call(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(driver="none")
    await harness.agent.start()
    desired = [assigned(1), assigned(2), assigned(3, stop=True)]
    await harness.agent.reconcile(desired)
    assert harness.store.calls == 1
    assert [type(report) for report in harness.store.reports] == [
        JobStarted, JobFinished, JobStarted, JobFinished, JobFinished
    ]  # fmt: skip
    ends = [report.result for report in harness.store.reports if isinstance(report, JobFinished)]
    assert ends == [Result.PASSED, Result.PASSED, Result.STOPPED]
    await harness.agent.reconcile(desired)
    assert harness.store.calls == 1
    await harness.agent.reconcile([])
    await harness.agent.reconcile([assigned(1)])
    assert harness.store.calls == 2
    assert not harness.folder.exists()


async def test_the_driver_none_waits_for_an_away_store(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(driver="none")
    await harness.agent.start()
    harness.store.away = StoreAway("away")
    reconciling = asyncio.create_task(harness.agent.reconcile([assigned(1)]))
    await eventually(lambda: harness.store.calls)
    harness.store.away = None
    await reconciling
    assert harness.store.finished(1)


def test_an_unknown_driver_is_refused(make_harness: Callable[..., AgentHarness]) -> None:
    with pytest.raises(ValueError, match="teapot"):
        make_harness(driver="teapot")


def ends(harness: AgentHarness, number: int) -> list[JobFinished]:
    said = [one for one in harness.store.reports if isinstance(one, JobFinished)]
    return [one for one in said if one.job == job(number)]


async def test_a_result_is_reported_again_while_its_job_is_desired(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was acknowledged, and the database lost it in a failover."""
    asked = [assigned(1, "true"), assigned(2, "true", kind=Kind.SSH)]
    await harness.agent.reconcile(asked)
    await harness.end(1)
    await harness.end(2)
    await harness.agent.reconcile(asked)
    await harness.agent.reconcile([*asked, assigned(3, "true", ordinal=2)])
    await harness.end(3)
    assert len(ends(harness, 1)) == len(ends(harness, 2)) == 1, "not before long"
    monkeypatch.setattr("boxsched.worker.agent.reporting.REPEAT_SECONDS", 0.1)
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(ends(harness, 1)) < 2 or len(ends(harness, 2)) < 2:
            await harness.agent.reconcile(asked)
            await asyncio.sleep(0.02)
    assert ends(harness, 1)[0] == ends(harness, 1)[1] and ends(harness, 2)[0] == ends(harness, 2)[1]


async def test_a_box_has_one_attempt_at_a_time(harness: AgentHarness) -> None:
    """The database gave the Box to another job, because it does not know of the running one."""
    stubborn = ("trap 'sleep 1; exit' TERM", "echo runs", "sleep 60 & wait")
    await harness.agent.reconcile([assigned(1, *stubborn)])
    await harness.said(1, b"runs")
    await harness.agent.reconcile([assigned(2, "true"), assigned(3, "true", ordinal=2)])
    await harness.end(3)
    await harness.end(2)
    order = [one.job for one in harness.store.reports if isinstance(one, JobFinished)]
    assert order.index(job(1)) < order.index(job(2))
