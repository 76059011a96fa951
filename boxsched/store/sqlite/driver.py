"""The SQLite driver of the store: one writing connection in a separate thread, and some for reads.

Exactly one connection writes and checkpoints, because SQLite's WAL-reset bug needs two; a lock on
the data folder excludes other processes. The threads keep fsync off the event loop. A procedure
that a thread has begun is completed, even if its caller is cancelled.
"""

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from boxsched.errors import StoreAway, disk_full
from boxsched.store import schema
from boxsched.store.blocks import Steps
from boxsched.store.driver import READ_SECONDS
from boxsched.store.errors import FULL
from boxsched.store.file_lock import FileLock
from boxsched.store.marks import Mark
from boxsched.store.memory import Memory
from boxsched.store.moved import refuse_moved
from boxsched.store.schema import upgrades
from boxsched.store.sqlite.connection import SqliteConnection, worded
from boxsched.store.sqlite.errors import has_wal_reset_bug, translating
from boxsched.store.sqlite.marks import file_mark, refuse_older, with_heads
from boxsched.store.sqlite.readers import Readers
from boxsched.store.sqlite.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

DECIDING, SERVING, READING = 1, 2, 2  # reading connections of each use
TOGETHER_SECONDS = 0.02  # a transaction of several procedures is committed after this time
NOTE_SECONDS = 1.0  # between two notes of the file's last epochs and batches
# 16 MB of WAL: more commits share a checkpoint's two fsyncs.
WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",  # NORMAL may lose acknowledged commits
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -32768",
    "PRAGMA temp_store = MEMORY",
)


