"""Sessions beside the store's: for queries of another program, and for lock waits."""

import asyncio
from typing import Any

import psycopg2

from boxsched.store import Store
from boxsched.store.blocks import Steps, parsed
from boxsched.store.postgres.driver import PostgresDriver
from tests.contract.conftest import PostgresUnderTest


def asked(other: psycopg2.extensions.connection, text: str) -> list[tuple[Any, ...]]:
    with other.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall() if cursor.description else []


def driver_of(store: Store) -> PostgresDriver:
    driver = store._driver._driver  # type: ignore[attr-defined]
    assert isinstance(driver, PostgresDriver)
    return driver


def statement(text: str, returns: str = "what_it_gives") -> Steps[list[tuple[Any, ...]]]:
    """Make a procedure of this one statement; ``returns`` as a block declares it."""
    return (yield parsed("of_a_test", f"-- For a test.\n-- returns: {returns}\n{text};\n")())


WAITING = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'boxsched' AND wait_event_type = 'Lock'
"""


async def until_waiting(db: PostgresUnderTest, count: int = 1) -> int:
    """Wait for so many of our backends that wait for a lock; return one of them."""
    watcher = psycopg2.connect(db.url)
    watcher.autocommit = True
    try:
        async with asyncio.timeout(5):
            while True:
                found = asked(watcher, WAITING)
                if len(found) >= count:
                    return int(found[0][0])
                await asyncio.sleep(0.005)
    finally:
        watcher.close()
