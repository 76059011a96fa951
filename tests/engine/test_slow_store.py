"""A slow store costs a leader neither its epoch nor its books; only the leader's own clock ends a
job in time.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.protocol import inbox
from boxsched.protocol.batches import Batch, Committed
from boxsched.states import JobState, Result, State
from boxsched.store import Store
from tests.engine.harness import EngineHarness

HOUR = 3_600.0


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


def failing(
    monkeypatch: pytest.MonkeyPatch,
    harness: EngineHarness,
    call: str,
    *errors: Exception,
    done: bool = False,
) -> list[Exception]:
    """Make the next calls fail with these errors, one after the other; ``done``: after they were
    carried out.
    """
    real: Callable[..., Any] = getattr(type(harness.store), call)
    left = list(errors)

    async def fails(store: Store, *arguments: object) -> object:
        if not left:
            return await real(store, *arguments)
        if done:
            await real(store, *arguments)
        raise left.pop(0)

    monkeypatch.setattr(type(harness.store), call, fails)
    return left


async def runs_on(harness: EngineHarness, left: list[Exception]) -> None:
    """Do what the engine's loop does, without the pauses."""
    while left:
        with pytest.raises(StoreAway):
            await harness.engine.turn()
    await harness.settle()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
async def test_a_commit_without_an_answer_is_sent_again(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    (id_,) = await harness.submit(harness.new())
    epoch, batch = await harness.store.batch_number(1)
    left = failing(monkeypatch, harness, "commit", OutcomeUnknown("no answer to COMMIT"), done=done)
    loads = harness.engine.counters.loads
    await runs_on(harness, left)
    assert (await harness.look(id_)).state is State.RUNNING
    assert await harness.store.batch_number(1) == (epoch, batch + 1)
    assert harness.engine.counters.loads == loads
    (assignment,) = await harness.assignments()
    await harness.start([assignment])
    await harness.finish(assignment)
    assert (await harness.look(id_)).state is State.FINISHED
    stored = await harness.store.events_after(1, 0, 0, 1_000)
    assert [(e.batch, e.n) for e in stored] == [(e.batch, e.n) for e in harness.events]


async def test_entries_that_arrive_during_a_slow_commit_are_one_batch(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.submit(harness.new())
    left = failing(monkeypatch, harness, "commit", *(OutcomeUnknown("slow") for _ in range(5)))
    for _ in range(5):
        with pytest.raises(OutcomeUnknown):
            await harness.engine.turn()
        await harness.submit(*(harness.new(branch=f"b{n}") for n in range(20)))
    assert not left
    _, batch = await harness.store.batch_number(1)
    await harness.settle()
    assert await harness.store.batch_number(1) == (1, batch + 2)


async def test_a_commit_without_an_answer_while_another_took_over_is_fenced(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = await harness.submit(harness.new())
    left = failing(monkeypatch, harness, "commit", OutcomeUnknown("no answer to COMMIT"))
    with pytest.raises(OutcomeUnknown):
        await harness.engine.turn()
    assert not left
    await harness.store.raise_epoch(1, "another")
    with pytest.raises(Fenced):
        await harness.engine.turn()
    assert (await harness.look(id_)).state is State.REGISTERED


async def test_failed_loads_take_one_epoch(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, _ = await harness.store.batch_number(1)
    harness.engine = harness._engine()
    left = failing(monkeypatch, harness, "load", *(StoreAway("away") for _ in range(31)))
    while left:
        with pytest.raises(StoreAway):
            await harness.engine.load()
    await harness.engine.load()
    await harness.settle()
    await harness.ask(inbox.Reload())
    assert await harness.engine.turn() and harness.engine.books is None
    await harness.engine.load()
    assert (await harness.store.batch_number(1))[0] == epoch + 1


@pytest.mark.parametrize("call", ["inbox", "pulses"])
async def test_a_failed_read_costs_nothing(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (id_,) = await harness.submit(harness.new())
    books = harness.engine.books
    harness.clock.time += 2  # the workers are checked
    await runs_on(harness, failing(monkeypatch, harness, call, StoreAway("away")))
    assert harness.engine.books is books
    assert (await harness.look(id_)).state is State.RUNNING


@pytest.mark.parametrize("call", ["commit", "batch_number", "pulses", "inbox"])
async def test_workers_do_not_count_as_silent_while_the_store_stalls(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A synchronous standby does not answer for a minute: heartbeats wait like commits."""
    id_ = await harness.build(timeout=3_600.0)
    await harness.start(await harness.assignments())
    assert harness.first is not None
    await harness.later(60, harness.first)
    real: Callable[..., Any] = getattr(type(harness.store), call)
    stalls = [60.0]

    async def stalled(store: Store, *arguments: object) -> object:
        if stalls:
            harness.clock.time += stalls.pop()
        return await real(store, *arguments)

    monkeypatch.setattr(type(harness.store), call, stalled)
    await harness.submit(harness.new(branch="x"))
    await harness.settle()
    await harness.later(9)  # the delayed heartbeats have not arrived yet
    assert not stalls
    await harness.later(60, harness.first)
    assert (await harness.look(id_)).jobs[0].state is JobState.RUNNING
    assert not [one for one in harness.events if b"unknown" in one.data or "silent" in one.type]
    await harness.later(17)
    assert (await harness.look(id_)).jobs[0].state is JobState.UNKNOWN, "it is away now"


async def test_with_commits_that_take_seconds_a_silent_worker_is_still_detected(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await harness.build(timeout=3_600.0)
    await harness.start(await harness.assignments())
    real: Callable[..., Any] = type(harness.store).batch_number

    async def slow(store: Store, shard: int) -> object:
        harness.clock.time += 4.0
        return await real(store, shard)

    monkeypatch.setattr(type(harness.store), "batch_number", slow)
    await harness.later(20)
    assert (await harness.look(id_)).jobs[0].state is JobState.UNKNOWN


async def test_a_result_that_the_store_delayed_counts(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ended in time; its report is stored after the entries the leader waits for."""
    id_ = await harness.build(timeout=60.0)
    (given,) = await harness.assignments()
    await harness.start([given])
    assert harness.first is not None
    await harness.later(60, harness.first)
    real: Callable[..., Any] = type(harness.store).batch_number

    async def stalled(store: Store, shard: int) -> object:
        found = await real(store, shard)
        said = inbox.JobFinished(
            given.job, given.lease_token, harness.clock.now(), Result.PASSED, 0, None, seconds=60.0
        )
        await harness.ask(inbox.Reports(harness.worker, (said,)))
        monkeypatch.setattr(type(harness.store), "batch_number", real)
        return found

    monkeypatch.setattr(type(harness.store), "batch_number", stalled)
    await harness.later(30, harness.first)
    (job,) = (await harness.look(id_)).jobs
    assert (job.result, job.reason) == (Result.PASSED, None)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_leader_whose_clock_is_an_hour_off_ends_no_job(
    harness: EngineHarness, step: float
) -> None:
    """It took over from a leader whose clock was behind, or the database's clock was set."""
    build = await harness.build(timeout=60.0)
    deploy = await harness.build(server="production", timeout=60.0)
    await harness.start(await harness.assignments())
    harness.clock.step += step
    await harness.restart()
    assert harness.first is not None
    await harness.later(60, harness.first)
    for id_ in (build, deploy):
        (job,) = (await harness.look(id_)).jobs
        assert (job.state, job.reason) == (JobState.RUNNING, None)
    # the limit, slack and grace, counted from when it saw the jobs run
    await harness.later(41, harness.first)
    assert [one.stop for one in await harness.assignments()] == [True, True]


async def test_a_batch_of_a_former_leader_is_not_mistaken_for_one_of_the_next(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit arrives only after the next leader has loaded: the epoch keeps it out."""
    await harness.submit(harness.new())
    sent: list[Batch] = []
    real = type(harness.store).commit

    async def held_up(store: Store, batch: Batch, *more: Any) -> Committed:
        sent.append(batch)
        raise OutcomeUnknown("no answer to COMMIT")

    monkeypatch.setattr(type(harness.store), "commit", held_up)
    with pytest.raises(OutcomeUnknown):
        await harness.engine.turn()
    monkeypatch.setattr(type(harness.store), "commit", real)
    await harness.restart()
    with pytest.raises(Fenced):
        await harness.store.commit(sent[0])
    await harness.settle()


async def test_after_an_outage_a_job_has_its_whole_time_limit_again(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may have been reported while the store was away."""
    id_ = await harness.build(timeout=60.0)
    await harness.start(await harness.assignments())
    assert harness.first is not None
    await harness.later(60, harness.first)
    left = failing(monkeypatch, harness, "pulses", *(StoreAway("away") for _ in range(30)))
    while left:
        harness.clock.time += 1.0
        with pytest.raises(StoreAway):
            await harness.engine.turn()
    await harness.settle()
    await harness.later(60, harness.first)
    assert (await harness.look(id_)).jobs[0].state is JobState.RUNNING
    await harness.later(20, harness.first)
    assert (await harness.look(id_)).jobs[0].reason == "time limit of 60 s"
