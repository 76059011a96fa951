"""A synchronous standby that lags: commits take seconds, and answers wait for them."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from boxsched.errors import OutcomeUnknown
from boxsched.protocol.shards import SHARD
from boxsched.store import open_store
from boxsched.store.records import KeyTaken, Submitted
from tests.cluster.primary_and_standby import PrimaryAndStandby, pair
from tests.cluster.test_failover import insisting, session_of
from tests.contract.store_data import Leader, build, key


@pytest.fixture
def two() -> Iterator[PrimaryAndStandby]:
    with pair() as two:
        yield two


async def test_a_commit_waits_while_the_server_answers_others(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    session = session_of(store)
    await asyncio.to_thread(session.until, lambda s: s.mine == {1})
    project = await leader.project()
    await asyncio.to_thread(two.wait_for_second)
    await asyncio.to_thread(two.lag, 2.0)
    epoch, before = await store.batch_number(SHARD)

    async def decides() -> None:
        for _ in range(2):
            await leader.commit()

    new = [build(project, f"b{n}") for n in range(5)]
    answers = await asyncio.gather(decides(), *(store.submit([one]) for one in new))
    assert all(isinstance(one, Submitted) for (one,) in answers[1:])
    assert await store.batch_number(SHARD) == (epoch, before + 2)
    assert not session.losses
    await asyncio.to_thread(session.end)
    await asyncio.to_thread(two.lag, 0)
    await store.close()


async def test_a_commit_without_any_answer_is_given_up(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    await asyncio.to_thread(two.wait_for_second)
    two.hold()
    with pytest.raises(OutcomeUnknown):
        await leader.commit()
    two.let_go()
    await store.close()


async def test_a_repeated_key_is_answered_from_what_the_standby_has(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    """The server committed and was restarted before the standby had it: everyone sees the standby's
    state."""
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    project = await leader.project()
    await asyncio.to_thread(two.wait_for_second, "on")
    two.hold()
    new = build(project, "b", idempotency=key("once"))
    with pytest.raises(OutcomeUnknown):
        await store.submit([new])
    two.first.kill()
    await asyncio.to_thread(two.first.start)
    assert new.idempotency is not None
    found = two.asked(two.first, "SELECT count(*) FROM idempotency")
    assert found == [(1,)], "it is there, and the standby has it not"

    session = session_of(store)
    asking = asyncio.create_task(insisting(store.idempotency, new.idempotency))
    again = asyncio.create_task(insisting(store.submit, [new]))
    await asyncio.wait({asking, again}, timeout=3)
    assert not asking.done() and not again.done(), "nobody is told of what may yet be lost"
    two.let_go()
    found_one = await asking
    assert isinstance(found_one, Submitted) and found_one.repeated
    (outcome,) = await again
    assert not isinstance(outcome, KeyTaken) and outcome == found_one
    await asyncio.to_thread(two.caught_up)
    assert two.asked(two.second, "SELECT count(*) FROM idempotency") == [(1,)]
    await asyncio.to_thread(session.end)
    await store.close()


WAITS = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def canceled(two: PrimaryAndStandby) -> None:
    two.asked(two.first, WAITS.replace("pid", "pg_cancel_backend(pid)", 1))


def terminated(two: PrimaryAndStandby) -> None:
    two.asked(two.first, WAITS.replace("pid", "pg_terminate_backend(pid)", 1))


def killed(two: PrimaryAndStandby) -> None:
    two.first.kill()


@pytest.mark.parametrize("ends", [canceled, terminated, killed])
async def test_an_interrupted_wait_for_the_standby_is_not_an_answer(
    two: PrimaryAndStandby, tmp_path: Path, ends: Callable[[PrimaryAndStandby], None]
) -> None:
    """The server has committed, or will say so; the same key gives the outcome later."""
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    project = await leader.project()
    session = session_of(store)
    await asyncio.to_thread(session.until, lambda s: s.mine == {1})  # it is answered: no time-out
    await asyncio.to_thread(two.wait_for_second, "on")
    two.hold()
    new = build(project, "b", idempotency=key("once"))
    submitting = asyncio.create_task(store.submit([new]))
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(two.asked, two.first, WAITS):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.to_thread(ends, two)
    with pytest.raises(OutcomeUnknown):
        await submitting
    if ends is killed:
        await asyncio.to_thread(two.first.start)
    two.let_go()
    ((outcome,), (again,)) = [await insisting(store.submit, [new]) for _ in range(2)]
    assert isinstance(outcome, Submitted) and outcome == again
    await asyncio.to_thread(two.caught_up)  # a flushed commit may not be applied yet
    assert two.asked(two.second, "SELECT count(*) FROM workload") == [(1,)]
    await asyncio.to_thread(session.end)
    await store.close()


def crash(two: PrimaryAndStandby) -> None:
    two.first.kill()
    two.first.start()


def crash_of_a_backend(two: PrimaryAndStandby) -> None:
    """Crash the server, as when memory runs out: it ends all sessions and keeps its start time."""
    ((pid,), *_) = two.asked(two.first, WAITS)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("crash", [crash, crash_of_a_backend])
async def test_only_data_that_the_standby_has_is_read(
    two: PrimaryAndStandby, tmp_path: Path, crash: Callable[[PrimaryAndStandby], None]
) -> None:
    """After a crash the server shows its whole log; a second crash may lose the end of it."""
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    project = await leader.project()
    await asyncio.to_thread(two.wait_for_second, "on")
    two.hold()
    with pytest.raises(OutcomeUnknown):
        await store.submit([build(project, "b")])
    await asyncio.to_thread(crash, two)
    async with asyncio.timeout(20):
        while True:
            try:
                there = await asyncio.to_thread(
                    two.asked, two.first, "SELECT count(*) FROM workload"
                )
                break
            except psycopg2.OperationalError:
                await asyncio.sleep(0.05)
    assert there == [(1,)], "the server shows it"

    session = session_of(store)
    reads = {
        name: asyncio.create_task(insisting(call, *arguments))
        for name, call, arguments in (
            ("unfinished", store.unfinished, ()),
            ("number", store.find_number, ("web", 1)),
            ("level", store.assignments, ([leader.worker],)),
            ("events", store.last_events, ()),
        )
    }
    done, _ = await asyncio.wait(reads.values(), timeout=3)
    assert not done, "nobody is told of what may yet be lost"
    two.let_go()
    assert len(await reads["unfinished"]) == 1
    assert await reads["number"] is not None
    await asyncio.gather(*reads.values())
    await asyncio.to_thread(two.caught_up)  # a flushed commit may not be applied yet
    assert two.asked(two.second, "SELECT count(*) FROM workload") == [(1,)]
    await asyncio.to_thread(session.end)
    await store.close()


async def test_a_restarted_server_is_waited_for_however_long_its_standby_lags(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    """Longer than any caller waits for a connection."""
    store = open_store(two.url, tmp_path)
    await store.open()
    await Leader(store).lead()
    await asyncio.to_thread(two.wait_for_second)
    await asyncio.to_thread(two.lag, 3.0)
    await asyncio.to_thread(crash, two)
    assert (await insisting(store.shards))[0].id == SHARD
    await store.close()
