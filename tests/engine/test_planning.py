"""Jobs that were read for a build: in time, too late, too many, or none."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from boxsched.engine.planning import TOO_LATE
from boxsched.model import ProjectId, WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.states import JobState, Result, State
from tests.engine.harness import EngineHarness

COMMIT = "a" * 40


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=4)
    await harness.project("web", 3)
    await harness.settle()
    yield harness
    await harness.close()


async def plan(harness: EngineHarness, build: WorkloadId, jobs: int) -> bool:
    return await harness.store.plan(build, harness.new(jobs=jobs).jobs, COMMIT)


async def test_a_build_runs_the_jobs_that_were_read(harness: EngineHarness) -> None:
    build = await harness.build(jobs=0)
    assert (await harness.look(build)).state is State.REGISTERED
    assert await harness.store.unplanned(ProjectId(1), WorkloadId(0), 10) == [build]
    assert await plan(harness, build, 2)
    await harness.settle()
    planned = await harness.look(build)
    assert (planned.state, planned.boxes, planned.commit) == (State.RUNNING, 2, COMMIT)
    assert len(await harness.assignments()) == 2
    assert await harness.store.unplanned_projects(ProjectId(0), 10) == []
    assert "workload.planned" in [event.type for event in harness.events]


async def test_a_second_plan_changes_nothing(harness: EngineHarness) -> None:
    build = await harness.build(jobs=0)
    assert await plan(harness, build, 1)
    assert not await plan(harness, build, 2)
    await harness.settle()
    assert not await plan(harness, build, 2)
    await harness.ask(inbox.Planned(build, None, "f" * 40, "again"))
    await harness.settle()
    running = await harness.look(build)
    assert (len(running.jobs), running.state, running.commit) == (1, State.RUNNING, COMMIT)


async def test_jobs_that_arrive_after_the_build_has_ended_end_with_it(
    harness: EngineHarness,
) -> None:
    """The stop was in the inbox before the jobs, which are already in the store."""
    build = await harness.build(jobs=0)
    await harness.ask(inbox.Stop(build, "ann"))
    assert await plan(harness, build, 2)
    await harness.settle()
    ended = await harness.look(build)
    assert ended.result is Result.CANCELED
    assert [(job.state, job.result, job.reason) for job in ended.jobs] == [
        (JobState.FINISHED, Result.CANCELED, TOO_LATE)
    ] * 2


async def test_a_build_without_jobs_fails_with_the_reason(harness: EngineHarness) -> None:
    build, behind = await harness.build(jobs=0), await harness.build()
    await harness.store.fail_plan(build, "there is no file", COMMIT)
    await harness.settle()
    ended = await harness.look(build)
    assert (ended.result, ended.reason, ended.started_at, ended.commit) == (
        Result.FAILED, "there is no file", None, COMMIT,
    )  # fmt: skip
    (news,) = [one for one in harness.events if one.type == "workload.finished"]
    assert msgspec.json.decode(news.data)["commit"] == COMMIT
    assert (await harness.look(behind)).state is State.RUNNING


async def test_more_jobs_than_the_project_allows_fail_the_build(harness: EngineHarness) -> None:
    build = await harness.build(jobs=0)
    assert await plan(harness, build, 4)
    await harness.settle()
    ended = await harness.look(build)
    assert (ended.result, ended.boxes, ended.jobs) == (Result.FAILED, 0, ())
    assert ended.commit == COMMIT


async def test_a_limit_that_is_reduced_before_the_jobs_arrive_fails_the_build(
    harness: EngineHarness,
) -> None:
    build = await harness.build(jobs=0)
    await harness.project("web", 1)
    kind, payload = inbox.written(
        inbox.Planned(build, (inbox.SubmitJob("a", "default", 1.0, 1.0),) * 2, COMMIT, None)
    )
    await harness.store.ask(SHARD, [(kind, payload)])
    harness.broken = True  # the store has no rows of these jobs
    await harness.settle()
    assert (await harness.look(build)).result is Result.FAILED
