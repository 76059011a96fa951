"""Several sessions on one PostgreSQL: two nodes, two leaders, and disconnected backends."""

import asyncio

import psycopg2
import pytest

from boxsched.errors import Fenced, StoreAway, TooLong
from boxsched.model import JobId
from boxsched.protocol.shards import SHARD
from boxsched.store.postgres.driver import SERVING
from boxsched.store.records import Submitted
from tests.contract.conftest import PostgresUnderTest
from tests.contract.postgres_server import execute
from tests.contract.postgres_sessions import asked, driver_of, until_waiting
from tests.contract.store_data import NOW, Leader, build, event, key


@pytest.fixture
def db(postgres_db: PostgresUnderTest) -> PostgresUnderTest:
    return postgres_db


# --- Two nodes ------------------------------------------------------------------------------


async def test_one_key_on_two_nodes_at_once_is_one_workload(
    leader: Leader, db: PostgresUnderTest
) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    nodes = [leader.store, await db.open("node-2")]
    for number in range(10):
        # Of two projects: no row lock separates them, and they are written in opposite orders.
        group = [
            build(web, idempotency=key(f"a{number}")),
            build(app, idempotency=key(f"b{number}")),
        ]
        answers = await asyncio.gather(nodes[0].submit(group), nodes[1].submit(group[::-1]))
        first = {o.id for o in answers[0] if isinstance(o, Submitted)}
        assert first == {o.id for o in answers[1] if isinstance(o, Submitted)}
        assert len(first) == 2
    assert len(await nodes[0].unfinished()) == 20


async def test_two_nodes_give_each_number_once_and_without_a_gap(
    leader: Leader, db: PostgresUnderTest
) -> None:
    project = await leader.project()
    nodes = [leader.store, await db.open("node-2")]

    async def submitted(i: int) -> list[int]:
        """Return the numbers of a group; ask again where there was no answer, as a client does."""
        group = [build(project, idempotency=key(f"{i}-{n}")) for n in range(1 + i % 5)]
        while True:
            try:
                answers = await nodes[i % 2].submit(group)
            except StoreAway:
                continue
            return [o.number for o in answers if isinstance(o, Submitted)]

    groups = await asyncio.gather(*(submitted(i) for i in range(30)))
    numbers = [number for group in groups for number in group]
    assert len(numbers) == sum(1 + i % 5 for i in range(30))
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    unfinished = await leader.store.unfinished()
    assert [w.number for w in unfinished] == sorted(numbers), "ids grow with the numbers"


async def test_a_chunk_that_reaches_two_nodes_at_once_is_stored_once(
    leader: Leader, db: PostgresUnderTest
) -> None:
    """A worker that changes its connection repeats what was not acknowledged."""
    nodes = [leader.store, await db.open("node-2")]
    jobs = [JobId(n << 10) for n in range(1, 21)]
    for number in range(10):
        short = [(job, 1, 9 * number, b"twice\n") for job in jobs]
        long = [(job, 1, 9 * number, b"twice\nor\n") for job in reversed(jobs)]
        await asyncio.gather(nodes[0].append_log(short), nodes[1].append_log(long))
    for job in jobs:
        assert await leader.store.log(job, 1, 0, 1_000) == b"twice\nor\n" * 10


# --- The fence, while the epoch is raised ---------------------------------------------------


async def test_a_write_that_waits_while_the_epoch_is_raised_is_refused(
    leader: Leader, db: PostgresUnderTest, other: psycopg2.extensions.connection
) -> None:
    asked(other, "UPDATE shard SET epoch = epoch + 1")
    zombie = asyncio.create_task(leader.commit(events=(event("x", NOW),)))
    await until_waiting(db)
    other.commit()
    with pytest.raises(Fenced):
        await zombie
    assert await leader.store.last_event(SHARD) == (0, 0)
    assert await leader.store.batch_number(SHARD) == (leader.epoch + 1, leader.batch)


