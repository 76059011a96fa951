"""What only PostgreSQL has: opening it, and its limits."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg2
import pytest

from boxsched.errors import Invalid, OutcomeUnknown, StoreAway
from boxsched.store import Store, open_store
from boxsched.store.blocks import Steps, parsed
from boxsched.store.postgres.connection import WRITE, connect
from boxsched.store.postgres.driver import SERVING
from tests.contract.conftest import PostgresUnderTest
from tests.contract.postgres_server import execute
from tests.contract.postgres_sessions import asked, driver_of, statement, until_waiting
from tests.contract.store_data import Leader, build, event

GENEROUS_SECONDS = 10.0  # what takes at most 2 s on a quiet machine


@pytest.fixture
def db(postgres_db: PostgresUnderTest) -> PostgresUnderTest:
    return postgres_db


# --- Opening --------------------------------------------------------------------------------


async def test_of_services_that_start_at_once_on_an_empty_database_one_creates_it(
    db: PostgresUnderTest,
) -> None:
    stores = await asyncio.gather(*(db.open(f"node-{number}") for number in range(4)))
    assert len({await store.cluster() for store in stores}) == 1


async def test_another_encoding_is_refused(db: PostgresUnderTest, postgres: str) -> None:
    name = f"boxsched_latin_{os.getpid()}"
    execute(
        postgres,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
    )
    try:
        url = db.url.rpartition("/")[0] + f"/{name}"
        with pytest.raises(Invalid, match="encoding is LATIN1"):
            await open_store(url, db.folder).open()
    finally:
        execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_closed_store_is_away(db: PostgresUnderTest) -> None:
    store = open_store(db.url, db.folder)
    with pytest.raises(StoreAway):
        await store.ping()
    await store.open()
    await store.close()
    with pytest.raises(StoreAway):
        await store.submit([])
    await store.close()


async def test_a_store_that_closes_first_waits_for_started_work(db: PostgresUnderTest) -> None:
    store = await db.open("closing")
    other = psycopg2.connect(db.url)
    try:
        asked(other, "LOCK TABLE project IN ACCESS EXCLUSIVE MODE")
        begun = asyncio.create_task(store.put_project("web", "{}", None))
        await until_waiting(db)
        closing = asyncio.create_task(store.close())
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(StoreAway):
            await store.ping()
        assert not closing.done()
        other.rollback()
        await closing
        assert (await begun)[0].name == "web"
    finally:
        other.close()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("127.0.0.1:1", "refused"),
        ("no-such-host.invalid", "cannot connect"),
        ("/nowhere", "cannot connect"),
    ],
)
async def test_a_missing_server_is_reported(place: str, why: str, tmp_path: Path) -> None:
    url = f"postgresql:///x?host={place}" if place[0] == "/" else f"postgresql://u:s3cret@{place}/x"
    began = time.monotonic()
    with pytest.raises(StoreAway, match=why) as caught:
        await open_store(url, tmp_path).open()
    assert time.monotonic() - began < GENEROUS_SECONDS
    assert "s3cret" not in caught.value.message


async def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    async with _mute() as port:
        began = time.monotonic()
        with pytest.raises(StoreAway, match="no answer"):
            await open_store(f"postgresql://u@127.0.0.1:{port}/x", tmp_path).open()
        assert 0.5 < time.monotonic() - began < GENEROUS_SECONDS


@contextlib.asynccontextmanager
async def _mute() -> AsyncIterator[int]:
    """Accepts connections and does nothing."""
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    gone.set()
    server.close()


async def test_every_session_has_its_limits(store: Store) -> None:
    limits = {
        "statement_timeout": "1500ms",
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "1500ms",
        "client_connection_check_interval": "500ms",
        "default_transaction_isolation": "read committed",
        "TimeZone": "UTC",
        "synchronous_commit": "on",
        "application_name": "boxsched",
    }
    shown = ", ".join(f"current_setting('{name}')" for name in limits)
    found = await driver_of(store).serving.read(statement, f"SELECT {shown}")
    assert found == [tuple(limits.values())]


# --- What the schema enforces by itself -------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["UPDATE event SET data = '{}'", "DELETE FROM event", "TRUNCATE event"]
)
async def test_the_history_is_append_only(
    leader: Leader, db: PostgresUnderTest, change: str
) -> None:
    await leader.commit(events=(event("x", time.time()),))
    with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
        execute(db.url, change)


async def test_ids_may_exceed_a_short_integer(leader: Leader, db: PostgresUnderTest) -> None:
    execute(db.url, "SELECT setval('workload_id', 3000000000)")
    project = await leader.project()
    done = await leader.submit(build(project))
    assert done.id == 3_000_000_001
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert shown.jobs[0].box == leader.boxes[0].id
    await leader.finish(done.id, 0)


# --- Limits ---------------------------------------------------------------------------------


async def test_waiting_too_long_for_a_row_raises_an_error(
    leader: Leader, other: psycopg2.extensions.connection
) -> None:
    asked(other, "SELECT * FROM shard FOR UPDATE")
    with pytest.raises(StoreAway, match="another transaction holds"):
        await leader.commit()
    other.rollback()
    await leader.commit()


async def test_a_statement_that_takes_too_long_is_canceled(store: Store) -> None:
    with pytest.raises(StoreAway, match="canceled the statement"):
        await driver_of(store).serving.read(statement, "SELECT pg_sleep(10)")
    await store.ping()


async def test_a_caller_without_a_free_connection_gets_an_error_within_a_second(
    store: Store,
) -> None:
    driver = driver_of(store)
    tasks = [
        asyncio.create_task(driver.serving.read(statement, "SELECT pg_sleep(1.4)"))
        for _ in range(SERVING)
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(StoreAway, match="no connection"):
        await store.organization()
    await asyncio.gather(*tasks)
    await store.organization()


def _asleep_inside() -> Steps[None]:
    yield parsed("one", "-- For a test.\n-- returns: one\nSELECT 1;\n")()
    time.sleep(2)  # as if the process was frozen
    yield parsed("two", "-- For a test.\n-- returns: two\nSELECT 2;\n")()


async def test_a_frozen_transaction_is_rolled_back(store: Store) -> None:
    with pytest.raises(StoreAway):
        await driver_of(store).serving.write(_asleep_inside)
    await store.ping()


async def test_a_batch_that_is_found_is_as_durable_as_one_that_was_answered(
    db: PostgresUnderTest, other: psycopg2.extensions.connection
) -> None:
    """Only writes wait for a synchronous standby: a transaction with an id."""
    store = await db.open()
    other.autocommit = True
    next_id = "SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
    ((before,),) = asked(other, next_id)
    assert await store.batch_number(1) == (0, 0)
    ((behind,),) = asked(other, next_id)
    assert behind > before


async def test_a_warning_that_is_read_together_with_the_answer_is_seen(
    db: PostgresUnderTest,
) -> None:
    """The server committed, and warns that it did not wait for the standby."""
    await db.open()
    execute(
        db.url,
        "CREATE FUNCTION warns() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON organization"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warns()",
    )
    watcher = psycopg2.connect(db.url)
    watcher.autocommit = True
    connection = await connect(db.url)
    answered = "SELECT state = 'idle' AND query LIKE '%COMMIT' FROM pg_stat_activity"
    answered += f" WHERE pid = {connection.announced_pid}"
    steps = statement("UPDATE organization SET name = name", "nothing")
    writing = asyncio.create_task(connection.transact(WRITE, steps))
    await asyncio.sleep(0)  # the answer is sent, but the loop has not read it yet
    while asked(watcher, answered) != [(True,)]:
        pass
    with pytest.raises(OutcomeUnknown):
        await writing
    connection.close()
    watcher.close()
