"""Reports that reach the leader in memory are acknowledged when they are durable."""

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
from tests.engine.shop import Shop
from tests.engine.test_slow_store import failing


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


def passed(shop: Shop, assignment: Assignment) -> inbox.Reports:
    now = shop.clock.now()
    started = inbox.JobStarted(assignment.job, assignment.lease_token, now)
    finished = inbox.JobFinished(
        assignment.job, assignment.lease_token, now, Result.PASSED, 0, None, seconds=0.0
    )
    return inbox.Reports(shop.worker, (started, finished))


def said(shop: Shop, command: inbox.Reports) -> asyncio.Future[None]:
    future = shop.engine.report(command)
    assert future is not None
    return future


async def test_a_report_is_acknowledged_when_its_batch_is_durable(shop: Shop) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    future = said(shop, passed(shop, assignment))
    assert not future.done()
    assert await shop.store.inbox(SHARD, 10) == [], "it is not stored first"
    await shop.engine.turn()
    assert future.done() and future.exception() is None
    assert (await shop.look(id_)).result is Result.PASSED
    assert shop.engine.counters.commands >= 1


async def test_it_waits_for_a_store_that_is_away(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await shop.build()
    (assignment,) = await shop.assignments()
    left = failing(monkeypatch, shop, "commit", StoreAway("away"), OutcomeUnknown("no answer"))
    future = said(shop, passed(shop, assignment))
    while left:
        with pytest.raises(StoreAway):
            await shop.engine.turn()
        assert not future.done()
    await shop.settle()
    assert future.done() and future.exception() is None
    assert (await shop.look(id_)).result is Result.PASSED


async def test_one_that_changes_nothing_is_acknowledged(shop: Shop) -> None:
    await shop.build()
    (assignment,) = await shop.assignments()
    await shop.finish(assignment)
    batch = await shop.store.batch_number(SHARD)
    future = said(shop, passed(shop, assignment))
    await shop.settle()
    assert future.done() and future.exception() is None
    assert await shop.store.batch_number(SHARD) == batch, "there was nothing to commit"


async def test_a_report_that_raises_comes_again_through_the_inbox_and_is_set_aside(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard goes on, and so do the other reports of that turn."""
    good, bad = await shop.build(branch="a"), await shop.build(branch="b")
    first, second = sorted(await shop.assignments(), key=lambda each: each.workload)
    report = endings.report

    def raising(
        out: Outcomes, worker: WorkerId, said: inbox.JobStarted | inbox.JobFinished
    ) -> None:
        report(out, worker, said)
        if said.job == second.job:
            raise ZeroDivisionError("of the test")

    monkeypatch.setattr(endings, "report", raising)
    commands = [passed(shop, first), passed(shop, second)]
    futures = [said(shop, command) for command in commands]
    await shop.engine.turn()
    for future in futures:
        assert isinstance(future.exception(), StoreAway), "it is to be said again"
    while await shop.engine.step():
        pass
    assert shop.engine.report(commands[0]) is None, "not in memory, for a while"
    for command in commands:
        await shop.ask(command)
    while await shop.engine.step():
        pass
    assert (await shop.look(good)).result is Result.PASSED
    assert (await shop.look(bad)).state is State.RUNNING
    (aside,) = await shop.store.set_aside(10)
    assert aside.kind == "reports" and "ZeroDivisionError" in aside.error


async def test_a_leader_that_ends_takes_none_and_gives_back_those_that_wait(shop: Shop) -> None:
    await shop.build()
    (assignment,) = await shop.assignments()
    future = said(shop, passed(shop, assignment))
    shop.engine._drop()
    assert isinstance(future.exception(), StoreAway)
    assert shop.engine.report(passed(shop, assignment)) is None
    await shop.restart()


async def test_entries_that_arrive_during_a_commit_need_no_extra_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a database in this process, a commit reads the inbox as it is behind it."""
    first, second = await shop.submit(shop.new(branch="a"), shop.new(branch="b"))
    reads = 0
    inbox_of = type(shop.store).inbox

    async def counted(store: object, shard: int, limit: int) -> object:
        nonlocal reads
        reads += 1
        return await inbox_of(store, 1, 1 if reads == 1 else limit)  # type: ignore[arg-type]

    monkeypatch.setattr(type(shop.store), "inbox", counted)
    assert await shop.engine.turn() and await shop.engine.turn()
    assert reads == 1
    for id_ in (first, second):
        assert (await shop.look(id_)).state is State.RUNNING


async def test_reports_are_applied_without_a_look_at_the_inbox(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the inbox meanwhile is read with the commit, and applied by the next turn."""
    await shop.build(branch="a")
    (assignment,) = await shop.assignments()
    (waiting,) = await shop.submit(shop.new(branch="b"))

    async def unexpected(store: object, shard: int, limit: int) -> object:
        raise AssertionError("the inbox is read")

    monkeypatch.setattr(type(shop.store), "inbox", unexpected)
    said(shop, passed(shop, assignment))
    assert await shop.engine.turn() and await shop.engine.turn()
    assert (await shop.look(waiting)).state is State.RUNNING


async def test_after_reports_that_changed_nothing_the_inbox_is_read(shop: Shop) -> None:
    await shop.build(branch="a")
    (assignment,) = await shop.assignments()
    await shop.finish(assignment)
    (waiting,) = await shop.submit(shop.new(branch="b"))
    said(shop, passed(shop, assignment))
    while await shop.engine.turn():
        pass
    assert (await shop.look(waiting)).state is State.RUNNING
