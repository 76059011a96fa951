"""``check`` finds nothing in a correct history, and finds each planted violation."""

from collections.abc import Callable

import attrs
import pytest

from boxsched.errors import Invalid, StoreAway
from boxsched.model import JobId, WorkloadId, job_id
from boxsched.protocol.batches import BoxChange, JobChange
from boxsched.protocol.shards import Project
from boxsched.states import JobState, Result
from boxsched.store.operating.check import check
from boxsched.store.records import NewWorkload
from tests.contract.conftest import DatabaseUnderTest, PostgresUnderTest
from tests.contract.store_data import (
    NOW,
    Leader,
    assigned,
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
    """Two workloads in a lane, one after the other; one canceled; one running; one in the inbox."""
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


async def test_a_correct_history_has_no_violation_also_while_it_is_written(
    db: DatabaseUnderTest,
) -> None:
    leader = await Leader(await db.open()).lead()
    assert await check(db.url) == []
    await good_history(leader)
    assert await check(db.url) == [], "while the service runs"
    await leader.finish((await leader.store.unfinished())[0].id, 0)
    assert await check(db.url) == []
    await db.close()
    assert await check(db.url) == [], "while none runs"


# Another organization, in its own shard, which has committed nothing.
_OTHER = (
    "INSERT INTO shard VALUES (2, 0, 0, 0, '');"
    "INSERT INTO organization (id, name, policy, shard) VALUES (2, 'other', 'strict', 2)"
)

PLANTED = {
    "UPDATE workload SET organization = 2 WHERE id = (SELECT max(id) FROM workload)": "schema",
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
    "UPDATE project SET first_number = 2": "I5, V24",
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
    "UPDATE project SET organization = 9": "schema",
    "UPDATE shard SET epoch = 0": "I7, V1",
    "UPDATE leadership SET batch = 99": "I7, V1",
    "INSERT INTO leadership VALUES (1, 9, 1, 'zombie', 9)": "I7, V1",
    "DELETE FROM inbox WHERE workload IS NOT NULL": "V16",
    f"{_OTHER}; UPDATE worker SET organization = 2": "I1",
    f"{_OTHER}; UPDATE project SET organization = 2": "I4, I7",
}


@pytest.mark.parametrize("statement", PLANTED)
async def test_each_planted_violation_is_found(db: DatabaseUnderTest, statement: str) -> None:
    leader = await Leader(await db.open()).lead()
    await good_history(leader)
    await db.close()
    db.plant(statement)
    found = await check(db.url)
    assert PLANTED[statement] in [violation.invariant for violation in found]
    assert all(violation.what and violation.rows for violation in found)


async def test_two_workloads_of_a_lane_past_ordering_are_found(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    await good_history(leader)
    project = await leader.project()
    first, second = (
        await leader.submit(build(project, "x")),
        await leader.submit(build(project, "x")),
    )
    await leader.queue(second.id)
    found = await check(db.url)
    assert "I3, V7, V8" in [violation.invariant for violation in found]
    assert first.number in found[0].rows[0]


async def test_each_shard_has_its_own_plan_batches_and_events(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    await good_history(leader)
    await db.close()
    db.plant(f"{_OTHER}; UPDATE organization SET max_boxes = 0 WHERE id = 2")
    assert await check(db.url) == [], "another's plan"
    db.plant("UPDATE project SET organization = 2; UPDATE shard SET batch = 99 WHERE id = 2")
    found = {violation.what for violation in await check(db.url)}
    assert "an event in another shard than its workload" in found


async def test_a_commit_of_a_former_leader_after_its_successors_is_found(
    postgres_db: PostgresUnderTest,
) -> None:
    """As a leader that was frozen would commit without the fence."""
    first = await Leader(await postgres_db.open()).lead()
    await good_history(first)
    last = first.batch
    second = await Leader(await postgres_db.reopen()).lead(boxes=0)
    await second.queue(WorkloadId(4))
    assert await check(postgres_db.url) == []
    late = f"INSERT INTO event VALUES (1, {last}, 9, 'late', 1, NULL, NULL, '{{}}')"
    postgres_db.plant(late)
    found = await check(postgres_db.url)
    assert "I7, V2" in [violation.invariant for violation in found]


@pytest.mark.parametrize("step", ["- interval '1 hour'", "+ interval '1 hour'"])
async def test_a_changed_clock_is_not_reported_as_a_late_commit(
    postgres_db: PostgresUnderTest, step: str
) -> None:
    """The server's clock moves an hour back or ahead before the second leader's first commit."""
    first = await Leader(await postgres_db.open()).lead()
    await good_history(first)
    last = first.batch
    second = await Leader(await postgres_db.reopen()).lead(boxes=0)
    await second.queue(WorkloadId(4))
    await postgres_db.close()
    name = postgres_db.url.rpartition("/")[2].partition("?")[0]
    postgres_db.plant(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    postgres_db.plant(
        "CREATE FUNCTION public.pg_xact_commit_timestamp(xid) RETURNS timestamptz LANGUAGE sql AS "
        "$$ SELECT pg_catalog.pg_xact_commit_timestamp($1)"
        f" {step} * CASE WHEN EXISTS (SELECT 1 FROM event WHERE xmin = $1 AND batch > {last})"
        " THEN 1 ELSE 0 END $$"
    )
    assert await check(postgres_db.url) == []
    third = await Leader(await postgres_db.reopen()).lead(boxes=0)
    await third.commit(events=(event("x", NOW),))
    assert await check(postgres_db.url) == [], "nor later"


@pytest.mark.parametrize(
    ("submission", "box", "attempt", "found"),
    [
        (build, 1, 2, set()),
        (build, 2, 2, {"I1, V10"}),  # another job runs there
        (build, 1, 3, {"I4, V5"}),
        (deploy, 1, 2, {"I9"}),
    ],
)
async def test_only_lost_jobs_of_builds_are_repeated_once_on_a_free_box(
    db: DatabaseUnderTest,
    submission: Callable[[Project], NewWorkload],
    box: int,
    attempt: int,
    found: set[str],
) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    lost, other = (
        await leader.submit(submission(project)),
        await leader.submit(build(project, "other")),
    )
    await leader.queue(lost.id, other.id)
    await leader.start(lost.id, 0)
    await leader.start(other.id, 2)
    now, job = leader.now(), job_id(lost.id, 0)
    again = leader.boxes[box].id
    given = {"box": str(again), "attempt": attempt}
    taken = (BoxChange(again, job, None, None, NOW),) if box == 1 else ()
    await leader.commit(
        jobs=(attrs.evolve(assigned(job, again, leader.batch + 1), attempt=attempt),),
        freed=(BoxChange(leader.boxes[0].id, None, None, None, now),),
        taken=taken,
        events=(
            event("job.unknown", now, lost.id, job),
            event("job.given_again", now, lost.id, job, **given),
        ),
    )
    told = {violation.invariant for violation in await check(db.url)}
    assert found <= told if found else not told


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([], set()),
        (["worker.draining"], {"V21"}),
        (["worker.incompatible"], {"V21"}),
        (["worker.draining", "worker.drain_ended"], set()),
        (["worker.incompatible", "worker.compatible"], set()),
        (["worker.draining", "worker.compatible"], {"V21"}),
        (["worker.draining", "worker.incompatible", "worker.drain_ended"], {"V21"}),
    ],
)
async def test_a_box_of_a_worker_that_gets_no_jobs_is_not_assigned(
    db: DatabaseUnderTest, events: list[str], found: set[str]
) -> None:
    leader = await Leader(await db.open()).lead()
    build_ = await leader.submit(build(await leader.project()))
    await leader.queue(build_.id)
    worker = str(leader.worker)
    await leader.commit(events=tuple(event(type_, NOW, worker=worker) for type_ in events))
    await leader.commit(events=(event("worker.draining", NOW, worker="4711"),))
    await leader.start(build_.id, 0)
    assert {violation.invariant for violation in await check(db.url)} == found


class Listener:
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, what: str) -> None:
        self.steps.append(what)

    def note(self, text: str) -> None:
        self.notes.append(text)


async def test_the_check_reports_its_progress(db: DatabaseUnderTest) -> None:
    await good_history(await Leader(await db.open()).lead())
    listener = Listener()
    assert await check(db.url, listener) == []
    assert "lane order" in " ".join(listener.steps)
    assert listener.steps[-1] == "the history: 0 events"


async def test_a_database_of_another_program_is_reported(db: DatabaseUnderTest) -> None:
    store = await db.open()
    await store.close()
    db.plant("DELETE FROM meta")
    with pytest.raises(Invalid, match="db upgrade"):
        await check(db.url)
    db.plant("INSERT INTO meta VALUES ('schema', '1')")
    with pytest.raises(StoreAway, match=r"schema 1.*db upgrade"):
        await check(db.url)
