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
from tests.engine.harness import EngineHarness

PATIENCE_SECONDS = 20.0


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(engine_module, "POLL_SECONDS", 1_000.0)  # only wake-ups are noticed


class Calls:
    """Counts the calls of a store's method, and can make the next ones fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, harness: EngineHarness, name: str) -> None:
        self.count = 0
        self.errors: list[Exception] = []
        self._news = asyncio.Event()
        real: Callable[..., Any] = getattr(type(harness.store), name)

        async def called(store: Store, *arguments: object) -> object:
            self.count += 1
            self._news.set()
            if self.errors:
                raise self.errors.pop(0)
            return await real(store, *arguments)

        monkeypatch.setattr(type(harness.store), name, called)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count < count:
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def leading(harness: EngineHarness) -> AsyncIterator[asyncio.Task[None]]:
    """Run the loop."""
    task = asyncio.create_task(harness.engine.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reaches(harness: EngineHarness, workload: WorkloadId, state: State) -> None:
    """Wait for the batch that moves the workload to this state."""
    news = asyncio.Event()
    harness.publish = lambda batch, events: news.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await harness.look(workload)).state is not state:
            news.clear()
            harness.engine.wake()
            await news.wait()


async def test_a_wake_up_causes_a_turn(harness: EngineHarness) -> None:
    async with leading(harness):
        (build,) = await harness.submit(harness.new())
        await reaches(harness, build, State.RUNNING)


async def test_a_lost_wake_up_costs_one_poll(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(engine_module, "READ_SECONDS", 0.0)
    news = asyncio.Event()
    async with leading(harness):
        harness.publish = lambda batch, events: news.set()
        (build,) = await harness.submit(harness.new())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await news.wait()
        assert (await harness.look(build)).state is State.RUNNING


async def test_without_work_the_loop_waits(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Calls(monkeypatch, harness, "inbox")
    async with leading(harness):
        await reads.reach(1)
        for _ in range(5):
            await harness.store.ping()
        assert reads.count == 1
        harness.engine.wake()
        await reads.reach(2)


async def test_the_engine_ends_with_its_leadership_and_drops_its_books(
    harness: EngineHarness,
) -> None:
    may_lead = True
    harness.engine._may_lead = lambda: may_lead
    async with leading(harness) as task:
        (build,) = await harness.submit(harness.new())
        await reaches(harness, build, State.RUNNING)
        assert harness.engine.leads
        may_lead = False
        harness.engine.wake()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task
        assert not harness.engine.leads
        assert harness.engine.report(inbox.Reports(harness.worker, ())) is None


async def test_a_report_that_waits_when_the_leadership_ends_must_be_sent_again(
    harness: EngineHarness,
) -> None:
    harness.engine._may_lead = lambda: False
    said = harness.engine.report(inbox.Reports(harness.worker, ()))
    assert said is not None
    await harness.engine.run()
    with pytest.raises(StoreAway):
        await said


async def test_while_the_store_is_away_the_engine_retries_with_the_same_books(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was decided, so the engine is not in doubt and accepts reports."""
    reads = Calls(monkeypatch, harness, "inbox")
    reads.errors = [StoreAway("away")] * 5
    books, loads = harness.engine.books, harness.engine.counters.loads
    async with leading(harness):
        await reads.reach(3)
        assert not harness.engine.in_doubt
        (build,) = await harness.submit(harness.new())
        await reaches(harness, build, State.RUNNING)
        assert (harness.engine.books, harness.engine.counters.loads) == (books, loads)


async def test_while_a_commit_has_no_answer_the_engine_is_in_doubt_and_accepts_no_reports(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await harness.build()
    (assignment,) = await harness.assignments()
    commits = Calls(monkeypatch, harness, "commit")
    commits.errors = [OutcomeUnknown("no answer")] * 1_000
    said = inbox.Reports(
        harness.worker,
        (inbox.JobFinished(assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None),),
    )
    async with leading(harness):
        done = harness.engine.report(said)
        assert done is not None
        await commits.reach(2)
        assert harness.engine.in_doubt
        assert harness.engine.report(said) is None, "through the inbox"
        assert not done.done()
        commits.errors.clear()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await done
        await reaches(harness, build, State.FINISHED)
        assert not harness.engine.in_doubt


async def test_a_fenced_engine_loads_the_shard_under_a_new_epoch(
    harness: EngineHarness,
) -> None:
    """Another engine led in between, so the old books are dropped."""
    epoch, _ = await harness.store.batch_number(SHARD)
    await harness.store.raise_epoch(SHARD, "other")
    books, counters = harness.engine.books, harness.engine.counters
    async with leading(harness):
        (build,) = await harness.submit(harness.new())
        await reaches(harness, build, State.RUNNING)
        assert harness.engine.books is not books
        assert not harness.engine.in_doubt
    assert (counters.fenced, counters.loads) == (1, 2)
    assert await harness.store.batch_number(SHARD) >= (epoch + 2, 0)


async def test_a_fenced_engine_that_may_no_longer_lead_does_not_return(
    harness: EngineHarness,
) -> None:
    may_lead = iter((True, False, False))
    harness.engine._may_lead = lambda: next(may_lead, False)
    await harness.store.raise_epoch(SHARD, "other")
    (build,) = await harness.submit(harness.new())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await harness.engine.run()
    assert not harness.engine.leads
    assert (await harness.look(build)).state is State.REGISTERED


async def test_an_engine_that_another_overtakes_while_it_loads_tries_again(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = type(harness.store).load
    overtaken = 0

    async def load(store: Store, *arguments: object) -> None:
        nonlocal overtaken
        if overtaken < 2:
            overtaken += 1
            await store.raise_epoch(SHARD, "other")
        await real(store, *arguments)

    monkeypatch.setattr(type(harness.store), "load", load)
    harness.engine.books = None
    harness.engine._in_epoch = False
    async with leading(harness):
        (build,) = await harness.submit(harness.new())
        await reaches(harness, build, State.RUNNING)
        assert harness.engine.counters.fenced == 2
