"""The engine's own loop: it leads as long as it may, through outages and fences."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from boxsched.engine import engine as engine_module
from boxsched.errors import OutcomeUnknown, StoreAway
from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.states import Result, State
from boxsched.store import Store
from tests.engine.shop import Shop

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(engine_module, "POLL_SECONDS", 1_000.0)  # only wake-ups are heard


class Calls:
    """Counts the calls of a method of the store, and can make the next ones fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shop: Shop, name: str) -> None:
        self.count = 0
        self.errors: list[Exception] = []
        self._news = asyncio.Event()
        real: Callable[..., Any] = getattr(type(shop.store), name)

        async def called(store: Store, *arguments: object) -> object:
            self.count += 1
            self._news.set()
            if self.errors:
                raise self.errors.pop(0)
            return await real(store, *arguments)

        monkeypatch.setattr(type(shop.store), name, called)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count < count:
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def leading(shop: Shop) -> AsyncIterator[asyncio.Task[None]]:
    """While the loop runs."""
    task = asyncio.create_task(shop.engine.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reaches(shop: Shop, workload: WorkloadId, state: State) -> None:
    """Wait for the batch that brings the workload there."""
    news = asyncio.Event()
    shop.publish = lambda batch, events: news.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await shop.look(workload)).state is not state:
            news.clear()
            shop.engine.wake()
            await news.wait()


async def test_it_takes_a_turn_when_it_is_woken(shop: Shop) -> None:
    async with leading(shop):
        (build,) = await shop.submit(shop.new())
        await reaches(shop, build, State.RUNNING)


async def test_a_wake_up_that_was_lost_costs_a_poll(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "POLL_SECONDS", 0.001)
    news = asyncio.Event()
    async with leading(shop):
        shop.publish = lambda batch, events: news.set()
        (build,) = await shop.submit(shop.new())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await news.wait()
        assert (await shop.look(build)).state is State.RUNNING


async def test_where_there_is_nothing_to_do_it_waits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Calls(monkeypatch, shop, "inbox")
    async with leading(shop):
        await reads.reach(1)
        for _ in range(5):
            await shop.store.ping()
        assert reads.count == 1
        shop.engine.wake()
        await reads.reach(2)


async def test_it_ends_with_its_leadership_and_then_knows_nothing(shop: Shop) -> None:
    may_lead = True
    shop.engine._may_lead = lambda: may_lead
    async with leading(shop) as task:
        (build,) = await shop.submit(shop.new())
        await reaches(shop, build, State.RUNNING)
        assert shop.engine.leads
        may_lead = False
        shop.engine.wake()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task
        assert not shop.engine.leads
        assert shop.engine.report(inbox.Reports(shop.worker, ())) is None


async def test_a_report_that_waits_when_the_leadership_ends_has_to_be_said_again(
    shop: Shop,
) -> None:
    shop.engine._may_lead = lambda: False
    said = shop.engine.report(inbox.Reports(shop.worker, ()))
    assert said is not None
    await shop.engine.run()
    with pytest.raises(StoreAway):
        await said


async def test_while_the_store_is_away_it_tries_on_with_the_same_books(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was decided: so it is not in doubt, and takes reports."""
    reads = Calls(monkeypatch, shop, "inbox")
    reads.errors = [StoreAway("away")] * 5
    books, loads = shop.engine.books, shop.engine.counters.loads
    async with leading(shop):
        await reads.reach(3)
        assert not shop.engine.in_doubt
        (build,) = await shop.submit(shop.new())
        await reaches(shop, build, State.RUNNING)
        assert (shop.engine.books, shop.engine.counters.loads) == (books, loads)


async def test_while_a_commit_has_no_answer_it_is_in_doubt_and_takes_no_reports(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await shop.build()
    (assignment,) = await shop.assignments()
    commits = Calls(monkeypatch, shop, "commit")
    commits.errors = [OutcomeUnknown("no answer")] * 1_000
    said = inbox.Reports(
        shop.worker,
        (inbox.JobFinished(assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None),),
    )
    async with leading(shop):
        done = shop.engine.report(said)
        assert done is not None
        await commits.reach(2)
        assert shop.engine.in_doubt
        assert shop.engine.report(said) is None, "through the inbox"
        assert not done.done()
        commits.errors.clear()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await done
        await reaches(shop, build, State.FINISHED)
        assert not shop.engine.in_doubt


async def test_one_that_was_fenced_loads_the_shard_under_a_new_epoch(
    shop: Shop,
) -> None:
    """Another led in between: so nothing of the old books counts."""
    epoch, _ = await shop.store.batch_number(SHARD)
    await shop.store.raise_epoch(SHARD, "other")
    books, counters = shop.engine.books, shop.engine.counters
    async with leading(shop):
        (build,) = await shop.submit(shop.new())
        await reaches(shop, build, State.RUNNING)
        assert shop.engine.books is not books
        assert not shop.engine.in_doubt
    assert (counters.fenced, counters.loads) == (1, 2)
    assert await shop.store.batch_number(SHARD) >= (epoch + 2, 0)


async def test_one_that_was_fenced_and_may_lead_no_more_does_not_come_back(shop: Shop) -> None:
    may_lead = iter((True, False, False))
    shop.engine._may_lead = lambda: next(may_lead, False)
    await shop.store.raise_epoch(SHARD, "other")
    (build,) = await shop.submit(shop.new())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await shop.engine.run()
    assert not shop.engine.leads
    assert (await shop.look(build)).state is State.REGISTERED


async def test_one_whose_load_is_overtaken_by_another_leader_tries_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = type(shop.store).load
    overtaken = 0

    async def load(store: Store, *arguments: object) -> None:
        nonlocal overtaken
        if overtaken < 2:
            overtaken += 1
            await store.raise_epoch(SHARD, "other")
        await real(store, *arguments)

    monkeypatch.setattr(type(shop.store), "load", load)
    shop.engine.books = None
    shop.engine._in_epoch = False
    async with leading(shop):
        (build,) = await shop.submit(shop.new())
        await reaches(shop, build, State.RUNNING)
        assert shop.engine.counters.fenced == 2
