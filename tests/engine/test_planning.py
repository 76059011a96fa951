"""Jobs that were read for a build: in time, too late, too many, and none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.engine.planning import TOO_LATE
from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.states import JobState, Result, State
from tests.engine.shop import Shop

COMMIT = "a" * 40


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=4)
    await shop.project("web", 3)
    await shop.settle()
    yield shop
    await shop.close()


async def plan(shop: Shop, build: WorkloadId, jobs: int) -> bool:
    return await shop.store.plan(build, shop.new(jobs=jobs).jobs, COMMIT)


async def test_it_runs_the_jobs_that_were_read(shop: Shop) -> None:
    build = await shop.build(jobs=0)
    assert (await shop.look(build)).state is State.REGISTERED
    assert await shop.store.unplanned(WorkloadId(0), 10) == [build]
    assert await plan(shop, build, 2)
    await shop.settle()
    planned = await shop.look(build)
    assert (planned.state, planned.boxes, planned.commit) == (State.RUNNING, 2, COMMIT)
    assert len(await shop.assignments()) == 2
    assert await shop.store.unplanned(WorkloadId(0), 10) == []
    assert "workload.planned" in [event.type for event in shop.events]


async def test_a_second_plan_changes_nothing(shop: Shop) -> None:
    build = await shop.build(jobs=0)
    assert await plan(shop, build, 1)
    assert not await plan(shop, build, 2)
    await shop.settle()
    assert not await plan(shop, build, 2)
    await shop.ask(inbox.Planned(build, None, None, "again"))
    await shop.settle()
    assert len((await shop.look(build)).jobs) == 1
    assert (await shop.look(build)).state is State.RUNNING


async def test_jobs_that_come_when_the_build_has_ended_end_with_it(shop: Shop) -> None:
    """The stop was before the jobs in the inbox, and they are in the store already."""
    build = await shop.build(jobs=0)
    await shop.ask(inbox.Stop(build, "ann"))
    assert await plan(shop, build, 2)
    await shop.settle()
    ended = await shop.look(build)
    assert ended.result is Result.CANCELED
    assert [(job.state, job.result, job.reason) for job in ended.jobs] == [
        (JobState.FINISHED, Result.CANCELED, TOO_LATE)
    ] * 2


async def test_no_jobs_fail_the_build_with_the_reason(shop: Shop) -> None:
    build, behind = await shop.build(jobs=0), await shop.build()
    await shop.store.fail_plan(build, "there is no file")
    await shop.settle()
    ended = await shop.look(build)
    assert (ended.result, ended.reason, ended.started_at) == (
        Result.FAILED, "there is no file", None,
    )  # fmt: skip
    assert (await shop.look(behind)).state is State.RUNNING


async def test_more_than_the_project_allows(shop: Shop) -> None:
    build = await shop.build(jobs=0)
    assert await plan(shop, build, 4)
    await shop.settle()
    ended = await shop.look(build)
    assert (ended.result, ended.boxes, ended.jobs) == (Result.FAILED, 0, ())


async def test_a_limit_that_is_reduced_before_the_leader_gets_the_jobs(shop: Shop) -> None:
    build = await shop.build(jobs=0)
    await shop.project("web", 1)
    kind, payload = inbox.written(
        inbox.Planned(build, (inbox.SubmitJob("a", "default", 1.0, 1.0),) * 2, COMMIT, None)
    )
    await shop.store.ask(SHARD, [(kind, payload)])
    shop.broken = True  # the store has no rows of these jobs
    await shop.settle()
    assert (await shop.look(build)).result is Result.FAILED