@pytest.mark.parametrize(
    "unsafe",
    [
        "SELECT 1 FROM shard WHERE epoch = {epoch}",
        "UPDATE meta SET value = value"
        " WHERE EXISTS (SELECT 1 FROM shard WHERE epoch = {epoch}) RETURNING 1",
        "SELECT 1 FROM shard WHERE epoch = {epoch} FOR KEY SHARE",
    ],
)
async def test_an_error_that_only_looks_like_a_fence_is_not_one(
    leader: Leader, db: PostgresUnderTest, other: psycopg2.extensions.connection, unsafe: str
) -> None:
    """Each case lets an old leader commit after the epoch was raised, so our session writes the
    row."""
    assert asked(other, unsafe.format(epoch=leader.epoch))
    await (await db.open("node-2")).raise_epoch(SHARD, "node-2")
    asked(other, "INSERT INTO event VALUES (1, 99, 1, 'x', 0, NULL, NULL, '{}')")
    other.commit()
    assert await leader.store.last_event(SHARD) == (99, 1)


async def test_a_new_leader_waits_for_a_running_write_and_finds_it(
    leader: Leader, db: PostgresUnderTest, other: psycopg2.extensions.connection
) -> None:
    await leader.store.ask(SHARD, [("stop", b"[1]")])
    entries = await leader.take_inbox()
    asked(other, "SELECT * FROM inbox FOR UPDATE")  # the old leader waits behind its fence
    old = asyncio.create_task(leader.commit(inbox=entries, events=(event("x", NOW),)))
    await until_waiting(db)
    node_2 = await db.open("node-2")
    new = asyncio.create_task(node_2.raise_epoch(SHARD, "node-2"))
    await asyncio.sleep(0.05)
    assert not new.done()
    other.commit()
    await old
    assert await new == leader.epoch + 1
    assert await node_2.batch_number(SHARD) == (leader.epoch + 1, leader.batch)
    with pytest.raises(Fenced):
        await leader.commit()


# --- Round trips ----------------------------------------------------------------------------


async def test_a_batch_takes_two_round_trips(leader: Leader) -> None:
    trips = driver_of(leader.store).round_trips
    project = await leader.project()
    trips.clear()
    done = await leader.submit(build(project, idempotency=key("k")))
    assert trips.keys() == {"submit"}
    assert trips["submit"] <= 5
    trips.clear()
    await leader.queue(done.id)
    assert trips == {"inbox": 1, "commit": 1}, "the commit is the whole fenced transaction"
    trips.clear()
    await leader.start(done.id, 0)
    assert trips == {"commit": 1}


# --- Disconnected ---------------------------------------------------------------------------


async def test_a_canceled_statement_does_not_end_a_loop(
    leader: Leader, db: PostgresUnderTest, other: psycopg2.extensions.connection
) -> None:
    """aiopg raises CancelledError for it, which would end the loop."""
    errors: list[Exception] = []

    async def loop() -> None:
        while True:
            try:
                await leader.commit(events=(event("x", NOW),))
                return
            except Exception as error:  # noqa: BLE001 (as such a loop may do)
                errors.append(error)

    asked(other, "SELECT * FROM shard FOR UPDATE")
    task = asyncio.create_task(loop())
    for _ in range(3):
        execute(db.url, f"SELECT pg_cancel_backend({await until_waiting(db)})")
        await asyncio.sleep(0.01)
    other.commit()
    await task
    assert {type(error) for error in errors} == {TooLong}
    assert len(await leader.store.events_after(SHARD, 0, 0, 10)) == 1


async def test_a_backend_that_ends_during_a_transaction_is_noticed(
    leader: Leader, db: PostgresUnderTest, other: psycopg2.extensions.connection
) -> None:
    project = await leader.project()
    asked(other, "SELECT * FROM project FOR UPDATE")
    task = asyncio.create_task(leader.store.submit([build(project)]))
    execute(db.url, f"SELECT pg_terminate_backend({await until_waiting(db)})")
    with pytest.raises(StoreAway) as caught:
        await task
    assert type(caught.value) is StoreAway, "COMMIT was not sent: nothing was done"
    other.commit()
    assert (await leader.submit(build(project))).number == 1


async def test_idle_connections_that_the_server_ended_are_not_used(
    leader: Leader, db: PostgresUnderTest
) -> None:
    await asyncio.gather(*(leader.store.organization() for _ in range(SERVING)))
    execute(
        db.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'boxsched' AND datname = current_database()",
    )
    await asyncio.sleep(0.1)
    await asyncio.gather(*(leader.store.organization() for _ in range(SERVING)))
