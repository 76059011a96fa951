"""What people decide about ghosts: a job goes on with the worker that holds an attempt at it."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from boxsched.model import JobId, WorkloadId, job_text
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import Haunted, HeldAttempt
from boxsched.protocol.inbox import Resolution
from boxsched.states import JobState, Result
from boxsched.store.records import Job
from tests.engine.harness import EngineHarness, told

LONG = 36_000.0
SILENT_SECONDS = 17


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with one Box."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


class Lost:
    """A deploy whose worker was cut off, and a person said: run it again."""

    def __init__(self, harness: EngineHarness, given: Assignment) -> None:
        self.harness = harness
        self.given = given

    @classmethod
    async def again(cls, harness: EngineHarness, *, begun: bool = True) -> "Lost":
        await harness.build(server="production", timeout=LONG)
        (given,) = await harness.assignments()
        if begun:
            await harness.start([given])
        await harness.later(SILENT_SECONDS)
        await resolve(harness, given, Resolution.AGAIN)
        return cls(harness, given)

    async def restore(self, attempt: int = 1) -> None:
        job, token = self.given.job, self.given.lease_token
        said = inbox.Restore(self.harness.worker, job, attempt, token, "ann")
        await self.harness.ask(said)
        await self.harness.settle()

    @property
    def workload(self) -> WorkloadId:
        return self.given.workload

    async def job(self) -> Job:
        return (await self.harness.look(self.workload)).jobs[0]


async def resolve(harness: EngineHarness, given: Assignment, result: Resolution) -> None:
    await harness.ask(inbox.Resolve(given.job, given.lease_token, result, "ann", ""))
    await harness.settle()


async def note(harness: EngineHarness, *held: HeldAttempt) -> None:
    """A heartbeat of the worker names these ghosts."""
    assert harness.first is not None
    await harness.store.note_ghosts([Haunted(harness.first.connection, held)])
    await harness.settle()


def types(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events if event.type.startswith(("job.", "ghost."))]


async def test_a_waiting_job_goes_on_with_the_worker_that_holds_it(harness: EngineHarness) -> None:
    """The worker is draining, so its Boxes are given to nobody, and the job waits."""
    lost = await Lost.again(harness)
    await harness.ask(inbox.DrainSet(harness.worker, "ann", "", harness.clock.now(), None))
    await harness.connect(1)
    await harness.settle()
    waiting = await lost.job()
    assert waiting.state is JobState.UNKNOWN and await harness.assignments() == []
    await lost.restore()
    now = await lost.job()
    assert (now.state, now.attempt, now.reason) == (JobState.RUNNING, 1, None)
    assert now.lease_token is not None and waiting.lease_token is not None
    assert now.lease_token > waiting.lease_token > lost.given.lease_token
    (level,) = await harness.assignments()
    assert (level.lease_token, level.restores) == (now.lease_token, lost.given.lease_token)
    assert level.started and not level.stop
    restored = next(one for one in told(harness) if one["type"] == "job.restored")
    assert (restored["by"], restored["attempt"]) == ("ann", 1)
    await harness.finish(lost.given)
    assert (await lost.job()).state is JobState.RUNNING, "its old token changes nothing"
    await harness.finish(level)
    assert (await harness.look(lost.workload)).result is Result.PASSED


async def test_an_attempt_that_has_not_begun_gives_way_to_the_one_before(
    harness: EngineHarness,
) -> None:
    """The same worker was given the next attempt, and begins it only when the ghost has ended."""
    lost = await Lost.again(harness)
    await harness.connect(1)
    await harness.settle()
    (second,) = await harness.assignments()
    assert second.attempt == 2
    await lost.restore()
    now = await lost.job()
    assert (now.state, now.attempt) == (JobState.RUNNING, 1)
    await harness.finish(second)
    assert (await lost.job()).state is JobState.RUNNING, "its token changes nothing any more"
    (level,) = await harness.assignments()
    assert (level.attempt, level.restores) == (1, lost.given.lease_token)
    await harness.finish(level, Result.FAILED)
    assert (await harness.look(lost.workload)).result is Result.FAILED
    assert types(harness)[-3:] == ["job.given_again", "job.restored", "job.finished"]


async def test_a_restored_job_can_be_lost_and_restored_again(harness: EngineHarness) -> None:
    lost = await Lost.again(harness)
    await harness.connect(1)
    await harness.settle()
    await lost.restore()
    (level,) = await harness.assignments()
    await harness.later(SILENT_SECONDS)
    await resolve(harness, level, Resolution.AGAIN)
    await harness.restart()
    await harness.connect(1)
    await harness.settle()
    (second,) = await harness.assignments()
    assert (second.attempt, second.restores) == (2, None)
    lost.given = level
    await lost.restore()
    (again,) = await harness.assignments()
    assert (again.attempt, again.restores) == (1, level.lease_token)


async def test_another_leader_knows_a_restored_job(harness: EngineHarness) -> None:
    lost = await Lost.again(harness)
    await harness.connect(1)
    await harness.settle()
    await lost.restore()
    (before,) = await harness.assignments()
    await harness.restart()
    await harness.start([before])  # a change of another kind writes the row again
    await harness.later(SILENT_SECONDS)
    assert (await lost.job()).state is JobState.UNKNOWN
    assert await harness.assignments() == [before]
    await harness.connect(1)
    await harness.finish(before)
    assert (await harness.look(lost.workload)).result is Result.PASSED


async def test_an_attempt_that_the_worker_never_reported_is_not_begun_again(
    harness: EngineHarness,
) -> None:
    """Were it not marked as begun, a worker without its folder would begin it."""
    lost = await Lost.again(harness, begun=False)
    await harness.connect(1)
    await harness.settle()
    await lost.restore()
    (level,) = await harness.assignments()
    assert level.started


@pytest.mark.parametrize("result", [Resolution.PASSED, Resolution.FAILED])
async def test_a_finished_job_stays_as_it_is(harness: EngineHarness, result: Resolution) -> None:
    await harness.build(server="production", timeout=LONG)
    (given,) = await harness.assignments()
    await harness.start([given])
    await harness.later(SILENT_SECONDS)
    await resolve(harness, given, result)
    await harness.connect(1)
    before = await harness.look(given.workload)
    await Lost(harness, given).restore()
    assert await harness.look(given.workload) == before
    assert "job.restored" not in types(harness)


async def test_a_job_that_another_worker_has_stays_there(harness: EngineHarness) -> None:
    other = await harness.another_worker("other", 1)
    await harness.build(server="production", timeout=LONG)
    (given,) = await harness.assignments()
    await harness.start([given])
    await harness.later(SILENT_SECONDS, other)
    await resolve(harness, given, Resolution.AGAIN)
    await harness.connect(1)
    await harness.settle()
    lost = Lost(harness, given)
    before = await lost.job()
    assert before.attempt == 2
    await lost.restore()
    assert await lost.job() == before


@pytest.mark.parametrize("case", ["begun", "absent", "stopping", "attempt", "unknown", "build"])
async def test_nothing_changes_where_the_job_may_not_go_on(
    harness: EngineHarness, case: str
) -> None:
    lost = await Lost.again(harness)
    if case != "absent":
        await harness.connect(1)
        await harness.settle()
    if case == "begun":
        await harness.start(await harness.assignments())
    if case == "stopping":
        await harness.stop(lost.workload)
    if case == "build":
        await harness.finish((await harness.assignments())[0])
        await harness.build(timeout=LONG)
        (lost.given,) = await harness.assignments()
    if case == "unknown":
        lost.given = Assignment(  # of a job that was never registered
            JobId(1 << 40), *[getattr(lost.given, f.name) for f in Assignment.__attrs_attrs__[1:22]]
        )
    before = [await harness.look(lost.workload)] if case != "unknown" else []
    await lost.restore(attempt=2 if case == "attempt" else 1)
    assert "job.restored" not in types(harness)
    assert before == ([await harness.look(lost.workload)] if case != "unknown" else [])


async def test_who_ends_a_ghost_is_in_the_history(harness: EngineHarness) -> None:
    await harness.ask(inbox.GhostKilled(harness.worker, "w", 7 << 10, 3, 41, "ann"))
    await harness.settle()
    said = told(harness)[-1]
    assert said["type"] == "ghost.killed"
    assert (said["by"], said["name"], said["job"], said["attempt"]) == ("ann", "w", "w7-1", 3)


async def test_the_history_says_what_happens_to_a_ghost(harness: EngineHarness) -> None:
    """Found at a heartbeat; restored by a person, or ended; then its worker does not hold it."""
    lost = await Lost.again(harness)
    await harness.connect(1)
    await harness.settle()
    held = HeldAttempt(lost.given.job, 1, lost.given.lease_token, False, True)
    other = HeldAttempt(7 << 10, 3, 41, True, True)
    await note(harness, held, other)
    await note(harness, held, other)
    await lost.restore()
    await note(harness)
    said = [one for one in told(harness) if one["type"].startswith(("ghost.", "job.restored"))]
    job = (await lost.job()).id
    assert [(one["type"], one["job"], one.get("cause"), one.get("by")) for one in said] == [
        ("ghost.found", job_text(job), None, None),
        ("ghost.found", "w7-1", None, None),
        ("job.restored", job_text(job), None, "ann"),
        ("ghost.gone", job_text(job), "restored", None),
        ("ghost.gone", "w7-1", "ended", None),
    ]
    found = said[1]
    assert (found["name"], found["worker"]) == ("w", str(harness.worker))
    assert (found["attempt"], found["lease_token"]) == (3, 41)
    assert (found["build"], found["state"]) == (True, "running")


async def test_the_history_says_that_a_ghost_ended_and_that_a_person_ended_one(
    harness: EngineHarness,
) -> None:
    runs, ends = (HeldAttempt(n << 10, 1, n, False, True) for n in (7, 8))
    await note(harness, runs, ends)
    await note(harness, runs, msgspec.structs.replace(ends, running=False))
    (first, _) = await harness.store.ghosts()
    assert await harness.store.kill_ghost(first.id, "ann")
    for held in ((msgspec.structs.replace(runs, running=False),), ()):
        assert harness.first is not None  # the leader learns of all of it in one turn
        await harness.store.note_ghosts([Haunted(harness.first.connection, held)])
    await harness.settle()
    said = [one for one in told(harness) if one["type"].startswith("ghost.")]
    assert [(one["type"], one["job"], one.get("cause"), one.get("by")) for one in said] == [
        ("ghost.found", "w7-1", None, None),
        ("ghost.found", "w8-1", None, None),
        ("ghost.ended", "w8-1", None, None),
        ("ghost.killed", "w7-1", None, "ann"),
        ("ghost.gone", "w8-1", "ended", None),
        ("ghost.gone", "w7-1", "killed", "ann"),
    ]
    assert said[2]["state"] == "ended"


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("reported", [True, False])
async def test_nothing_is_left_to_decide_where_the_end_was_reported(
    harness: EngineHarness, reported: bool, ended: bool
) -> None:
    """The worker did not get the answer, so it holds the attempt still."""
    await harness.build(server="production", timeout=LONG)
    (given,) = await harness.assignments()
    await harness.start([given])
    if reported:
        await harness.finish(given)
    else:
        await harness.later(SILENT_SECONDS)
        await resolve(harness, given, Resolution.PASSED)
        await harness.connect(1)
        await harness.settle()
    assert harness.first is not None
    held = HeldAttempt(given.job, 1, given.lease_token, False, not ended)
    told = await harness.store.note_ghosts([Haunted(harness.first.connection, (held,))])
    listed = [(one.job, one.number, one.project) for one in await harness.store.ghosts()]
    if reported and ended:
        assert (told, listed) == ({harness.worker: (held.lease,)}, [])
    else:
        assert (told, listed) == ({}, [(given.job, given.number, "web")])
