"""The limit of a PostgreSQL server: durable inserts a second, one row a transaction.

Its settings are not changed, but reported: without fsync the figure does not measure the disk.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
from psycopg2 import sql

from boxsched.errors import StoreAway
from boxsched.store.postgres.url import parsed, shown

INSERT_SECONDS = 2.0
CONNECT_SECONDS = 5
_SETTINGS = ("fsync", "synchronous_commit", "server_version")
_RECORD = b"x" * 200


def inserts(url: str) -> dict[str, object]:
    """Measure inserts: one connection, one row in each transaction, into a temporary ordinary
    table.
    """
    parsed(url)  # first, because an error of libpq could contain parts of the URL
    try:
        raw = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS, application_name="boxsched")
        with contextlib.closing(raw), raw.cursor() as cursor:
            raw.autocommit = True
            settings = {name: _setting(cursor, name) for name in _SETTINGS}
            with _table(cursor) as table:
                return {"single_row_inserts_per_second": round(_rate(cursor, table)), **settings}
    except psycopg2.Error as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StoreAway(f"--database: {shown(url)}: {said}") from None


def _setting(cursor: Any, name: str) -> str:
    cursor.execute("SELECT current_setting(%s)", (name,))
    [found] = cursor.fetchone()
    return str(found)


@contextlib.contextmanager
def _table(cursor: Any) -> Iterator[sql.Identifier]:
    """Create the table in a separate schema, and drop both at the end."""
    schema = f"boxsched_bench_{secrets.token_hex(4)}"
    table = sql.Identifier(schema, "row")
    cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    try:
        cursor.execute(
            sql.SQL("CREATE TABLE {} (id bigserial PRIMARY KEY, data bytea)").format(table)
        )
        yield table
    finally:
        cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def _rate(cursor: Any, table: sql.Identifier) -> float:
    insert = sql.SQL("INSERT INTO {} (data) VALUES (%s)").format(table).as_string(cursor)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < INSERT_SECONDS:
        cursor.execute(insert, (_RECORD,))  # committed with it, in the one round trip
        count += 1
    return count / (time.perf_counter() - began)
