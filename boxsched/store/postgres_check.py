"""PostgreSQL as ``check`` reads it: in one snapshot, through a cursor, from a thread."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from boxsched.store.blocks import Block, Row
from boxsched.store.postgres_errors import translated
from boxsched.store.replay import Query

CONNECT_SECONDS = 5
ROWS_AT_ONCE = 10_000


@contextlib.contextmanager
def snapshot(url: str) -> Iterator[Query]:
    """Raises StoreAway where the database cannot be read, StoreDamaged where it is damaged."""
    try:
        raw = psycopg2.connect(
            url, connect_timeout=CONNECT_SECONDS, application_name="boxsched check"
        )
        try:
            raw.set_session(ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
            with raw.cursor() as cursor:
                cursor.execute("SET LOCAL work_mem = '64MB'; SET LOCAL statement_timeout = 0")
            yield _query(raw)
        finally:
            raw.close()
    except psycopg2.Error as error:
        meant = translated(error)
        if meant is None:
            raise
        raise meant from error


def _query(raw: psycopg2.extensions.connection) -> Query:
    names = (f"rows_{number}" for number in itertools.count(1))

    def query(block: Block) -> Iterable[Row]:
        with raw.cursor(next(names)) as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(block.text)
            yield from cursor

    return query
