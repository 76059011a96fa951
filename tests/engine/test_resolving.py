"""A person resolves a job of an absent worker: its lane continues, the old attempt is fenced."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.model import Kind, WorkerId, WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import Resolution
from boxsched.protocol.workers import Connected
from boxsched.states import JobState, Result, State
from boxsched.store.records import Workload
from tests.engine.harness import EngineHarness

SILENT_SECONDS = 17
LOST_SECONDS = 139


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with one Box."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


async def begun(harness: EngineHarness, **asked: object) -> tuple[Workload, Assignment]:
    id_ = await harness.build(**{"server": "production", "timeout": 36_000.0, **asked})
    (assignment,) = await harness.assignments()
    await harness.start([assignment])
    return await harness.look(id_), assignment


async def resolve(
    harness: EngineHarness,
    workload: WorkloadId,
    result: Resolution,
    note: str = "the machine burned down",
    token: int | None = None,
) -> None:
    (job, *_) = (await harness.look(workload)).jobs
    assert job.lease_token is not None
    token = job.lease_token if token is None else token
    await harness.ask(inbox.Resolve(job.id, token, result, "ada", note))
    await harness.settle()


async def on(harness: EngineHarness, worker: WorkerId) -> list[Assignment]:
    return (await harness.store.assignments([worker]))[worker]


async def back(harness: EngineHarness) -> Connected:
    connected = await harness.connect(1)
    await harness.settle()
    return connected


async def test_a_stopping_deploy_on_a_lost_worker_is_resolved_and_its_lane_continues(
    harness: EngineHarness,
) -> None:
    deploy, _ = await begun(harness)
    waiting = await harness.build(server="production")
    await harness.later(LOST_SECONDS)
    await harness.stop(deploy.id)
    assert (await harness.look(deploy.id)).state is State.STOPPING
    said = harness.why(waiting)
    assert said is not None and "boxsched resolve w1-1" in said.text
    await resolve(harness, deploy.id, Resolution.FAILED)
    found = await harness.look(deploy.id)
    assert (found.result, found.reason) == (Result.STOPPED, "stopped by someone")
    assert found.jobs[0].result is Result.FAILED
    assert found.jobs[0].reason == "resolved as failed by ada: the machine burned down"
    other = await harness.another_worker("v", 1)
    (runs,) = await on(harness, other.connection.worker)
    assert runs.workload == waiting
    (event,) = [json.loads(e.data) for e in harness.events if e.type == "job.resolved"]
    assert (event["by"], event["note"], event["result"]) == (
        "ada",
        "the machine burned down",
        "failed",
    )


@pytest.mark.parametrize("result", [Resolution.PASSED, Resolution.FAILED])
async def test_a_resolved_job_ends_as_the_person_says_and_its_late_result_is_refused(
    harness: EngineHarness, result: Resolution
) -> None:
    deploy, old = await begun(harness)
    await harness.later(SILENT_SECONDS)
    await resolve(harness, deploy.id, result, note="")
    found = await harness.look(deploy.id)
    assert found.result == result and found.jobs[0].attempt == 1
    assert found.reason == (
        None if result == "passed" else "job j0 failed: resolved as failed by ada"
    )
    await back(harness)
    # the worker is told to stop the attempt that it still runs
    assert await harness.assignments() == []
    other = Result.FAILED if result is Resolution.PASSED else Result.PASSED
    await harness.finish(old, other)
    assert (await harness.look(deploy.id)).result == result
    assert harness.engine.books is not None and not harness.engine.books.durations


async def test_a_job_of_a_worker_that_was_just_disconnected_can_be_resolved(
    harness: EngineHarness,
) -> None:
    """The engine checks the workers before it resolves: the API has seen that this one is away."""
    deploy, _ = await begun(harness)
    await harness.later(2, harness.first)
    await harness.store.disconnect_workers([harness.first.connection])
    await resolve(harness, deploy.id, Resolution.FAILED)
    assert (await harness.look(deploy.id)).result is Result.FAILED


async def test_a_job_of_a_connected_worker_is_not_resolved(harness: EngineHarness) -> None:
    deploy, _ = await begun(harness)
    await resolve(harness, deploy.id, Resolution.FAILED)
    assert (await harness.look(deploy.id)).state is State.RUNNING


async def test_again_gives_a_deploy_another_attempt_on_a_free_box(harness: EngineHarness) -> None:
    deploy, old = await begun(harness)
    await harness.later(SILENT_SECONDS)
    other = await harness.another_worker("v", 1)
    await resolve(harness, deploy.id, Resolution.AGAIN)
    (new,) = await on(harness, other.connection.worker)
    assert new.attempt == 2 and new.lease_token > old.lease_token
    await back(harness)
    assert await harness.assignments() == []
    await harness.finish(old, Result.FAILED)
    assert (await harness.look(deploy.id)).state is State.RUNNING
    await harness.ask(
        inbox.Reports(
            other.connection.worker,
            (inbox.JobFinished(new.job, new.lease_token, 0.0, Result.PASSED, 0, None),),
        )
    )
    await harness.settle()
    assert (await harness.look(deploy.id)).result is Result.PASSED


async def test_again_works_for_a_job_whose_node_has_just_gone(harness: EngineHarness) -> None:
    """The job is not unknown yet: its worker has only hung up."""
    deploy, old = await begun(harness)
    harness.gone.add("test")
    await harness.later(5)
    job = (await harness.look(deploy.id)).jobs[0]
    assert job.state is JobState.RUNNING
    await resolve(harness, deploy.id, Resolution.AGAIN)
    job = (await harness.look(deploy.id)).jobs[0]
    assert job.lease_token is not None
    assert (job.state, job.attempt) == (JobState.UNKNOWN, 1) and job.lease_token > old.lease_token
    harness.gone.clear()
    await back(harness)
    (new,) = await harness.assignments()
    assert (new.attempt, new.started) == (2, False)


async def test_again_without_a_free_box_waits_for_one_also_under_the_next_leader(
    harness: EngineHarness,
) -> None:
    deploy, old = await begun(harness)
    await harness.later(LOST_SECONDS)
    await resolve(harness, deploy.id, Resolution.AGAIN)
    job = (await harness.look(deploy.id)).jobs[0]
    assert job.lease_token is not None
    assert (job.state, job.attempt) == (JobState.UNKNOWN, 1) and job.lease_token > old.lease_token
    await harness.restart()
    await harness.finish(old, Result.FAILED)
    other = await harness.another_worker("v", 1)
    (new,) = await on(harness, other.connection.worker)
    assert new.attempt == 2 and new.lease_token > job.lease_token
    job = (await harness.look(deploy.id)).jobs[0]
    assert (job.state, job.reason) == (JobState.ASSIGNED, None)


async def test_again_uses_the_same_box_when_its_worker_returns_first(
    harness: EngineHarness,
) -> None:
    deploy, old = await begun(harness)
    await harness.later(SILENT_SECONDS)
    await resolve(harness, deploy.id, Resolution.AGAIN)
    token = (await harness.look(deploy.id)).jobs[0].lease_token
    assert token is not None
    for late in (old.lease_token, token):
        await harness.finish(old, Result.FAILED, token=late)
    await back(harness)
    (new,) = await harness.assignments()
    assert (new.attempt, new.started) == (2, False) and new.lease_token > token


async def test_repeated_resolutions_and_those_of_earlier_attempts_change_nothing(
    harness: EngineHarness,
) -> None:
    deploy, old = await begun(harness)
    await harness.later(SILENT_SECONDS)
    other = await harness.another_worker("v", 1)
    for _ in range(2):
        await resolve(harness, deploy.id, Resolution.AGAIN, token=old.lease_token)
    await harness.later(SILENT_SECONDS)  # v is away as well
    await resolve(harness, deploy.id, Resolution.FAILED, token=old.lease_token)
    found = await harness.look(deploy.id)
    assert (found.state, found.jobs[0].attempt) == (State.RUNNING, 2)
    assert [e.type for e in harness.events].count("job.resolved") == 1
    assert other.connection.worker != harness.worker


async def test_a_job_of_a_connected_worker_that_runs_well_is_not_resolved(
    harness: EngineHarness,
) -> None:
    deploy, _ = await begun(harness)
    await resolve(harness, deploy.id, Resolution.FAILED)
    assert (await harness.look(deploy.id)).jobs[0].state is JobState.RUNNING
    await harness.later(SILENT_SECONDS)
    await back(harness)
    await resolve(harness, deploy.id, Resolution.FAILED)
    assert (await harness.look(deploy.id)).jobs[0].state is JobState.RUNNING


async def test_a_workload_that_is_being_stopped_is_not_run_again(harness: EngineHarness) -> None:
    deploy, _ = await begun(harness)
    await harness.later(SILENT_SECONDS)
    await harness.stop(deploy.id)
    await resolve(harness, deploy.id, Resolution.AGAIN)
    assert (await harness.look(deploy.id)).state is State.STOPPING
    await resolve(harness, deploy.id, Resolution.PASSED)
    assert (await harness.look(deploy.id)).result is Result.STOPPED


async def test_a_stop_ends_a_job_that_waits_to_run_again(harness: EngineHarness) -> None:
    deploy, _ = await begun(harness)
    await harness.later(LOST_SECONDS)
    await resolve(harness, deploy.id, Resolution.AGAIN)
    await harness.stop(deploy.id)
    found = await harness.look(deploy.id)
    assert (found.result, found.jobs[0].reason) == (Result.STOPPED, "stopped by someone")


async def test_an_unknown_build_is_resolved_too(harness: EngineHarness) -> None:
    build, _ = await begun(harness, server=None)
    await harness.later(SILENT_SECONDS)
    await resolve(harness, build.id, Resolution.AGAIN)
    await harness.later(LOST_SECONDS)
    other = await harness.another_worker("v", 1)
    (new,) = await on(harness, other.connection.worker)
    assert (new.workload, new.attempt) == (build.id, 2)


async def test_a_worker_is_forgotten_once_its_job_is_resolved(harness: EngineHarness) -> None:
    deploy, _ = await begun(harness)
    assert harness.first is not None
    connection = harness.first.connection
    await harness.later(LOST_SECONDS)
    await resolve(harness, deploy.id, Resolution.FAILED)
    await harness.ask(inbox.WorkerForgotten(connection.worker, connection.number, "ada"))
    await harness.settle()
    assert await harness.store.forget_worker(connection)


async def test_a_deploy_whose_box_is_missing_in_the_store_is_resolved_too(
    harness: EngineHarness, tmp_path: Path
) -> None:
    """This should never happen, but even then its lane can be opened."""
    deploy, lost = await begun(harness)
    waiting = await harness.build(server="production")
    with contextlib.closing(sqlite3.connect(tmp_path / "harness.sqlite")) as raw:
        raw.execute("DELETE FROM box WHERE id = ?", (lost.box,))
        raw.commit()
    harness.broken = True
    await harness.restart()
    await resolve(harness, deploy.id, Resolution.FAILED)
    assert (await harness.look(deploy.id)).result is Result.FAILED
    await back(harness)
    (runs,) = await harness.assignments()
    assert runs.workload == waiting


async def test_a_session_on_a_lost_worker_is_resolved_too(harness: EngineHarness) -> None:
    new = attrs.evolve(
        harness.new(timeout=36_000.0), kind=Kind.SSH, branch=None, public_key="ssh-ed25519 AAAA"
    )
    (session,) = await harness.submit(new)
    await harness.settle()
    await harness.start(await harness.assignments())
    await harness.later(LOST_SECONDS)
    said = harness.why(session)
    assert said is not None and "boxsched resolve w1-1 passed|failed|again" in said.text
    await resolve(harness, session, Resolution.PASSED)
    assert (await harness.look(session)).result is Result.PASSED
