"""Reports that reach the leader in memory are acknowledged once they are durable."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.engine import endings
from boxsched.engine.outcomes import Outcomes
from boxsched.errors import OutcomeUnknown, StoreAway
from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.shards import SHARD
from boxsched.states import Result, State
from tests.engine.harness import EngineHarness
from tests.engine.test_slow_store import failing


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


def passed(harness: EngineHarness, assignment: Assignment) -> inbox.Reports:
    now = harness.clock.now()
    started = inbox.JobStarted(assignment.job, assignment.lease_token, now)
    finished = inbox.JobFinished(
        assignment.job, assignment.lease_token, now, Result.PASSED, 0, None, seconds=0.0
    )
    return inbox.Reports(harness.worker, (started, finished))


def said(harness: EngineHarness, command: inbox.Reports) -> asyncio.Future[None]:
    future = harness.engine.report(command)
    assert future is not None
    return future


async def test_a_report_is_acknowledged_when_its_batch_is_durable(harness: EngineHarness) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    future = said(harness, passed(harness, assignment))
    assert not future.done()
    assert await harness.store.inbox(SHARD, 10) == [], "it is not stored first"
    await harness.engine.turn()
    assert future.done() and future.exception() is None
    assert (await harness.look(id_)).result is Result.PASSED
    assert harness.engine.counters.commands >= 1


async def test_a_report_waits_while_the_store_is_away(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await harness.build()
    (assignment,) = await harness.assignments()
    left = failing(monkeypatch, harness, "commit", StoreAway("away"), OutcomeUnknown("no answer"))
    future = said(harness, passed(harness, assignment))
    while left:
        with pytest.raises(StoreAway):
            await harness.engine.turn()
        assert not future.done()
    await harness.settle()
    assert future.done() and future.exception() is None
    assert (await harness.look(id_)).result is Result.PASSED


async def test_a_report_that_changes_nothing_is_acknowledged(harness: EngineHarness) -> None:
    await harness.build()
    (assignment,) = await harness.assignments()
    await harness.finish(assignment)
    batch = await harness.store.batch_number(SHARD)
    future = said(harness, passed(harness, assignment))
    await harness.settle()
    assert future.done() and future.exception() is None
    assert await harness.store.batch_number(SHARD) == batch, "there was nothing to commit"


async def test_a_report_that_raises_comes_again_through_the_inbox_and_is_set_aside(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard continues, and so do the other reports of that turn."""
    good, bad = await harness.build(branch="a"), await harness.build(branch="b")
    first, second = sorted(await harness.assignments(), key=lambda each: each.workload)
    report = endings.report

    def raising(
        out: Outcomes, worker: WorkerId, said: inbox.JobStarted | inbox.JobFinished
    ) -> None:
        report(out, worker, said)
        if said.job == second.job:
            raise ZeroDivisionError("of the test")

    monkeypatch.setattr(endings, "report", raising)
    commands = [passed(harness, first), passed(harness, second)]
    futures = [said(harness, command) for command in commands]
    await harness.engine.turn()
    for future in futures:
        assert isinstance(future.exception(), StoreAway), "it is to be said again"
    while await harness.engine.step():
        pass
    assert harness.engine.report(commands[0]) is None, "not in memory, for a while"
    for command in commands:
        await harness.ask(command)
    while await harness.engine.step():
        pass
    assert (await harness.look(good)).result is Result.PASSED
    assert (await harness.look(bad)).state is State.RUNNING
    (aside,) = await harness.store.set_aside(10)
    assert aside.kind == "reports" and "ZeroDivisionError" in aside.error


async def test_a_leader_that_ends_returns_the_waiting_reports_and_accepts_no_more(
    harness: EngineHarness,
) -> None:
    await harness.build()
    (assignment,) = await harness.assignments()
    future = said(harness, passed(harness, assignment))
    harness.engine._drop()
    assert isinstance(future.exception(), StoreAway)
    assert harness.engine.report(passed(harness, assignment)) is None
    await harness.restart()


async def test_entries_that_arrive_during_a_commit_need_no_extra_read(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a database in this process, a commit also reads the rest of the inbox."""
    first, second = await harness.submit(harness.new(branch="a"), harness.new(branch="b"))
    reads = 0
    inbox_of = type(harness.store).inbox

    async def counted(store: object, shard: int, limit: int) -> object:
        nonlocal reads
        reads += 1
        return await inbox_of(store, 1, 1 if reads == 1 else limit)  # type: ignore[arg-type]

    monkeypatch.setattr(type(harness.store), "inbox", counted)
    assert await harness.engine.turn() and await harness.engine.turn()
    assert reads == 1
    for id_ in (first, second):
        assert (await harness.look(id_)).state is State.RUNNING


async def test_reports_are_applied_without_a_look_at_the_inbox(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that arrive meanwhile are read with the commit and applied by the next turn."""
    await harness.build(branch="a")
    (assignment,) = await harness.assignments()
    (waiting,) = await harness.submit(harness.new(branch="b"))

    async def unexpected(store: object, shard: int, limit: int) -> object:
        raise AssertionError("the inbox is read")

    monkeypatch.setattr(type(harness.store), "inbox", unexpected)
    said(harness, passed(harness, assignment))
    assert await harness.engine.turn() and await harness.engine.turn()
    assert (await harness.look(waiting)).state is State.RUNNING


async def test_after_reports_that_changed_nothing_the_inbox_is_read(harness: EngineHarness) -> None:
    await harness.build(branch="a")
    (assignment,) = await harness.assignments()
    await harness.finish(assignment)
    (waiting,) = await harness.submit(harness.new(branch="b"))
    said(harness, passed(harness, assignment))
    while await harness.engine.turn():
        pass
    assert (await harness.look(waiting)).state is State.RUNNING
