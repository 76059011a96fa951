"""A slow store costs a leader neither epoch nor books; only its own clock ends a job in time."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.protocol import inbox
from boxsched.protocol.batches import Batch, Committed
from boxsched.states import JobState, Result, State
from boxsched.store import Store
from tests.engine.shop import Shop

HOUR = 3_600.0


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


def failing(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, call: str, *errors: Exception, done: bool = False
) -> list[Exception]:
    """The next calls fail so, one after the other; ``done``: after they were carried out."""
    real: Callable[..., Any] = getattr(type(shop.store), call)
    left = list(errors)

    async def fails(store: Store, *arguments: object) -> object:
        if not left:
            return await real(store, *arguments)
        if done:
            await real(store, *arguments)
        raise left.pop(0)

    monkeypatch.setattr(type(shop.store), call, fails)
    return left


async def runs_on(shop: Shop, left: list[Exception]) -> None:
    """As its own loop does, but without the pauses."""
    while left:
        with pytest.raises(StoreAway):
            await shop.engine.turn()
    await shop.settle()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
async def test_a_commit_without_an_answer_is_sent_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    (id_,) = await shop.submit(shop.new())
    epoch, batch = await shop.store.batch_number(1)
    left = failing(monkeypatch, shop, "commit", OutcomeUnknown("no answer to COMMIT"), done=done)
    loads = shop.engine.counters.loads
    await runs_on(shop, left)
    assert (await shop.look(id_)).state is State.RUNNING
    assert await shop.store.batch_number(1) == (epoch, batch + 1)
    assert shop.engine.counters.loads == loads
    (assignment,) = await shop.assignments()
    await shop.start([assignment])
    await shop.finish(assignment)
    assert (await shop.look(id_)).state is State.FINISHED
    stored = await shop.store.events_after(1, 0, 0, 1_000)
    assert [(e.batch, e.n) for e in stored] == [(e.batch, e.n) for e in shop.events]


async def test_entries_that_arrive_during_a_slow_commit_are_one_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.submit(shop.new())
    left = failing(monkeypatch, shop, "commit", *(OutcomeUnknown("slow") for _ in range(5)))
    for _ in range(5):
        with pytest.raises(OutcomeUnknown):
            await shop.engine.turn()
        await shop.submit(*(shop.new(branch=f"b{n}") for n in range(20)))
    assert not left
    _, batch = await shop.store.batch_number(1)
    await shop.settle()
    assert await shop.store.batch_number(1) == (1, batch + 2)


async def test_a_commit_without_an_answer_while_another_took_over_is_fenced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = await shop.submit(shop.new())
    left = failing(monkeypatch, shop, "commit", OutcomeUnknown("no answer to COMMIT"))
    with pytest.raises(OutcomeUnknown):
        await shop.engine.turn()
    assert not left
    await shop.store.raise_epoch(1, "another")
    with pytest.raises(Fenced):
        await shop.engine.turn()
    assert (await shop.look(id_)).state is State.REGISTERED


async def test_failed_loads_take_one_epoch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch, _ = await shop.store.batch_number(1)
    shop.engine = shop._engine()
    left = failing(monkeypatch, shop, "load", *(StoreAway("away") for _ in range(31)))
    while left:
        with pytest.raises(StoreAway):
            await shop.engine.load()
    await shop.engine.load()
    await shop.settle()
    await shop.ask(inbox.Reload())
    assert await shop.engine.turn() and shop.engine.books is None
    await shop.engine.load()
    assert (await shop.store.batch_number(1))[0] == epoch + 1


@pytest.mark.parametrize("call", ["inbox", "pulses"])
async def test_a_read_that_fails_costs_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (id_,) = await shop.submit(shop.new())
    books = shop.engine.books
    shop.clock.time += 2  # the workers are looked at
    await runs_on(shop, failing(monkeypatch, shop, call, StoreAway("away")))
    assert shop.engine.books is books
    assert (await shop.look(id_)).state is State.RUNNING


@pytest.mark.parametrize("call", ["commit", "batch_number", "pulses", "inbox"])
async def test_workers_do_not_count_as_silent_while_the_store_stalls(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A synchronous standby that does not answer for a minute: beats wait as commits do."""
    id_ = await shop.build(timeout=3_600.0)
    await shop.start(await shop.assignments())
    assert shop.first is not None
    await shop.later(60, shop.first)
    real: Callable[..., Any] = getattr(type(shop.store), call)
    stalls = [60.0]

    async def stalled(store: Store, *arguments: object) -> object:
        if stalls:
            shop.clock.time += stalls.pop()
        return await real(store, *arguments)

    monkeypatch.setattr(type(shop.store), call, stalled)
    await shop.submit(shop.new(branch="x"))
    await shop.settle()
    await shop.later(9)  # the beats that were held up have not come yet
    assert not stalls
    await shop.later(60, shop.first)
    assert (await shop.look(id_)).jobs[0].state is JobState.RUNNING
    assert not [one for one in shop.events if b"unknown" in one.data or "silent" in one.type]
    await shop.later(17)
    assert (await shop.look(id_)).jobs[0].state is JobState.UNKNOWN, "it is away now"


