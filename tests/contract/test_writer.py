"""The thread that writes to SQLite: which work shares a transaction, and how failures affect
others."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.store.blocks import Steps
from boxsched.store.sqlite.writer import TOGETHER_AT_MOST, Writer


class Database:
    """Records the requested transactions; the first one waits until it is released."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.commits: Callable[[list[str]], None] = lambda names: None
        self.at_most = 1_000  # procedures that are done before the transaction takes too long

    def transact(self, procedures: Sequence[Steps[Any]]) -> list[str]:
        names = []
        for steps in procedures[: self.at_most]:
            try:
                next(steps)
            except StopIteration as end:
                names.append(end.value)
        self.transactions.append(names)
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(30)
        self.commits(names)
        return [f"{name} is done" for name in names]


def procedure(name: str, error: Exception | None = None) -> Callable[[], Steps[str]]:
    def steps() -> Steps[str]:
        if error is not None:
            raise error
        return name
        yield

    return steps


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database.transact)
    yield writer
    database.go_on.set()
    writer.end()


async def held_up(writer: Writer, database: Database) -> asyncio.Task[str]:
    """Return a running transaction."""
    first = asyncio.create_task(writer.write(procedure("first")))
    assert await asyncio.to_thread(database.begun.wait, 30)
    return first


async def waiting(writer: Writer, *begin: Callable[[], Steps[str]]) -> list[asyncio.Task[str]]:
    """Add tasks whose procedures wait behind the running one."""
    tasks = [asyncio.create_task(writer.write(each)) for each in begin]
    await asyncio.sleep(0)
    return tasks


async def test_waiting_members_share_one_transaction(writer: Writer, database: Database) -> None:
    first = await held_up(writer, database)
    others = await waiting(writer, *(procedure(name) for name in "abc"))
    database.go_on.set()
    assert await first == "first is done"
    assert await asyncio.gather(*others) == ["a is done", "b is done", "c is done"]
    assert database.transactions == [["first"], ["a", "b", "c"]]


async def test_a_transaction_has_a_limit(writer: Writer, database: Database) -> None:
    await held_up(writer, database)
    names = [str(number) for number in range(TOGETHER_AT_MOST + 1)]
    others = await waiting(writer, *map(procedure, names))
    database.go_on.set()
    await asyncio.gather(*others)
    assert [len(each) for each in database.transactions] == [1, TOGETHER_AT_MOST, 1]


async def test_a_member_that_fails_does_not_affect_the_others(
    writer: Writer, database: Database
) -> None:
    await held_up(writer, database)
    bad = procedure("bad", Fenced("another leads"))
    one, two, three = await waiting(writer, procedure("a"), bad, procedure("c"))
    database.go_on.set()
    assert (await one, await three) == ("a is done", "c is done")
    with pytest.raises(Fenced):
        await two
    assert database.transactions == [["first"], ["a"], ["c"]], "each in one of its own"


async def test_a_failed_commit_is_tried_again_for_each_member_alone(
    writer: Writer, database: Database
) -> None:
    await held_up(writer, database)

    def full(names: list[str]) -> None:
        if "large" in names:
            raise StoreAway("the disk is full")

    database.commits = full
    small, large = await waiting(writer, procedure("small"), procedure("large"))
    database.go_on.set()
    assert await small == "small is done"
    with pytest.raises(StoreAway):
        await large


async def test_a_cancelled_caller_does_not_affect_the_others(
    writer: Writer, database: Database
) -> None:
    first = await held_up(writer, database)
    one, two, three = await waiting(writer, *(procedure(name) for name in "abc"))
    loop, gone = asyncio.get_running_loop(), threading.Event()
    two.add_done_callback(lambda _: gone.set())

    def goes(names: list[str]) -> None:
        if "b" in names:
            loop.call_soon_threadsafe(two.cancel)
            assert gone.wait(30)

    database.commits = goes
    database.go_on.set()
    async with asyncio.timeout(30):
        answers = await asyncio.gather(first, one, three)
    assert answers == ["first is done", "a is done", "c is done"]
    assert two.cancelled()
    assert database.transactions == [["first"], ["a", "b", "c"]]


async def test_a_commit_of_unknown_outcome_is_unknown_to_all_and_not_repeated(
    writer: Writer, database: Database
) -> None:
    await held_up(writer, database)

    def broken(names: list[str]) -> None:
        raise OutcomeUnknown("the disk failed while committing")

    others = await waiting(writer, procedure("a"), procedure("b"))
    database.commits = broken
    database.go_on.set()
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, OutcomeUnknown]
    assert database.transactions == [["first"], ["a", "b"]]


async def test_a_caller_that_left_before_the_start_is_skipped(
    writer: Writer, database: Database
) -> None:
    await held_up(writer, database)
    gone, stays = await waiting(writer, procedure("gone"), procedure("stays"))
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    database.go_on.set()
    assert await stays == "stays is done"
    assert database.transactions == [["first"], ["stays"]]


async def test_closing_first_does_the_waiting_work(writer: Writer, database: Database) -> None:
    await held_up(writer, database)
    others = await waiting(writer, procedure("a"))
    order: list[str] = []
    closing = asyncio.create_task(writer.close(lambda: order.extend(database.transactions[-1])))
    await asyncio.sleep(0)
    database.go_on.set()
    await closing
    assert order == ["a"]
    assert await others[0] == "a is done"


async def test_work_between_transactions_gets_its_turn(writer: Writer, database: Database) -> None:
    """Also if procedures never stop coming."""
    await held_up(writer, database)
    stop = False

    async def without_end() -> None:
        while not stop:
            await writer.write(procedure("again"))

    endless = [asyncio.create_task(without_end()) for _ in range(3)]
    await asyncio.sleep(0)
    alone = asyncio.create_task(writer.alone(lambda: "noted"))
    await asyncio.sleep(0)
    database.go_on.set()
    assert await alone == "noted"
    stop = True
    await asyncio.gather(*endless)


async def test_a_long_transaction_is_committed_and_the_rest_continues_in_order(
    writer: Writer, database: Database
) -> None:
    await held_up(writer, database)
    others = await waiting(writer, *(procedure(name) for name in "abcde"))
    database.at_most = 2
    database.go_on.set()
    assert await asyncio.gather(*others) == [f"{name} is done" for name in "abcde"]
    assert database.transactions == [["first"], ["a", "b"], ["c", "d"], ["e"]]


async def test_all_waiting_work_is_done_before_the_end(writer: Writer, database: Database) -> None:
    first = await held_up(writer, database)
    names = [str(number) for number in range(2 * TOGETHER_AT_MOST + 1)]
    others = await waiting(writer, *map(procedure, names))
    done_then: list[int] = []
    ending = asyncio.create_task(
        writer.close(lambda: done_then.append(sum(map(len, database.transactions))))
    )
    await asyncio.sleep(0)
    database.go_on.set()
    async with asyncio.timeout(30):
        await ending
        assert await first == "first is done"
        assert await asyncio.gather(*others) == [f"{name} is done" for name in names]
    assert done_then == [1 + len(names)]
