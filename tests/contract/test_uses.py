"""Three uses of a database, each with its own connections: reads never delay the scheduler's
work."""

import asyncio
from typing import Any

import pytest

from boxsched.errors import StoreAway, TooLong
from boxsched.protocol.shards import SHARD
from boxsched.store import Store
from boxsched.store.blocks import Steps, parsed
from boxsched.store.driver import StoreDriver
from boxsched.store.postgres.driver import READING
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader, build

FOR_EVER = {
    "sqlite": "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT * FROM n"
    " WHERE n < 0",
    "postgres": "SELECT pg_sleep(60)",
}


def driver_of(store: Store) -> StoreDriver:
    driver: StoreDriver = store._driver  # type: ignore[attr-defined]
    return driver


def for_ever(db: DatabaseUnderTest) -> Steps[list[tuple[Any, ...]]]:
    text = FOR_EVER["postgres" if db.url.startswith("postgres") else "sqlite"]
    return (yield parsed("for_ever", f"-- For a test.\n-- returns: what_it_gives\n{text};\n")())


async def test_a_read_ends_at_its_deadline_with_a_sentence(db: DatabaseUnderTest) -> None:
    store = await db.open()
    with pytest.raises(TooLong) as caught:
        await driver_of(store).reading.read(for_ever, db)
    assert (caught.value.status, caught.value.code) == (503, "too_long")
    await store.workers()


async def test_reads_that_use_all_connections_delay_no_other_work(db: DatabaseUnderTest) -> None:
    """The engine turns, requests are stored and the node is ready while every read is stuck."""
    store = await db.open()
    leader = await Leader(store).lead()
    stuck = [
        asyncio.create_task(driver_of(store).reading.read(for_ever, db))
        for _ in range(10 * READING)
    ]
    await asyncio.sleep(0)
    project = await leader.project()
    await store.ping()
    submitted = await leader.submit(build(project))
    await leader.commit(inbox=await leader.take_inbox())
    assert await store.pulses(SHARD)
    assert (await store.subject(submitted.id)) is not None
    ends = await asyncio.gather(*stuck, return_exceptions=True)
    assert all(isinstance(end, StoreAway) for end in ends)
    await store.workers()


async def test_a_read_that_is_too_long_is_not_an_outage(
    db: DatabaseUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    store = await db.open()
    with pytest.raises(TooLong):
        await driver_of(store).reading.read(for_ever, db)
    assert "away" not in caplog.text
