"""What a turn writes to the store and the events, checked to the last field."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.engine.books import Books
from boxsched.engine.loading import NO_ORGANIZATION
from boxsched.engine.news import rfc3339
from boxsched.model import Cancellation, job_id
from boxsched.protocol import inbox
from boxsched.states import Result, State, StopCause
from boxsched.store.errors import InvariantRefused
from tests.engine.harness import LONG, EngineHarness, begun, told

SILENT_SECONDS = 17


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


# --- Events ---------------------------------------------------------------------------------


async def test_a_build_that_passes_causes_these_events(harness: EngineHarness) -> None:
    before = len(harness.events)
    created = rfc3339(harness.clock.now())
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    harness.clock.time += 5
    await harness.start([assignment])
    begun_at = rfc3339(harness.clock.now())
    harness.clock.time += 7
    await harness.finish(assignment)
    ended = rfc3339(harness.clock.now())
    of = {"workload": f"w{id_}", "project": "web", "number": 1, "kind": "build"}
    job = {**of, "job": f"w{id_}-1", "name": "j0", "box": str(assignment.box), "attempt": 1}
    freed = {"type": "boxes.changed"}
    assert freed not in told(harness, before)
    assert told(harness, before) == [
        {
            "type": "workload.registered", "at": created, **of, "branch": "main", "tag": None,
            "server": None, "commit": None, "message": None, "author": None, "priority": 50,
            "boxes": 1, "created_at": created, "state": "registered",
        },
        {"type": "workload.queued", "at": created, **of, "state": "queued", "queued_at": created},
        {
            "type": "workload.started", "at": created, **of, "state": "running",
            "started_at": created, "boxes_taken": [str(assignment.box)], "warm": 0,
            "capacity": {"total": 2, "busy": 1},
        },
        {
            "type": "job.started", "at": begun_at, **job, "state": "running", "result": None,
            "exit_status": None, "reason": None,
        },
        {
            "type": "job.finished", "at": ended, **job, "state": "finished", "result": "passed",
            "exit_status": 0, "reason": None, "capacity": {"total": 2, "busy": 0},
        },
        {
            "type": "workload.finished", "at": ended, **of, "state": "finished",
            "result": "passed", "queued_at": created, "started_at": created,
            "finished_at": ended, "by": None, "reason": None, "capacity": {"total": 2, "busy": 0},
        },
    ]  # fmt: skip


async def test_a_build_that_a_newer_one_stops_causes_these_events(harness: EngineHarness) -> None:
    old = await begun(harness, cancellation=Cancellation.ALL)
    before = len(harness.events)
    new = await harness.build(cancellation=Cancellation.ALL)
    (assignment,) = await harness.assignments()
    found = await harness.look(old.id)
    reason = "superseded by web#2 (cancellation: all)"
    assert (found.state, found.reason) == (State.STOPPING, reason)
    (stopping,) = [each for each in told(harness, before) if each["type"] == "workload.stopping"]
    assert (stopping["by"], stopping["cause"], stopping["reason"]) == (
        f"w{new}", StopCause.SUPERSEDED, reason,
    )  # fmt: skip
    await harness.finish(assignment, Result.STOPPED)
    found = await harness.look(old.id)
    assert (found.result, found.reason, found.jobs[0].reason) == (Result.STOPPED, reason, reason)


async def test_a_build_that_is_canceled_causes_these_events(harness: EngineHarness) -> None:
    await begun(harness)
    waiting = await harness.build()
    before = len(harness.events)
    await harness.stop(waiting)
    (finished,) = told(harness, before)
    assert (finished["type"], finished["by"], finished["result"]) == (
        "workload.finished", "someone", "canceled",
    )  # fmt: skip
    assert (finished["queued_at"], finished["started_at"]) == (None, None)
    found = await harness.look(waiting)
    assert found.reason == found.jobs[0].reason == "canceled by someone"
    assert found.finished_at == found.jobs[0].finished_at == harness.clock.now()
    assert (found.jobs[0].attempt, found.jobs[0].box) == (0, None)


async def test_the_reason_names_the_first_failure_and_the_number_of_others(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(jobs=2)
    for n, assignment in enumerate(await harness.assignments(), 1):
        said = inbox.JobFinished(
            assignment.job, assignment.lease_token, harness.clock.now(), Result.FAILED, n, None
        )
        await harness.report(said)
    found = await harness.look(id_)
    assert (found.result, found.reason) == (
        Result.FAILED, "job j0 failed: exit status 1; 1 more job failed",
    )  # fmt: skip
    assert [job.exit_status for job in found.jobs] == [1, 2]


async def test_the_commit_that_a_job_found_is_known_while_other_jobs_run(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build(jobs=2)
    one, other = await harness.assignments()
    for assignment, commit in ((one, "a" * 40), (other, "b" * 40)):
        said = inbox.JobFinished(
            assignment.job,
            assignment.lease_token,
            harness.clock.now(),
            Result.PASSED,
            0,
            None,
            commit,
        )
        await harness.report(said)
        assert (await harness.look(id_)).commit == "a" * 40, "the first one holds for all"
    assert (await harness.look(id_)).result is Result.PASSED


async def test_the_first_failure_is_known_while_other_jobs_run(harness: EngineHarness) -> None:
    id_ = await harness.build(jobs=2)
    one, _ = await harness.assignments()
    await harness.finish(one, Result.FAILED)
    found = await harness.look(id_)
    assert (found.state, found.reason) == (State.RUNNING, "job j0 failed: exit status 0")


async def test_fail_fast_names_the_job_that_failed(harness: EngineHarness) -> None:
    id_ = await harness.build(jobs=2, fail_fast=True)
    one, other = await harness.assignments()
    await harness.start([one, other])
    await harness.finish(one, Result.FAILED)
    found = await harness.look(id_)
    assert found.reason == "job j0 failed: exit status 0"
    await harness.finish(other, Result.STOPPED)
    found = await harness.look(id_)
    assert (found.result, found.reason) == (Result.FAILED, "job j0 failed: exit status 0")
    assert [job.result for job in found.jobs] == [Result.FAILED, Result.STOPPED]
    assert found.jobs[1].reason == "job j0 failed: exit status 0 (fail_fast)"


async def test_an_event_has_the_beginning_of_a_long_message(harness: EngineHarness) -> None:
    (id_,) = await harness.submit(attrs.evolve(harness.new(), message="m" * 501))
    await harness.settle()
    (registered,) = [one for one in told(harness) if one["type"] == "workload.registered"]
    assert registered["message"] == "m" * 500
    assert (await harness.look(id_)).message == "m" * 501


async def test_an_event_has_the_beginning_of_a_command_that_was_set_aside(
    harness: EngineHarness,
) -> None:
    await harness.store.ask(1, [("nonsense", b'"' + b"n" * 10_001 + b'"')])
    await harness.settle()
    (aside,) = [one for one in told(harness) if one["type"] == "command.set_aside"]
    assert (aside["kind"], aside["payload"]) == ("nonsense", '"' + "n" * 9_999)


async def test_the_events_show_how_an_operator_resolves_a_job(harness: EngineHarness) -> None:
    deploy = await begun(harness, server="production")
    (job,) = deploy.jobs
    await harness.later(SILENT_SECONDS)
    before = len(harness.events)
    await harness.ask(
        inbox.Resolve(job.id, job.lease_token, inbox.Resolution.PASSED, "ada", "looked at it")
    )
    await harness.settle()
    resolved, finished, *_ = told(harness, before)
    of = {"at": rfc3339(harness.clock.now()), "workload": f"w{deploy.id}", "project": "web"}
    assert resolved == {
        "type": "job.resolved", **of, "number": 1, "kind": "deploy", "job": f"w{deploy.id}-1",
        "name": "j0", "state": "unknown", "attempt": 1, "result": "passed", "by": "ada",
        "note": "looked at it",
    }  # fmt: skip
    assert (finished["type"], finished["result"]) == ("job.finished", "passed")
    assert (await harness.look(deploy.id)).result is Result.PASSED


async def test_a_new_leader_knows_the_names_of_projects(harness: EngineHarness) -> None:
    await harness.restart()
    before = len(harness.events)
    await harness.build()
    assert {one["project"] for one in told(harness, before)} == {"web"}


# --- Commits that fail ----------------------------------------------------------------------


async def test_a_commit_that_is_refused_drops_the_books_and_shows_nothing(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, batch = await harness.store.batch_number(1)
    events, loads = len(harness.events), harness.engine.counters.loads
    (id_,) = await harness.submit(harness.new())
    harness.told.clear()

    async def refused(*arguments: object) -> None:
        raise InvariantRefused("of the test")

    with monkeypatch.context() as patch:
        patch.setattr(type(harness.store), "commit", refused)
        assert await harness.engine.turn()
    assert harness.engine.books is None and not harness.engine.leads
    assert (len(harness.events), harness.told) == (events, {})
    while await harness.engine.step():
        pass
    assert harness.engine.counters.loads == loads + 1
    assert (await harness.look(id_)).state is State.RUNNING
    assert await harness.store.batch_number(1) == (epoch, batch + 1), "the same epoch, one batch"
    stored = await harness.store.events_after(1, 0, 0, 1_000)
    assert [(e.batch, e.n) for e in stored] == [(e.batch, e.n) for e in harness.events]


# --- Expected durations ---------------------------------------------------------------------


@pytest.mark.parametrize("result", [Result.FAILED, Result.STOPPED])
async def test_only_passed_runs_change_the_expected_duration(
    harness: EngineHarness, result: Result
) -> None:
    build = await begun(harness)
    assignment, *_ = await harness.assignments()
    if result is Result.STOPPED:
        await harness.stop(build.id)
    harness.clock.time += 9
    await harness.finish(assignment, result)
    assert (await harness.look(build.id)).result is result
    books = harness.engine.books
    assert books is not None and books.durations == {}
    again = await begun(harness)
    assert again.jobs[0].expected_seconds == LONG
    assignment, *_ = await harness.assignments()
    harness.clock.time += 4
    await harness.finish(assignment)
    assert list(books.durations.values()) == [(4.0,)]
    assert (await begun(harness)).jobs[0].expected_seconds == 4.0


async def test_a_job_of_the_same_name_in_another_project_is_another_job(
    harness: EngineHarness,
) -> None:
    await harness.project("app")
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    harness.clock.time += 4
    await harness.finish(assignment)
    other = await begun(harness, project="app")
    assert other.jobs[0].expected_seconds == LONG
    assert job_id(build.id, 0) != other.jobs[0].id


# --- Figures and deadlines ------------------------------------------------------------------


async def test_the_counters_of_a_turn(harness: EngineHarness) -> None:
    counters = harness.engine.counters
    before, events = attrs.asdict(counters), len(harness.events)
    await harness.submit(*(harness.new(branch=branch) for branch in "abc"))
    await harness.settle()
    (one, *_) = await harness.assignments()
    await harness.finish(one)
    await harness.store.ask(1, [("nonsense", b"[]")])
    await harness.settle()
    grown = {name: value - before[name] for name, value in attrs.asdict(counters).items()}
    assert grown["turns"] == 3
    assert grown["commands"] == 5  # three submissions, one report, and one unreadable command
    assert grown["events"] == len(harness.events) - events
    assert (grown["admitted"], grown["finished"], grown["set_aside"]) == (3, 1, 1)
    assert (grown["loads"], grown["fenced"]) == (0, 0)
    assert counters.largest_turn == 3


async def test_a_deadline_is_due_at_the_limit_the_slack_and_the_grace(
    harness: EngineHarness,
) -> None:
    began = harness.clock.time
    await harness.build(timeout=60.0)
    await harness.start(await harness.assignments())
    deadlines = harness.engine._deadlines
    assert not deadlines.are_due(began + 74.5)
    assert deadlines.are_due(began + 75.0)
    deadlines.leave_out(10.0)
    assert not deadlines.are_due(began + 84.5)
    assert deadlines.are_due(began + 85.0)


async def test_a_reload_restarts_the_deadlines(harness: EngineHarness) -> None:
    await harness.build(timeout=60.0)
    await harness.start(await harness.assignments())
    deadlines, books = harness.engine._deadlines, harness.engine.books
    assert books is not None
    deadlines.leave_out(1_000.0)
    now = harness.clock.time + 2_000.0
    deadlines.begin(books, now)
    assert not deadlines.are_due(now + 74.5)
    assert deadlines.are_due(now + 75.0)


def test_equal_jobs_share_a_tuple_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxsched.engine.books.SHARED_JOBS_AT_MOST", 2)
    books = Books(NO_ORGANIZATION)

    def jobs(name: str) -> tuple[inbox.SubmitJob, ...]:
        return (inbox.SubmitJob(name, "default", 60.0, 90.0),)

    one, asks = books.shared(jobs("one"))
    assert [(ask.box_type, ask.expected, ask.limit) for ask in asks] == [("default", 60.0, 60.0)]
    two, _ = books.shared(jobs("two"))
    assert books.shared(jobs("one"))[0] is one
    books.shared(jobs("three"))  # one too many: all but this one are forgotten
    assert books.shared(jobs("one"))[0] is not one
    kept = books.shared(jobs("two"))[0]
    assert kept is not two
