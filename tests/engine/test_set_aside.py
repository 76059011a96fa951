"""A failed read drops nothing; a command that raises is set aside, and the node continues."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boxsched.engine import submissions
from boxsched.engine.caution import MISTAKES_AT_MOST
from boxsched.engine.engine import Engine
from boxsched.engine.outcomes import Outcomes
from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.protocol import inbox
from boxsched.protocol.batches import Batch, Committed, InboxEntry
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Pulse
from boxsched.scheduling.scheduler import Scheduler
from boxsched.states import Result, State
from boxsched.store.errors import InvariantRefused
from boxsched.store.operating.check import check
from boxsched.store.store import Store
from tests.engine.harness import EngineHarness

POISON = "poison"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await settled(harness)
    yield harness
    await harness.close()


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a turn raise at submissions of that branch and at stops by that name."""
    submit = submissions.submit

    def raising(out: Outcomes, command: inbox.Submit) -> None:
        submit(out, command)  # so the books are half changed
        if command.branch == POISON:
            raise ZeroDivisionError("of the test")

    monkeypatch.setattr(submissions, "submit", raising)
    decide = Outcomes.decide

    def stopping(out: Outcomes, event: object) -> None:
        if out.asked_by == POISON:
            raise KeyError("of the test")
        decide(out, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Outcomes, "decide", stopping)


async def settled(harness: EngineHarness) -> None:
    while await harness.engine.step():
        pass


async def violations(harness: EngineHarness) -> list[object]:
    return list(await check(f"sqlite:///{harness.folder / 'harness.sqlite'}"))


def kinds(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events]


# --- Reads that fail ------------------------------------------------------------------------


