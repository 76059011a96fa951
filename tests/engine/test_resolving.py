"""A person resolves a job whose worker is away: its lane goes on, the old attempt is fenced."""

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
from tests.engine.shop import Shop

SILENT_SECONDS = 17
LOST_SECONDS = 139


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """One worker "w" with one Box."""
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    yield shop
    await shop.close()


async def begun(shop: Shop, **asked: object) -> tuple[Workload, Assignment]:
    id_ = await shop.build(**{"server": "production", "timeout": 36_000.0, **asked})
    (assignment,) = await shop.assignments()
    await shop.start([assignment])
    return await shop.look(id_), assignment


async def resolve(
    shop: Shop,
    workload: WorkloadId,
    result: Resolution,
    note: str = "the machine burned down",
    token: int | None = None,
) -> None:
    (job, *_) = (await shop.look(workload)).jobs
    assert job.lease_token is not None
    token = job.lease_token if token is None else token
    await shop.ask(inbox.Resolve(job.id, token, result, "ada", note))
    await shop.settle()


async def on(shop: Shop, worker: WorkerId) -> list[Assignment]:
    return (await shop.store.assignments([worker]))[worker]


async def back(shop: Shop) -> Connected:
    connected = await shop.connect(1)
    await shop.settle()
    return connected


async def test_a_stopping_deploy_on_a_lost_worker_is_resolved_and_its_lane_continues(
    shop: Shop,
) -> None:
    deploy, _ = await begun(shop)
    waiting = await shop.build(server="production")
    await shop.later(LOST_SECONDS)
    await shop.stop(deploy.id)
    assert (await shop.look(deploy.id)).state is State.STOPPING
    said = shop.why(waiting)
    assert said is not None and "boxsched resolve w1-1" in said.text
    await resolve(shop, deploy.id, Resolution.FAILED)
    found = await shop.look(deploy.id)
    assert (found.result, found.reason) == (Result.STOPPED, "stopped by someone")
    assert found.jobs[0].result is Result.FAILED
    assert found.jobs[0].reason == "resolved as failed by ada: the machine burned down"
    other = await shop.another_worker("v", 1)
    (runs,) = await on(shop, other.connection.worker)
    assert runs.workload == waiting
    (event,) = [json.loads(e.data) for e in shop.events if e.type == "job.resolved"]
    assert (event["by"], event["note"], event["result"]) == (
        "ada",
        "the machine burned down",
        "failed",
    )


@pytest.mark.parametrize("result", [Resolution.PASSED, Resolution.FAILED])
async def test_it_ends_as_the_person_says_and_the_late_result_is_refused(
    shop: Shop, result: Resolution
) -> None:
    deploy, old = await begun(shop)
    await shop.later(SILENT_SECONDS)
    await resolve(shop, deploy.id, result, note="")
    found = await shop.look(deploy.id)
    assert found.result == result and found.jobs[0].attempt == 1
    assert found.reason == (
        None if result == "passed" else "job j0 failed: resolved as failed by ada"
    )
    await back(shop)
    assert await shop.assignments() == []  # the worker is told to stop what it still runs
    other = Result.FAILED if result is Resolution.PASSED else Result.PASSED
    await shop.finish(old, other)
    assert (await shop.look(deploy.id)).result == result
    assert shop.engine.books is not None and not shop.engine.books.durations


async def test_a_worker_that_was_disconnected_a_moment_ago(shop: Shop) -> None:
    """The engine looks at the workers before it resolves: the API has seen that one is away."""
    deploy, _ = await begun(shop)
    await shop.later(2, shop.first)
    await shop.store.disconnect_workers([shop.first.connection])
    await resolve(shop, deploy.id, Resolution.FAILED)
    assert (await shop.look(deploy.id)).result is Result.FAILED


async def test_a_connected_worker_answers_for_its_job(shop: Shop) -> None:
    deploy, _ = await begun(shop)
    await resolve(shop, deploy.id, Resolution.FAILED)
    assert (await shop.look(deploy.id)).state is State.RUNNING


async def test_again_gives_a_deploy_another_attempt_on_a_free_box(shop: Shop) -> None:
    deploy, old = await begun(shop)
    await shop.later(SILENT_SECONDS)
    other = await shop.another_worker("v", 1)
    await resolve(shop, deploy.id, Resolution.AGAIN)
    (new,) = await on(shop, other.connection.worker)
    assert new.attempt == 2 and new.lease_token > old.lease_token
    await back(shop)
    assert await shop.assignments() == []
    await shop.finish(old, Result.FAILED)
    assert (await shop.look(deploy.id)).state is State.RUNNING
    await shop.ask(
        inbox.Reports(
            other.connection.worker,
            (inbox.JobFinished(new.job, new.lease_token, 0.0, Result.PASSED, 0, None),),
        )
    )
    await shop.settle()
    assert (await shop.look(deploy.id)).result is Result.PASSED


async def test_again_for_a_job_whose_workers_node_has_just_gone(shop: Shop) -> None:
    """The job is not unknown yet: its worker has only hung up."""
    deploy, old = await begun(shop)
    shop.gone.add("test")
    await shop.later(5)
    job = (await shop.look(deploy.id)).jobs[0]
    assert job.state is JobState.RUNNING
    await resolve(shop, deploy.id, Resolution.AGAIN)
    job = (await shop.look(deploy.id)).jobs[0]
    assert job.lease_token is not None
    assert (job.state, job.attempt) == (JobState.UNKNOWN, 1) and job.lease_token > old.lease_token
    shop.gone.clear()
    await back(shop)
    (new,) = await shop.assignments()
    assert (new.attempt, new.started) == (2, False)