async def test_with_commits_that_take_seconds_a_worker_is_still_missed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await shop.build(timeout=3_600.0)
    await shop.start(await shop.assignments())
    real: Callable[..., Any] = type(shop.store).batch_number

    async def slow(store: Store, shard: int) -> object:
        shop.clock.time += 4.0
        return await real(store, shard)

    monkeypatch.setattr(type(shop.store), "batch_number", slow)
    await shop.later(20)
    assert (await shop.look(id_)).jobs[0].state is JobState.UNKNOWN


async def test_a_result_that_the_store_held_up_counts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ended in time; what says so is stored behind what the leader waits for."""
    id_ = await shop.build(timeout=60.0)
    (given,) = await shop.assignments()
    await shop.start([given])
    assert shop.first is not None
    await shop.later(60, shop.first)
    real: Callable[..., Any] = type(shop.store).batch_number

    async def stalled(store: Store, shard: int) -> object:
        found = await real(store, shard)
        said = inbox.JobFinished(
            given.job, given.lease_token, shop.clock.now(), Result.PASSED, 0, None, seconds=60.0
        )
        await shop.ask(inbox.Reports(shop.worker, (said,)))
        monkeypatch.setattr(type(shop.store), "batch_number", real)
        return found

    monkeypatch.setattr(type(shop.store), "batch_number", stalled)
    await shop.later(30, shop.first)
    (job,) = (await shop.look(id_)).jobs
    assert (job.result, job.reason) == (Result.PASSED, None)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_leader_whose_clock_is_an_hour_off_ends_no_job(shop: Shop, step: float) -> None:
    """It took over from one whose clock was behind, or the database's clock was set."""
    build = await shop.build(timeout=60.0)
    deploy = await shop.build(server="production", timeout=60.0)
    await shop.start(await shop.assignments())
    shop.clock.step += step
    await shop.restart()
    assert shop.first is not None
    await shop.later(60, shop.first)
    for id_ in (build, deploy):
        (job,) = (await shop.look(id_)).jobs
        assert (job.state, job.reason) == (JobState.RUNNING, None)
    await shop.later(41, shop.first)  # the limit, slack and grace, since it has seen them run
    assert [one.stop for one in await shop.assignments()] == [True, True]


async def test_the_batch_of_a_leader_that_ends_is_not_taken_for_the_next_ones(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit arrives only after the next one has loaded: the epoch keeps it out."""
    await shop.submit(shop.new())
    sent: list[Batch] = []
    real = type(shop.store).commit

    async def held_up(store: Store, batch: Batch, *more: Any) -> Committed:
        sent.append(batch)
        raise OutcomeUnknown("no answer to COMMIT")

    monkeypatch.setattr(type(shop.store), "commit", held_up)
    with pytest.raises(OutcomeUnknown):
        await shop.engine.turn()
    monkeypatch.setattr(type(shop.store), "commit", real)
    await shop.restart()
    with pytest.raises(Fenced):
        await shop.store.commit(sent[0])
    await shop.settle()


async def test_after_an_outage_a_job_has_all_of_its_time_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may have been reported while the store was away."""
    id_ = await shop.build(timeout=60.0)
    await shop.start(await shop.assignments())
    assert shop.first is not None
    await shop.later(60, shop.first)
    left = failing(monkeypatch, shop, "pulses", *(StoreAway("away") for _ in range(30)))
    while left:
        shop.clock.time += 1.0
        with pytest.raises(StoreAway):
            await shop.engine.turn()
    await shop.settle()
    await shop.later(60, shop.first)
    assert (await shop.look(id_)).jobs[0].state is JobState.RUNNING
    await shop.later(20, shop.first)
    assert (await shop.look(id_)).jobs[0].reason == "time limit of 60 s"
