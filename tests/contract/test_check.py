"""``check`` finds nothing in a good history, and each planted violation."""

import pytest

from boxsched.model import JobId, job_id
from boxsched.states import JobState, Result
from boxsched.store.check import check
from boxsched.store.values import JobChange
from tests.contract.conftest import Place
from tests.contract.world import (
    NOW,
    Leader,
    build,
    deploy,
    event,
    finished,
    key,
    queued,
    session,
    spec,
)


async def good_history(leader: Leader) -> None:
    """Two in a lane, one after the other; one canceled; one running; one in the inbox."""
    project = await leader.project()
    jobs = (spec(), spec("lint"))
    first = await leader.submit(build(project, jobs=jobs, idempotency=key("k")))
    second = await leader.submit(build(project))
    dropped = await leader.submit(deploy(project))
    await leader.queue(first.id)
    await leader.commit(
        inbox=await leader.take_inbox(),
        events=tuple(event("workload.registered", NOW, x.id) for x in (second, dropped)),
    )
    await leader.start(first.id, 0, 1)
    await leader.finish(first.id, 0, 1)
    now = leader.now()
    await leader.commit(
        ended=(finished(dropped.id, now, Result.CANCELED),),
        jobs=(_canceled(job_id(dropped.id, 0), now),),
        workloads=(queued(second.id, now),),
        events=(
            event("workload.queued", now, second.id),
            event("workload.finished", now, dropped.id),
        ),
    )
    await leader.start(second.id, 0)
    await leader.submit(session(project))
    await leader.store.append_log([(JobId(1 << 10), 1, 0, b"abc"), (JobId(1 << 10), 1, 3, b"d")])


def _canceled(job: JobId, at: float) -> JobChange:
    return JobChange(job, JobState.FINISHED, Result.CANCELED, None, 0, None, None, at, None, None)


async def test_a_good_history_has_no_violation_also_while_it_is_written(
    place: Place,
) -> None:
    leader = await Leader(await place.open()).lead()
    assert await check(place.url) == []
    await good_history(leader)
    assert await check(place.url) == [], "while the service runs"
    await leader.finish((await leader.store.unfinished())[0].id, 0)
    assert await check(place.url) == []
    await place.close()
    assert await check(place.url) == [], "while none runs"


PLANTED = {
    "DELETE FROM job WHERE id = 1025": "I2, V11",
    "UPDATE job SET attempt = 0, state = 'waiting', box = NULL WHERE id = 2048": "I2, V11",
    "UPDATE job SET state = 'finished', result = 'passed', finished_at = 9 WHERE id = 2048": "V16",
    "UPDATE box SET job = NULL": "I1, V10, V16",
    "UPDATE workload SET finished_at = 9e9 WHERE id = 1": "I3, V7, V9",
    "UPDATE job SET lease_token = 1 WHERE id = 2048": "I4, V23",
    "UPDATE job SET lease_token = 999 WHERE id = 2048": "I4, I7",
    "UPDATE idempotency SET number = 77": "I6, V13",
    "UPDATE shard SET batch = 3": "I7",
    "UPDATE project SET next_number = 9": "I5, V24",
    "DELETE FROM inbox": "I5, V24",
    "UPDATE log_chunk SET first_byte = 2, end_byte = 3 WHERE first_byte = 3": "V18",
    "UPDATE organization SET max_boxes = 1": "I1",
    "UPDATE project SET max_boxes = 1": "I1",
    "UPDATE workload SET kind = 'deploy', server = 'x'; UPDATE job SET attempt = 2": "I9",
    "INSERT INTO event SELECT shard, batch + 2, 9, type, at, workload, job, data FROM event"
    " WHERE type = 'workload.finished' AND workload = 1": "V3, V4",
    "INSERT INTO event SELECT shard, batch, 9, type, at, workload, job, data FROM event"
    " WHERE type = 'job.finished' AND job = 1024": "V3, V4, V5",
    "INSERT INTO event SELECT shard, batch, 9, type, at, 4, job, data FROM event"
    " WHERE type = 'workload.started' AND workload = 1": "I1, V10",
    "UPDATE workload SET boxes = 3 WHERE id = 1": "I2, V11",
    "UPDATE workload SET state = 'stopping', stop_cause = 'asked' WHERE id = 2": "V3",
    "DELETE FROM worker": "schema",
}


@pytest.mark.parametrize("statement", PLANTED)
async def test_each_planted_violation_is_found(place: Place, statement: str) -> None:
    leader = await Leader(await place.open()).lead()
    await good_history(leader)
    await place.close()
    place.plant(statement)
    found = await check(place.url)
    assert PLANTED[statement] in [violation.invariant for violation in found]
    assert all(violation.what and violation.rows for violation in found)


async def test_two_past_ordering_in_a_lane_are_found(place: Place) -> None:
    leader = await Leader(await place.open()).lead()
    await good_history(leader)
    project = await leader.project()
    first, second = (
        await leader.submit(build(project, "x")),
        await leader.submit(build(project, "x")),
    )
    await leader.queue(second.id)
    found = await check(place.url)
    assert "I3, V7, V8" in [violation.invariant for violation in found]
    assert first.number in found[0].rows[0]