async def test_again_without_a_free_box_waits_for_one_also_under_the_next_leader(
    shop: Shop,
) -> None:
    deploy, old = await begun(shop)
    await shop.later(LOST_SECONDS)
    await resolve(shop, deploy.id, Resolution.AGAIN)
    job = (await shop.look(deploy.id)).jobs[0]
    assert job.lease_token is not None
    assert (job.state, job.attempt) == (JobState.UNKNOWN, 1) and job.lease_token > old.lease_token
    await shop.restart()
    await shop.finish(old, Result.FAILED)
    other = await shop.another_worker("v", 1)
    (new,) = await on(shop, other.connection.worker)
    assert new.attempt == 2 and new.lease_token > job.lease_token
    job = (await shop.look(deploy.id)).jobs[0]
    assert (job.state, job.reason) == (JobState.ASSIGNED, None)


async def test_again_uses_the_same_box_when_its_worker_is_back_first(shop: Shop) -> None:
    deploy, old = await begun(shop)
    await shop.later(SILENT_SECONDS)
    await resolve(shop, deploy.id, Resolution.AGAIN)
    token = (await shop.look(deploy.id)).jobs[0].lease_token
    assert token is not None
    for late in (old.lease_token, token):
        await shop.finish(old, Result.FAILED, token=late)
    await back(shop)
    (new,) = await shop.assignments()
    assert (new.attempt, new.started) == (2, False) and new.lease_token > token


async def test_a_repeated_resolution_and_one_of_an_earlier_attempt_change_nothing(
    shop: Shop,
) -> None:
    deploy, old = await begun(shop)
    await shop.later(SILENT_SECONDS)
    other = await shop.another_worker("v", 1)
    for _ in range(2):
        await resolve(shop, deploy.id, Resolution.AGAIN, token=old.lease_token)
    await shop.later(SILENT_SECONDS)  # v is away as well
    await resolve(shop, deploy.id, Resolution.FAILED, token=old.lease_token)
    found = await shop.look(deploy.id)
    assert (found.state, found.jobs[0].attempt) == (State.RUNNING, 2)
    assert [e.type for e in shop.events].count("job.resolved") == 1
    assert other.connection.worker != shop.worker


async def test_a_job_that_is_connected_and_fine_is_not_resolved(shop: Shop) -> None:
    deploy, _ = await begun(shop)
    await resolve(shop, deploy.id, Resolution.FAILED)
    assert (await shop.look(deploy.id)).jobs[0].state is JobState.RUNNING
    await shop.later(SILENT_SECONDS)
    await back(shop)
    await resolve(shop, deploy.id, Resolution.FAILED)
    assert (await shop.look(deploy.id)).jobs[0].state is JobState.RUNNING


async def test_a_workload_that_is_being_stopped_is_not_run_again(shop: Shop) -> None:
    deploy, _ = await begun(shop)
    await shop.later(SILENT_SECONDS)
    await shop.stop(deploy.id)
    await resolve(shop, deploy.id, Resolution.AGAIN)
    assert (await shop.look(deploy.id)).state is State.STOPPING
    await resolve(shop, deploy.id, Resolution.PASSED)
    assert (await shop.look(deploy.id)).result is Result.STOPPED


async def test_a_stop_ends_what_waits_to_be_run_again(shop: Shop) -> None:
    deploy, _ = await begun(shop)
    await shop.later(LOST_SECONDS)
    await resolve(shop, deploy.id, Resolution.AGAIN)
    await shop.stop(deploy.id)
    found = await shop.look(deploy.id)
    assert (found.result, found.jobs[0].reason) == (Result.STOPPED, "stopped by someone")


async def test_an_unknown_build_is_resolved_too(shop: Shop) -> None:
    build, _ = await begun(shop, server=None)
    await shop.later(SILENT_SECONDS)
    await resolve(shop, build.id, Resolution.AGAIN)
    await shop.later(LOST_SECONDS)
    other = await shop.another_worker("v", 1)
    (new,) = await on(shop, other.connection.worker)
    assert (new.workload, new.attempt) == (build.id, 2)


async def test_a_worker_is_forgotten_once_its_job_is_resolved(shop: Shop) -> None:
    deploy, _ = await begun(shop)
    assert shop.first is not None
    connection = shop.first.connection
    await shop.later(LOST_SECONDS)
    await resolve(shop, deploy.id, Resolution.FAILED)
    await shop.ask(inbox.WorkerForgotten(connection.worker, connection.number, "ada"))
    await shop.settle()
    assert await shop.store.forget_worker(connection)


async def test_a_deploy_whose_box_is_not_in_the_store_is_resolved_too(
    shop: Shop, tmp_path: Path
) -> None:
    """That must not be; but then, too, its lane can be opened."""
    deploy, lost = await begun(shop)
    waiting = await shop.build(server="production")
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite")) as raw:
        raw.execute("DELETE FROM box WHERE id = ?", (lost.box,))
        raw.commit()
    shop.broken = True
    await shop.restart()
    await resolve(shop, deploy.id, Resolution.FAILED)
    assert (await shop.look(deploy.id)).result is Result.FAILED
    await back(shop)
    (runs,) = await shop.assignments()
    assert runs.workload == waiting


async def test_a_session_on_a_lost_worker_is_resolved_too(shop: Shop) -> None:
    new = attrs.evolve(
        shop.new(timeout=36_000.0), kind=Kind.SSH, branch=None, public_key="ssh-ed25519 AAAA"
    )
    (session,) = await shop.submit(new)
    await shop.settle()
    await shop.start(await shop.assignments())
    await shop.later(LOST_SECONDS)
    said = shop.why(session)
    assert said is not None and "boxsched resolve w1-1 passed|failed|again" in said.text
    await resolve(shop, session, Resolution.PASSED)
    assert (await shop.look(session)).result is Result.PASSED
