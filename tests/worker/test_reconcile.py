"""What is desired is a level; what is said is said until it is durable."""

import asyncio
from collections.abc import Callable

import pytest

from boxsched.errors import StoreAway
from boxsched.model import Kind
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from tests.worker.site import LIMIT_SECONDS, Site, assigned, eventually, job


async def test_a_stop_before_the_start(site: Site) -> None:
    desired = [assigned(1, "echo never", stop=True)]
    await site.agent.reconcile(desired)
    finished = await site.end(1)
    assert (finished.result, finished.exit_status) == (Result.STOPPED, None)
    await site.agent.reconcile(desired)
    await site.agent.reconcile([*desired, assigned(2, "true")])
    await site.end(2)
    assert len(site.store.reports) == 3  # stopped, started, passed: none of them twice
    assert not (site.folder / "w1-1-1").exists()


async def test_an_away_store_loses_nothing(site: Site) -> None:
    site.store.away = StoreAway("away")
    await site.agent.reconcile([assigned(1, "seq 30000")])
    await eventually(lambda: (site.folder / "w1-1-1/result").exists() and site.store.calls > 2)
    assert site.store.reports == []
    site.store.away = None
    assert (await site.end(1)).result is Result.PASSED
    assert site.store.log_when_finished[job(1)] == b"".join(b"%d\n" % i for i in range(1, 30_001))


async def test_a_job_can_be_stopped_while_the_store_is_away(site: Site) -> None:
    wanted = assigned(1, "echo ready; while :; do sleep 0.05; done")
    await site.agent.reconcile([wanted])
    await site.said(1, b"ready")
    site.store.away = StoreAway("away")
    await site.agent.reconcile([])
    await eventually((site.folder / "w1-1-1/result").exists)
    site.store.away = None
    assert (await site.end(1)).result is Result.STOPPED


async def test_an_attempt_begins_once_the_earlier_one_of_its_job_has_ended(site: Site) -> None:
    """A person has asked for it while the worker was away."""
    stubborn = "trap 'sleep 0.3; exit 1' TERM; echo ready; while :; do sleep 0.05; done"
    await site.agent.reconcile([assigned(1, stubborn)])
    await site.said(1, b"ready")
    again = assigned(1, "true", attempt=2, lease_token=9)
    await site.agent.reconcile([again])

    def ended() -> list[tuple[int, Result]]:
        reports = [one for one in site.store.reports if isinstance(one, JobFinished)]
        return [(one.lease_token, one.result) for one in reports]

    await site.store.until(lambda: len(ended()) == 2)
    assert [token for token, _ in ended()] == [1, 9]
    began = [type(one) for one in site.store.reports]
    assert began == [JobStarted, JobFinished, JobStarted, JobFinished]


async def test_a_mistake_of_ours_is_raised_and_not_hidden(make_site: Callable[..., Site]) -> None:
    site = make_site()
    await site.agent.start()
    site.store.away = ZeroDivisionError("a bug")
    await site.agent.reconcile([assigned(1, "true")])
    await eventually(lambda: site.store.calls)
    await asyncio.wait([site.agent._driver.__dict__["_watch"]])
    with pytest.raises(ZeroDivisionError):
        await site.agent.reconcile([])
    site.store.away = None
    await site.restart()


# --- The driver that runs nothing -----------------------------------------------------------


async def test_none_passes_everything_in_one_call(make_site: Callable[..., Site]) -> None:
    site = make_site(driver="none")
    await site.agent.start()
    desired = [assigned(1), assigned(2), assigned(3, stop=True)]
    await site.agent.reconcile(desired)
    assert site.store.calls == 1
    assert [type(report) for report in site.store.reports] == [
        JobStarted, JobFinished, JobStarted, JobFinished, JobFinished
    ]  # fmt: skip
    ends = [report.result for report in site.store.reports if isinstance(report, JobFinished)]
    assert ends == [Result.PASSED, Result.PASSED, Result.STOPPED]
    await site.agent.reconcile(desired)
    assert site.store.calls == 1
    await site.agent.reconcile([])
    await site.agent.reconcile([assigned(1)])
    assert site.store.calls == 2
    assert not site.folder.exists()


async def test_none_waits_for_an_away_store(make_site: Callable[..., Site]) -> None:
    site = make_site(driver="none")
    await site.agent.start()
    site.store.away = StoreAway("away")
    reconciling = asyncio.create_task(site.agent.reconcile([assigned(1)]))
    await eventually(lambda: site.store.calls)
    site.store.away = None
    await reconciling
    assert site.store.finished(1)


def test_a_driver_that_there_is_not(make_site: Callable[..., Site]) -> None:
    with pytest.raises(ValueError, match="teapot"):
        make_site(driver="teapot")


def ends(site: Site, number: int) -> list[JobFinished]:
    said = [one for one in site.store.reports if isinstance(one, JobFinished)]
    return [one for one in said if one.job == job(number)]


async def test_a_result_is_reported_again_while_it_is_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was acknowledged, and the database lost it in a failover."""
    asked = [assigned(1, "true"), assigned(2, "true", kind=Kind.SSH)]
    await site.agent.reconcile(asked)
    await site.end(1)
    await site.end(2)
    await site.agent.reconcile(asked)
    await site.agent.reconcile([*asked, assigned(3, "true", ordinal=2)])
    await site.end(3)
    assert len(ends(site, 1)) == len(ends(site, 2)) == 1, "not before long"
    monkeypatch.setattr("boxsched.worker.agent.reporting.REPEAT_SECONDS", 0.1)
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(ends(site, 1)) < 2 or len(ends(site, 2)) < 2:
            await site.agent.reconcile(asked)
            await asyncio.sleep(0.02)
    assert ends(site, 1)[0] == ends(site, 1)[1] and ends(site, 2)[0] == ends(site, 2)[1]


async def test_a_box_has_one_attempt_at_a_time(site: Site) -> None:
    """The database gave the Box to another job: it knows nothing of the one that runs there."""
    stubborn = ("trap 'sleep 1; exit' TERM", "echo runs", "sleep 60 & wait")
    await site.agent.reconcile([assigned(1, *stubborn)])
    await site.said(1, b"runs")
    await site.agent.reconcile([assigned(2, "true"), assigned(3, "true", ordinal=2)])
    await site.end(3)
    await site.end(2)
    order = [one.job for one in site.store.reports if isinstance(one, JobFinished)]
    assert order.index(job(1)) < order.index(job(2))