async def test_a_failed_read_keeps_the_books_and_the_epoch(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = await harness.submit(harness.new())
    books, loads = harness.engine.books, harness.engine.counters.loads

    async def away(store: Store, shard: int, limit: int = 0) -> list[InboxEntry]:
        raise StoreAway("for a moment")

    for read in ("inbox", "pulses"):
        harness.clock.time += 5
        with monkeypatch.context() as patch:
            patch.setattr(type(harness.store), read, away)
            with pytest.raises(StoreAway):
                await harness.engine.step()
        assert harness.engine.books is books
    await settled(harness)
    assert (harness.engine.books, harness.engine.counters.loads) == (books, loads)
    assert (await harness.look(id_)).state is State.RUNNING


async def test_time_without_reads_does_not_count_as_silence_of_workers(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(store: Store, shard: int) -> list[Pulse]:
        raise StoreAway("for long")

    await harness.build()
    harness.clock.time += 2
    await settled(harness)
    with monkeypatch.context() as patch:
        patch.setattr(type(harness.store), "pulses", away)
        for _ in range(100):
            harness.clock.time += 1
            with pytest.raises(StoreAway):
                await harness.engine.step()
    await settled(harness)
    assert "worker.silent" not in kinds(harness)
    await harness.later(60)
    assert "worker.silent" in kinds(harness)


# --- Commands that raise --------------------------------------------------------------------


@pytest.mark.usefixtures("poisoned")
async def test_a_submission_that_raises_is_set_aside_and_ends(harness: EngineHarness) -> None:
    good, bad, after = await harness.submit(
        harness.new(branch="a"), harness.new(branch=POISON), harness.new(branch="b")
    )
    await settled(harness)
    assert [(await harness.look(id_)).state for id_ in (good, after)] == [State.RUNNING] * 2
    ended = await harness.look(bad)
    assert (ended.state, ended.result) == (State.FINISHED, Result.CANCELED)
    assert ended.reason == "its submission was set aside: ZeroDivisionError: of the test"
    assert [job.state for job in ended.jobs] == ["finished"]
    (kept,) = await harness.store.set_aside(10)
    assert (kept.kind, kept.workload, kept.error) == (
        "submit", bad, "ZeroDivisionError: of the test",
    )  # fmt: skip
    assert inbox.read(kept.kind, kept.payload.encode()).branch == POISON  # type: ignore[union-attr]
    assert harness.engine.counters.set_aside == 1
    assert [e.type for e in harness.events if e.type == "command.set_aside"]
    assert await harness.store.inbox(SHARD, 10) == []
    assert await violations(harness) == []
    await harness.restart()
    assert (await harness.look(bad)).state is State.FINISHED, "nobody loads it again"


@pytest.mark.usefixtures("poisoned")
async def test_the_lane_continues_after_a_submission_that_was_set_aside(
    harness: EngineHarness,
) -> None:
    first = await harness.submit(harness.new(branch=POISON), harness.new(branch=POISON))
    await settled(harness)
    assert [(await harness.look(id_)).result for id_ in first] == [Result.CANCELED] * 2
    assert len(await harness.store.set_aside(10)) == 2
    assert await violations(harness) == []


@pytest.mark.usefixtures("poisoned")
async def test_a_stop_that_fails_leaves_its_workload_and_is_reported(
    harness: EngineHarness,
) -> None:
    id_ = await harness.build()
    await harness.ask(inbox.Stop(id_, POISON))
    await settled(harness)
    assert (await harness.look(id_)).state is State.RUNNING
    (kept,) = await harness.store.set_aside(10, id_)
    assert (kept.kind, kept.error) == ("stop", "KeyError: 'of the test'")
    await harness.ask(inbox.Stop(id_, "somebody"))
    await settled(harness)
    assert (await harness.look(id_)).state is State.STOPPING
    assert await harness.store.drop_set_aside(kept.id)
    assert not await harness.store.drop_set_aside(kept.id)


async def test_a_command_that_the_schema_refuses_is_set_aside(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = type(harness.store).commit

    async def refusing(store: Store, batch: Batch, *more: Any) -> Committed:
        if any(POISON.encode() in event.data for event in batch.events) and not batch.set_aside:
            raise InvariantRefused("refused by the schema: of the test")
        return await commit(store, batch, *more)

    monkeypatch.setattr(type(harness.store), "commit", refusing)
    good, bad = await harness.submit(harness.new(branch="a"), harness.new(branch=POISON))
    await settled(harness)
    assert (await harness.look(good)).state is State.RUNNING
    assert (await harness.look(bad)).result is Result.CANCELED


async def test_an_unreadable_command_is_set_aside(harness: EngineHarness) -> None:
    await harness.store.ask(SHARD, [("bogus", b"[1]"), ("stop", b"{}")])
    id_ = await harness.build()
    assert (await harness.look(id_)).state is State.RUNNING
    told = [msgspec.json.decode(e.data) for e in harness.events if e.type == "command.set_aside"]
    assert [one["kind"] for one in told] == ["bogus", "stop"]
    kept = await harness.store.set_aside(10)
    assert [(one.kind, one.payload) for one in kept] == [("stop", "{}"), ("bogus", "[1]")]


async def test_an_error_after_the_commit_does_not_keep_the_engine_busy(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands are finished: there are none to repeat one at a time."""
    act, left = Engine._act, [1]

    def raising(engine: Engine, *arguments: object) -> None:
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError("of the test")
        act(engine, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "_act", raising)
    ids = await harness.submit(
        harness.new(branch="a"), harness.new(branch="b"), harness.new(branch="c")
    )
    steps = 0
    while await harness.engine.step():
        steps += 1
        assert steps < 10, "it has nothing to do, and does not sleep"
    assert len([id_ for id_ in ids if (await harness.look(id_)).state is State.RUNNING]) == 2
    assert await harness.store.set_aside(10) == []


async def test_a_request_without_an_answer_is_not_sent_later(
    harness: EngineHarness, poisoned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, sent = type(harness.store).commit, list[Batch]()

    async def held_up(store: Store, batch: Batch, *more: Any) -> Committed:
        if batch.set_aside and not sent:
            sent.append(batch)
            raise OutcomeUnknown("no answer to COMMIT")
        return await commit(store, batch, *more)

    monkeypatch.setattr(type(harness.store), "commit", held_up)
    (bad,) = await harness.submit(harness.new(branch=POISON))
    with pytest.raises(OutcomeUnknown):
        await settled(harness)
    await harness.engine.load()
    with pytest.raises(Fenced):
        await commit(harness.store, sent[0])  # type: ignore[arg-type]
    await settled(harness)
    assert (await harness.look(bad)).result is Result.CANCELED
    assert len(await harness.store.set_aside(10)) == 1


async def test_a_turn_that_fails_without_a_command_is_repeated_and_then_reported(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.build()
    settle, left = Scheduler.settle, [2]

    def raising(core: Scheduler, now: float) -> Sequence[object]:
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError
        return settle(core, now)

    monkeypatch.setattr(Scheduler, "settle", raising)
    (id_,) = await harness.submit(harness.new(branch="x"))
    await settled(harness)
    assert (await harness.look(id_)).state is State.RUNNING
    assert await harness.store.set_aside(10) == [], "it was not to blame"
    left[0] = 1_000
    await harness.submit(harness.new(branch="y"))
    with pytest.raises(ZeroDivisionError):
        await settled(harness)
    assert left[0] == 1_000 - 1 - MISTAKES_AT_MOST, "the first turn had commands"
    assert await harness.store.set_aside(10) == [], "nor was this one"


async def test_books_of_another_history_blame_no_command(
    harness: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """A failover lost the batch that took the command from the inbox: it is there again."""
    await harness.submit(harness.new())
    (entry,) = await harness.store.inbox(SHARD, 10)
    await settled(harness)
    await harness.store.raise_epoch(SHARD, "another")
    await harness.store.ask(SHARD, [(entry.kind, entry.payload)])
    with pytest.raises(Fenced, match="another history"):
        await harness.engine.step()
    assert harness.engine.books is None
    assert harness.engine.counters.set_aside == 0
    assert not [one for one in caplog.records if one.levelname == "ERROR"]
    harness.broken = True
