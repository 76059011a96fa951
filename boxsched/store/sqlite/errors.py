"""What SQLite's errors mean to a caller: the one place that reads its codes."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from boxsched.errors import Fenced, OutcomeUnknown, StoreAway, TooLong, disk_full
from boxsched.store.errors import InvariantRefused, StoreDamaged

# Of an extended result code, the low byte is the kind.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_AWAY = {
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_BUSY: "another program holds the database",
    sqlite3.SQLITE_LOCKED: "another program holds the database",
    sqlite3.SQLITE_PROTOCOL: "another program holds the database",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_PERM: "the file may not be used",
    sqlite3.SQLITE_AUTH: "the file may not be used",
}

# What else SQLite says where a file of its own does not fit.
_FOR_WANT_OF_ROOM = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
LEAST_ROOM_BYTES = 64 * 1024


def no_room(path: str) -> bool:
    """Whether the disk of a file is all but full."""
    try:
        found = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < LEAST_ROOM_BYTES


def translated(error: sqlite3.Error, path: str, *, committing: bool = False) -> Exception | None:
    """The error to raise instead; None where it is a mistake of ours, to be raised as it is.

    ``committing``: it came from COMMIT itself. Where the disk failed then, the commit's mark may
    have been written and only its fsync failed: a crash from here on may find it. (A full disk
    means that the mark could not be written.) Raised inside a transaction, all mean "not done".
    """
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF
    detail = f"{path}: {error}"
    if kind in _DAMAGED:
        return StoreDamaged(f"the database is damaged: {detail}; put a sound copy in its place")
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
    """Raise errors of ours only; a mistake of ours goes through as it is."""
    try:
        yield
    except sqlite3.Error as error:
        meant = translated(error, str(path), committing=committing)
        if meant is None:
            raise
        raise meant from error


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """SQLite 3.7.0 to 3.51.2 can corrupt a WAL when two connections write or checkpoint at once.

    Mended in 3.51.3, and in the branches' 3.44.6 and 3.50.7 (sqlite.org/wal.html). With the one
    writing connection of this driver it cannot happen; with another program's beside it, it can.
    """
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)
