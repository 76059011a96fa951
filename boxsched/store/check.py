"""``boxsched check``: every invariant that can be read from tables and history, by number.

The numbers are the design's (I1 to I10) and its fault model's (V1 to V25). Opened read-only, in one
snapshot: it may run while a service does, and finds the same whether or not one runs.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from boxsched.errors import StoreAway
from boxsched.store import is_postgres, sqlite_path
from boxsched.store.blocks import Row, load
from boxsched.store.errors import StoreDamaged
from boxsched.store.replay import Query, Replay
from boxsched.store.sqlite_connection import Connection, worded
from boxsched.store.sqlite_errors import translated

SQL = load("check.sql")


@attrs.frozen
class Violation:
    """An invariant that does not hold: which (``I3, V7``), what that means, and the rows."""

    invariant: str
    what: str
    rows: tuple[Row, ...]


async def check(url: str) -> list[Violation]:
    """Empty where all is well; raises StoreAway where the database cannot be read."""
    if is_postgres(url):
        return await asyncio.to_thread(_check_postgres, url)
    return await asyncio.to_thread(_check_sqlite, sqlite_path(url))


def _check_postgres(url: str) -> list[Violation]:
    from boxsched.store.postgres_check import snapshot  # its library only where it is used

    with snapshot(url) as query:
        return list(_violations(query))


def _check_sqlite(path: Path) -> list[Violation]:
    try:
        with _opened(path) as connection:
            return [
                *_integrity(connection.raw),
                *_violations(lambda block: connection.raw.execute(worded(block.text))),
            ]
    except sqlite3.Error as error:
        meant = translated(error, str(path))
        if isinstance(meant, StoreDamaged):
            return [Violation("file", meant.message, ((str(error),),))]
        if meant is None:
            raise
        raise meant from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Connection]:
    if not path.is_file():
        raise StoreAway(f"there is no database {path}")
    connection = Connection(path, mode="ro")
    try:
        connection.raw.execute("BEGIN")
        yield connection
    finally:
        connection.raw.close()


def _integrity(raw: sqlite3.Connection) -> Iterator[Violation]:
    found = raw.execute("PRAGMA integrity_check").fetchall()
    if found != [("ok",)]:
        yield Violation("file", "the database file is damaged", tuple(found))


def _violations(query: Query) -> Iterator[Violation]:
    for block in SQL.values():
        rows = list(query(block))
        if rows:
            yield _violation(block.purpose.replace("\n", " "), rows)
    broken: dict[str, list[Row]] = {}
    for what, row in Replay(query).run():
        broken.setdefault(what, []).append(row)
    for what, found in broken.items():
        yield _violation(what, found)


def _violation(purpose: str, rows: Iterable[Row]) -> Violation:
    invariant, _, what = purpose.partition(": ")
    return Violation(invariant, what, tuple(rows))
