"""A PostgreSQL session for commands (``check``, ``db``): one thread, with psycopg2.

Services use aiopg (``postgres.connection``); commands may block.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import TypeVar

import psycopg2
from psycopg2.extensions import connection as Raw
from psycopg2.sql import Composable

from boxsched.store.blocks import Block, Call, Row, Steps
from boxsched.store.postgres.errors import translated
from boxsched.store.postgres.text import Text
from boxsched.store.postgres.url import parsed

T = TypeVar("T")

CONNECT_SECONDS = 5
ROWS_AT_ONCE = 10_000

_SETTINGS = """
SET standard_conforming_strings = on;
SET TIME ZONE 'UTC';
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '5s';
SET work_mem = '64MB';
SET jit = off
"""


class PostgresSession:
    """A connection with a single transaction."""

    dialect = "postgres"

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self._names = (f"rows_{number}" for number in itertools.count(1))

    def run(self, steps: Steps[T]) -> T:
        """A procedure to its end."""
        try:
            call = next(steps)
            while True:
                call = steps.send(self.ask(call))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def ask(self, call: Call) -> list[Row]:
        text = Text()
        text.add(call)
        return self.say(str(text)) if text else []

    def say(self, statement: str | Composable) -> list[Row]:
        with self.raw.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def stream(self, block: Block) -> Iterator[Row]:
        """Row by row, however many there are."""
        with self.raw.cursor(next(self._names)) as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(block.text)
            yield from cursor

    def said(self) -> dict[str, str]:
        """Return the content of ``meta``; empty if the database is empty."""
        if self.say("SELECT 1 WHERE to_regclass('meta') IS NULL"):
            return {}
        return dict(self.say("SELECT key, value FROM meta"))


@contextlib.contextmanager
def session(url: str, *, writing: bool, program: str = "boxsched") -> Iterator[PostgresSession]:
    """Open one transaction, which is rolled back if the body raises.

    Reads see one moment. Raises StoreAway if the database does not answer, RightMissing if the role
    lacks a right, StoreDamaged if it is damaged.
    """
    parsed(url)  # first, because an error of libpq could contain parts of the URL
    try:
        raw = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS, application_name=program)
        with contextlib.closing(raw):
            raw.autocommit = True
            with raw.cursor() as cursor:
                cursor.execute(_SETTINGS)
            raw.autocommit = False
            level = "READ COMMITTED" if writing else "REPEATABLE READ"
            raw.set_session(level, readonly=not writing)
            yield PostgresSession(raw)
            raw.commit()
    except psycopg2.Error as error:
        meant = translated(error)
        if meant is None:
            raise
        raise meant from error