class SqliteDriver:
    """``driver.StoreDriver`` for one file. ``open`` takes the lock, ``close`` releases it.

    ``remembers``: store the file's last epochs and batches in the data folder, and refuse an older
    copy of the file (``sqlite.marks``).
    """

    def __init__(self, path: Path, folder_lock: Path, *, remembers: bool = True) -> None:
        self.path = path
        self._memory = Memory(folder_lock.parent) if remembers else None
        self._mark: Mark | None = None  # the mark when it was opened
        self._has_synced = False  # whether a commit with changes has returned
        self._noting: asyncio.Task[None] | None = None
        # Two locks, because the database may be outside the data folder.
        self._locks = (FileLock(folder_lock), FileLock(path.with_name(path.name + ".lock")))
        self._writer: SqliteConnection | None = None
        self._writing = Writer(self._transact)
        self._readers = (
            Readers(path, "deciding", DECIDING),
            Readers(path, "serving", SERVING),
            Readers(path, "reading", READING, READ_SECONDS),
        )
        self.deciding, self.serving, self.reading = (
            SqliteProcedures(self, readers) for readers in self._readers
        )
        self._is_open = False
        self.round_trips: Counter[str] = Counter()
        self.servers = None
        self.is_near = True

    async def open(self) -> None:
        self._is_open = True
        await self._writing.alone(self._open)
        self._noting = asyncio.create_task(self._note_on(), name="note how far the file has come")
        if has_wal_reset_bug(sqlite3.sqlite_version_info):
            log.info(
                "SQLite %s is safe while only boxsched writes to %s: two connections that "
                "write at the same time can corrupt it (fixed in 3.51.3)",
                sqlite3.sqlite_version,
                self.path,
            )

    async def close(self) -> None:
        """Complete running procedures, then close; no procedure can begin after this."""
        if not self._is_open:
            self._writing.end()
            return
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.gather(self._noting, return_exceptions=True)
        self._is_open = False
        for readers in self._readers:
            await readers.close()
        await self._writing.close(self._close)

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        self._check_is_open()
        return await self._writing.write(functools.partial(steps, *args, **kwargs))

    async def _note_on(self) -> None:
        """Note the file's last epochs and batches while the store is open."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            with contextlib.suppress(StoreAway):  # callers get the same error
                await self._writing.alone(self._note)

    def _check_is_open(self) -> None:
        if not self._is_open:
            raise StoreAway(f"the store is closed: {self.path}")

    # --- In a thread ------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            with translating(self.path):
                self._take_and_connect()
        except BaseException as error:
            self._is_open = False
            self._let_go()
            if isinstance(error, OSError) and error.errno in FULL:
                raise disk_full(f"the disk of the data folder is full: {error}") from error
            if isinstance(error, OSError):
                raise StoreAway(f"the data folder cannot be used: {error}") from error
            raise

    def _take_and_connect(self) -> None:
        for lock in self._locks:
            lock.take()
        refuse_moved(self.path)
        # It contains secrets. SQLite gives its other files the same mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        raw = self._writing_connection().raw
        self._refuse_older(raw)
        _prepare(self._writing_connection())
        self._mark = file_mark(raw)
        for readers in self._readers:
            readers.connect()

    def _refuse_older(self, raw: sqlite3.Connection) -> None:
        """Refuse an older copy of the file, before anything is written to it."""
        if self._memory is not None:
            self._memory.load()
            found = file_mark(raw)
            if found is not None:
                refuse_older(self.path, found, self._memory.seen)

    def _note(self) -> None:
        """Note the epochs and batches between two transactions, after a commit, so that only synced
        data is read.

        Data found on opening may be from a process that was killed before it was synced.
        """
        if self._memory is not None and self._mark is not None and self._has_synced:
            with translating(self.path):
                self._memory.note(with_heads(self._mark, self._writing_connection().raw))
                self._memory.save()

    def _close(self) -> None:
        try:
            with contextlib.suppress(StoreAway):
                self._note()
        finally:
            with translating(self.path):
                self._let_go()

    def _let_go(self) -> None:
        """Close the writer last, so that it makes the checkpoint."""
        for readers in self._readers:
            readers.disconnect()
        if self._writer is not None:
            self._writer.raw.close()
            self._writer = None
        for lock in self._locks:
            lock.release()

    def _writing_connection(self) -> SqliteConnection:
        if self._writer is None:
            self._writer = SqliteConnection(self.path, mode="rw")
            self._writer.raw.execute("PRAGMA journal_mode = WAL")
            for pragma in WRITER_PRAGMAS:
                self._writer.raw.execute(pragma)
        return self._writer

    def _transact(self, procedures: Sequence[Steps[Any]]) -> Sequence[Any]:
        with translating(self.path):
            writer = self._writing_connection()
            changes = writer.raw.total_changes
            writer.raw.execute("BEGIN IMMEDIATE")
            with self._undone_on_error(writer):
                answers = _run(writer, procedures)
        with translating(self.path, committing=True), self._undone_on_error(writer):
            writer.raw.execute("COMMIT")
        self._has_synced = self._has_synced or writer.raw.total_changes > changes
        return answers

    @contextlib.contextmanager
    def _undone_on_error(self, writer: SqliteConnection) -> Iterator[None]:
        try:
            yield
        except BaseException:
            try:
                if writer.raw.in_transaction:
                    writer.raw.execute("ROLLBACK")
            except sqlite3.Error:
                log.warning("%s: rolling back failed; connecting anew", self.path, exc_info=True)
                self._writer = None
                writer.raw.close()
            raise


class SqliteProcedures:
    """``driver.Procedures`` with separate reading connections and the shared writing one."""

    def __init__(self, driver: SqliteDriver, readers: Readers) -> None:
        self._driver = driver
        self._readers = readers

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.write(steps, *args, **kwargs)

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._readers.load(steps(*args, **kwargs))

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._readers.read(steps(*args, **kwargs))

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._readers.snapshot(steps(*args, **kwargs))


def _run(writer: SqliteConnection, procedures: Sequence[Steps[Any]]) -> list[Any]:
    "Return the results of the procedures that end within TOGETHER_SECONDS, at least of the"
    "first."
    until = time.monotonic() + TOGETHER_SECONDS
    answers = []
    for steps in procedures:
        answers.append(writer.run(steps))
        if time.monotonic() > until:
            break
    return answers


def _prepare(writer: SqliteConnection) -> None:
    """Bring the schema up to date, in one transaction; a crash in it leaves the old one."""
    raw = writer.raw
    said = _said(raw)
    texts = [worded(text) for text in upgrades(said, "sqlite")]
    if not texts:
        return
    facts = {"cluster": said.get("cluster") or uuid.uuid4().hex, **schema.facts()}
    try:
        raw.executescript("BEGIN IMMEDIATE;\n" + "\n".join(texts))
        raw.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())
        raw.execute("COMMIT")
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")


def _said(raw: sqlite3.Connection) -> dict[str, str]:
    """Return the content of ``meta``; empty if the database is empty."""
    if raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return {}
    return dict(raw.execute("SELECT key, value FROM meta").fetchall())
