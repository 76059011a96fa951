"""Translate SQLite's errors; the only module that uses its codes."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from boxsched.errors import Fenced, OutcomeUnknown, StoreAway, TooLong, disk_full
from boxsched.store.errors import InvariantRefused, StoreDamaged

# The low byte of an extended result code is the kind.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_AWAY = {
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_BUSY: "another program holds the database",
    sqlite3.SQLITE_LOCKED: "another program holds the database",
    sqlite3.SQLITE_PROTOCOL: "another program holds the database",
    sqlite3.SQLITE_NOMEM: "no memory is left",
    sqlite3.SQLITE_PERM: "permission for the file was denied",
    sqlite3.SQLITE_AUTH: "permission for the file was denied",
}

# Other messages of SQLite if one of its files is inconsistent.
_FOR_WANT_OF_ROOM = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
LEAST_ROOM_BYTES = 64 * 1024


def no_room(path: str) -> bool:
    """Whether the disk of a file is almost full."""
    try:
        found = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < LEAST_ROOM_BYTES


def translated(error: sqlite3.Error, path: str, *, committing: bool = False) -> Exception | None:
    """Return the error to raise instead; None for a bug, whose error is raised unchanged.

    ``committing``: it came from COMMIT itself. If the disk failed then, the commit record may have
    been written and only the fsync failed, so the commit may exist after a crash. (If the disk is
    full, the record was not written.) Errors inside a transaction all mean "not done".
    """
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF
    detail = f"{path}: {error}"
    if kind in _DAMAGED:
        return StoreDamaged(f"the database is damaged: {detail}; replace it by a good copy")
    if committing and kind == sqlite3.SQLITE_IOERR:
        return OutcomeUnknown(f"the disk failed while committing: {detail}")
    if kind == sqlite3.SQLITE_INTERRUPT:
        return TooLong("this read took too long: ask for less, or try again")
    if kind == sqlite3.SQLITE_FULL or (kind in _FOR_WANT_OF_ROOM and no_room(path)):
        return disk_full(f"the disk is full: {detail}")
    if kind in _AWAY:
        return StoreAway(f"{_AWAY[kind]}: {detail}")
    if code == sqlite3.SQLITE_CONSTRAINT_NOTNULL and str(error).endswith(": shard.batch"):
        return Fenced("another leads the shard, or this batch was committed before")
    if kind == sqlite3.SQLITE_CONSTRAINT:
        return InvariantRefused(f"refused by the schema: {error}")
    return None


@contextlib.contextmanager
def translating(path: Path, *, committing: bool = False) -> Iterator[None]:
    """Raise only boxsched's errors; a bug's error is raised unchanged."""
    try:
        yield
    except sqlite3.Error as error:
        meant = translated(error, str(path), committing=committing)
        if meant is None:
            raise
        raise meant from error


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """SQLite 3.7.0 to 3.51.2 can corrupt a WAL when two connections write or checkpoint at once.

    Fixed in 3.51.3, and in 3.44.6 and 3.50.7 of the branches (sqlite.org/wal.html). It cannot
    happen with the single writing connection of this driver, but with another program's connection
    it can.
    """
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)
