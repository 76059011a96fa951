"""Workers, Boxes, and the jobs that each worker should be running."""

import attrs
import pytest

from boxsched.model import Kind, WorkerId, job_id
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import BoxChange
from boxsched.states import JobState, Result
from tests.contract.store_data import (
    NOW,
    Leader,
    assigned,
    build,
    deploy,
    ended,
    running,
    session,
    spec,
)


async def test_an_assignment_has_everything_a_worker_needs(leader: Leader) -> None:
    project = await leader.project(settings='{"repository": "https://example.org/web.git"}')
    done = await leader.submit(build(project, jobs=(spec(), spec("lint", 60.5))))
    await leader.queue(done.id)
    await leader.start(done.id, 2, 1)
    first = Assignment(
        job=job_id(done.id, 0),
        attempt=1,
        lease_token=leader.batch,
        box=leader.boxes[2].id,
        ordinal=3,
        stop=False,
        timeout_seconds=3600.0,
        name="test",
        commands=("make test",),
        environment={"CI": "true"},
        workload=done.id,
        number=1,
        kind=Kind.BUILD,
        project="web",
        branch="main",
        tag=None,
        server=None,
        commit="0123abc",
        repository="https://example.org/web.git",
        owner=project.id,
    )
    second = attrs.evolve(
        first,
        job=job_id(done.id, 1),
        box=leader.boxes[1].id,
        ordinal=2,
        name="lint",
        timeout_seconds=60.5,
    )
    found = await leader.assignments()
    assert sorted(found, key=lambda each: each.job) == [first, second]
    assert [type(each.stop) for each in found] == [bool, bool]
    assert [each.started for each in found] == [False, False]
    nobody = WorkerId(leader.worker + 1)
    assert await leader.store.assignments([nobody]) == {nobody: []}


@pytest.mark.parametrize(
    ("state", "started", "stop"),
    [
        (JobState.ASSIGNED, None, False),
        (JobState.RUNNING, NOW, False),
        (JobState.UNKNOWN, NOW, False),
        (JobState.STOPPING, NOW, True),
        (JobState.STOPPING, None, True),
    ],
)
async def test_every_job_that_holds_a_box_is_assigned(
    leader: Leader, state: JobState, started: float | None, stop: bool
) -> None:
    project = await leader.project()
    done = await leader.submit(build(project))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    change = assigned(job_id(done.id, 0), leader.boxes[0].id, leader.batch)
    await leader.commit(jobs=(attrs.evolve(change, state=state, started_at=started),))
    (found,) = await leader.assignments()
    assert found.stop is stop
    assert found.started is (started is not None)


async def test_an_ended_job_is_not_assigned_while_the_others_run(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(build(project, jobs=(spec(), spec("lint"))))
    await leader.queue(done.id)
    await leader.start(done.id, 0, 1)
    box, now = leader.boxes[0].id, leader.now()
    await leader.commit(
        jobs=(ended(job_id(done.id, 0), box, leader.batch, now, Result.FAILED),),
        freed=(BoxChange(box, None, project.id, "main", now),),
    )
    (left,) = await leader.assignments()
    assert left.name == "lint"
    freed, busy, *_ = await leader.store.boxes()
    assert (freed.job, freed.workload, freed.last_project) == (None, None, project.id)
    assert (freed.last_branch, freed.freed_at) == ("main", now)
    assert (busy.job, busy.workload, busy.job_name) == (job_id(done.id, 1), done.id, "lint")
    assert busy.worker_name == "w"


async def test_workers_are_shown_with_their_running_jobs(leader: Leader) -> None:
    project = await leader.project()
    one = await leader.submit(build(project, jobs=(spec(), spec("lint"))))
    two = await leader.submit(deploy(project))
    three = await leader.submit(session(project))
    await leader.queue(one.id, two.id, three.id)
    await leader.start(one.id, 0, 1)
    await leader.start(two.id, 2)
    await leader.start(three.id, 3)
    (worker,) = await leader.store.workers()
    assert (worker.boxes, worker.builds, worker.deploys, worker.ssh_sessions) == (4, 1, 1, 1)
    await leader.commit(workloads=(running(one.id, NOW),))
