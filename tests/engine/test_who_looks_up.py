"""Which workers are told to look up their jobs: without a word they look every ten seconds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.states import JobState
from tests.engine.shop import Shop

LONG = 36_000.0
SILENT_SECONDS = 17
LOST_SECONDS = 139
END_SECONDS = 76  # the time limit, slack and grace, and a look more


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with one Box."""
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    yield shop
    await shop.close()


async def begun(shop: Shop, **asked: object) -> inbox.JobStarted:
    """A workload of one job, which runs; from here on, who is told is counted."""
    await shop.build(**{"timeout": LONG, **asked})
    (assignment,) = await shop.assignments()
    await shop.start([assignment])
    shop.told.clear()
    return inbox.JobStarted(assignment.job, assignment.lease_token, shop.clock.now())


async def test_the_worker_that_gets_a_job_of_a_lost_worker(shop: Shop) -> None:
    await begun(shop)
    other = await shop.another_worker("v", 1)
    shop.told.clear()
    await shop.later(LOST_SECONDS, other)
    assert other.connection.worker in shop.told


async def test_the_worker_whose_job_is_stopped(shop: Shop) -> None:
    job = await begun(shop)
    await shop.stop((await shop.store.unfinished())[0].id)
    assert shop.told == {shop.worker: "test"}
    shop.told.clear()
    await shop.report(job)
    assert shop.told == {}, "it knows"


async def test_the_worker_whose_job_is_out_of_time(shop: Shop) -> None:
    await begun(shop, timeout=60.0)
    assert shop.first is not None
    await shop.later(END_SECONDS - 10, shop.first)
    assert shop.told == {}
    await shop.later(10, shop.first)
    assert shop.told == {shop.worker: "test"}


@pytest.mark.parametrize("result", [*inbox.Resolution])
async def test_the_worker_whose_job_is_resolved(shop: Shop, result: inbox.Resolution) -> None:
    """It may run the job still, and is the only one to end it."""
    job = await begun(shop, server="production")
    await shop.later(SILENT_SECONDS)
    shop.told.clear()
    await shop.ask(inbox.Resolve(job.job, job.lease_token, result, "ada", ""))
    await shop.settle()
    assert shop.told == {shop.worker: "test"}


async def test_a_worker_whose_box_goes(shop: Shop) -> None:
    assert shop.first is not None
    await shop.later(1, shop.first)
    shop.told.clear()
    await shop.later(LOST_SECONDS)
    assert shop.told == {shop.worker: "test"}


async def test_nobody_while_a_worker_is_only_silent(shop: Shop) -> None:
    await begun(shop)
    await shop.later(SILENT_SECONDS)
    workload = await shop.look((await shop.store.unfinished())[0].id)
    assert workload.jobs[0].state is JobState.UNKNOWN
    assert shop.told == {}
