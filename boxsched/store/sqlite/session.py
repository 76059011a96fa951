"""An SQLite session for commands (``check``, ``db``): one connection with a single transaction."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from boxsched.errors import StoreAway
from boxsched.store.blocks import Block, Row, Steps
from boxsched.store.file_lock import FileLock
from boxsched.store.sqlite.connection import SqliteConnection, worded
from boxsched.store.sqlite.errors import translated

T = TypeVar("T")


class SqliteSession:
    dialect = "sqlite"

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self.raw = connection.raw

    @property
    def version(self) -> str:
        return sqlite3.sqlite_version

    def run(self, steps: Steps[T]) -> T:
        """Run a procedure and return its result."""
        return self._connection.run(steps)

    def stream(self, block: Block) -> Iterator[Row]:
        return self.raw.execute(worded(block.text))

    def said(self) -> dict[str, str]:
        """Return the content of ``meta``; empty if the database is empty."""
        if not self.raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
            return {}
        return dict(self.raw.execute("SELECT key, value FROM meta").fetchall())


@contextlib.contextmanager
def session(path: Path, *, writing: bool) -> Iterator[SqliteSession]:
    """Open one transaction, committed if the body does not raise. Writing needs the file's lock."""
    if not path.is_file():
        raise StoreAway(f"there is no database {path}{_absolute(path)}")
    try:
        with locked(path) if writing else contextlib.nullcontext():
            connection = SqliteConnection(path, mode="rw" if writing else "ro")
            with contextlib.closing(connection.raw) as raw:
                raw.execute("PRAGMA cache_size = -65536")  # because reads scan the whole file
                raw.execute("PRAGMA temp_store = MEMORY")
                if writing:
                    raw.execute("PRAGMA synchronous = FULL")
                    raw.execute("PRAGMA foreign_keys = ON")
                raw.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
                yield SqliteSession(connection)
                raw.execute("COMMIT")
    except sqlite3.Error as error:
        meant = translated(error, str(path))
        if meant is None:
            raise
        raise meant from error


def _absolute(path: Path) -> str:
    meant = Path("/") / path
    if path.is_absolute() or not meant.is_file():
        return ""
    return f" (an absolute path has four slashes: sqlite:///{meant})"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file against services. Raises StoreInUse if one uses it."""
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.take()
    except OSError as error:
        raise StoreAway(f"the database's folder cannot be used: {error}") from error
    try:
        yield
    finally:
        lock.release()
