"""``boxsched db move``: move a stopped SQLite installation into an empty PostgreSQL database.

It is one transaction, so the target contains everything, checked, or nothing. Rows are copied with
COPY as a stream, so memory does not grow with them. Ids, numbers, batches and lease tokens stay the
same, so that running jobs are found again. The in-process worker gets the name that it has in a
cluster. Epochs are raised, so that no earlier leader can write. The SQLite file stays unchanged,
with a mark next to it (``moved``), so that nobody serves it by mistake.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec
import psycopg2
from psycopg2.sql import SQL, Identifier, Literal

from boxsched.errors import Conflict, OutcomeUnknown
from boxsched.store import moved as mark
from boxsched.store import sqlite_path
from boxsched.store.blocks import Row, load
from boxsched.store.errors import RightMissing
from boxsched.store.operating.check import SilentListener, violations
from boxsched.store.operating.session import refuse_other_schema, shown
from boxsched.store.postgres.errors import ends_session
from boxsched.store.postgres.roles import WORKLOAD_IDS, columns, sequences
from boxsched.store.postgres.session import PostgresSession
from boxsched.store.postgres.session import session as postgres_session
from boxsched.store.sqlite.session import SqliteSession
from boxsched.store.sqlite.session import session as sqlite_session
from boxsched.store.steps import maintenance
from boxsched.store.tables import TABLES

_ASK = load("operating_postgres.sql")

OnProgress = Callable[[str, int, int], None]  # arguments: table, rows so far, all rows

ROWS_A_STEP = 5_000  # between two progress messages
BYTES_A_PIECE = 64 * 1024
_PREPARED = (
    "meta",
    "shard",
    "organization",
    "lineage",
)  # these tables have rows also in an unused database
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ODD = re.compile("[\\\\\t\n\r\0]")
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"  # PostgreSQL's texts cannot contain NUL


@attrs.define
class Moved:
    """The result of a move: rows of each table, and the number of replaced NULs in texts."""

    rows: dict[str, int] = attrs.Factory(dict)
    nuls: int = 0


def move(source: str, target: str, on_progress: OnProgress) -> Moved:
    """Move the source into the target. Raises StoreInUse if a service uses the source, StoreMoved
    if it was moved before, Conflict if the target is not empty or the result differs from the
    source, SchemaTooOld, StoreAway; OutcomeUnknown if it is not known whether the commit succeeded:
    repeat the move to find out.
    """
    moved = Moved()
    path = sqlite_path(source)
    date = datetime.now(UTC).astimezone().date().isoformat()
    with (
        # Opened for writing, so that no other process uses it and the WAL of a crash is included.
        sqlite_session(path, writing=True) as old,
        postgres_session(target, writing=True, program="boxsched db") as new,
    ):
        mark.refuse_moved(path, again_to=shown(target))
        refuse_other_schema(old)
        _require_owner(new)
        refuse_other_schema(new)
        _lock(new)
        said = mark.MovedMark(shown(target), old.said()["cluster"], date)
        _refuse_moved_there(new, path, said)
        _refuse_used(new)
        for table in TABLES:
            moved.rows[table] = _copy(_Table(old, new, table, on_progress, moved), new)
        _continue_ids(old, new)
        new.run(maintenance.moved())
        _refuse_broken(new)
        _commit(new, path, said)
    return moved


def _refuse_moved_there(new: PostgresSession, path: Path, said: mark.MovedMark) -> None:
    """Refuse a repeated move. If it was interrupted after its commit, complete it first."""
    if new.said()["cluster"] == said.cluster:
        mark.write(path, msgspec.structs.replace(said, sure=True))
        raise Conflict(
            f"this database is already in {said.target}: start boxsched serve with that URL"
        )


def _commit(new: PostgresSession, path: Path, said: mark.MovedMark) -> None:
    """Write the mark before the commit, so that no crash leaves two served databases."""
    mark.write(path, said)
    try:
        new.raw.commit()
    except psycopg2.Error as error:
        if ends_session(error):
            raise OutcomeUnknown(
                "the connection broke during the commit: repeat the move, which reports whether "
                "it is done"
            ) from error
        mark.remove(path)
        raise
    mark.write(path, msgspec.structs.replace(said, sure=True))


def _require_owner(new: PostgresSession) -> None:
    """Raise RightMissing if the session's role is not the owner of the tables."""
    for _, _, owner, mine in new.ask(_ASK["place"]()):
        if not mine:
            ((me,),) = new.ask(_ASK["me"]())
            raise RightMissing(f"move as the owner of the tables, {owner!r}, not as {me!r}")


def _lock(new: PostgresSession) -> None:
    """Lock the tables: a service that starts now waits, and we wait for an interrupted move."""
    names = SQL(", ").join(map(Identifier, TABLES))
    new.say(SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(names))


def _refuse_used(new: PostgresSession) -> None:
    for table in TABLES:
        if table not in _PREPARED and _count(new, table):
            raise Conflict(
                f"the target is not empty: there are rows in {table}; "
                "create a new database, and prepare it with boxsched db upgrade"
            )
    for table in reversed(_PREPARED):
        new.say(SQL("DELETE FROM {}").format(Identifier(table)))


def _count(new: PostgresSession, table: str) -> int:
    ((count,),) = new.say(SQL("SELECT count(*) FROM {}").format(Identifier(table)))
    return int(count)


class _Table:
    """A table of the source, as a file object for COPY."""

    def __init__(
        self,
        old: SqliteSession,
        new: PostgresSession,
        table: str,
        on_progress: OnProgress,
        moved: Moved,
    ) -> None:
        self.name = table
        self.columns = columns(new, table)
        self._moved = moved
        self._on_progress = on_progress
        ((self.count,),) = old.raw.execute(f'SELECT count(*) FROM "{table}"')  # noqa: S608
        self._pieces = self._written(old)

    def read(self, size: int = 0, /) -> bytes:
        return next(self._pieces, b"")

    def readline(self, size: int = 0, /) -> bytes:
        return self.read()

    def _written(self, old: SqliteSession) -> Iterator[bytes]:
        """Yield rows in COPY's text format, some at a time."""
        names = ", ".join(f'"{name}"' for name in self.columns)
        kinds: Mapping[str, Callable[[Any], str]] = {
            "boolean": lambda value: "t" if value else "f",
            "bytea": lambda value: f"\\\\x{value.hex()}",
            "text": self._text,
        }
        fields = [kinds.get(kind, repr) for kind in self.columns.values()]
        piece, size = [], 0
        self._on_progress(self.name, 0, self.count)
        rows = old.raw.execute(f'SELECT {names} FROM "{self.name}"')  # noqa: S608
        for number, row in enumerate(rows, 1):
            line = "\t".join(
                [
                    "\\N" if value is None else field(value)
                    for field, value in zip(fields, row, strict=True)
                ]
            )
            piece.append(line)
            size += len(line)
            if size >= BYTES_A_PIECE:
                yield _lines(piece)
                piece, size = [], 0
            if number % ROWS_A_STEP == 0:
                self._on_progress(self.name, number, self.count)
        yield _lines(piece)
        self._on_progress(self.name, self.count, self.count)

    def _text(self, value: str) -> str:
        if _ODD.search(value) is None:
            return value
        if "\0" in value:
            self._moved.nuls += value.count("\0")
            value = value.replace("\0", _NO_TEXT)
        return value.translate(_ESCAPED)


def _lines(piece: Sequence[str]) -> bytes:
    return "".join([line + "\n" for line in piece]).encode()


def _copy(table: _Table, new: PostgresSession) -> int:
    names = SQL(", ").join(map(Identifier, table.columns))
    into = SQL("COPY {} ({}) FROM STDIN").format(Identifier(table.name), names)
    with new.raw.cursor() as cursor:
        cursor.copy_expert(into, table)
    new.say(SQL("ANALYZE {}").format(Identifier(table.name)))
    written = _count(new, table.name)
    if written != table.count:
        raise Conflict(f"{table.name}: {table.count} rows were read, {written} written")
    return written


def _continue_ids(old: SqliteSession, new: PostgresSession) -> None:
    """Set the sequences so that new rows get higher ids than all that were ever issued."""
    given: Mapping[str, int] = dict(
        old.raw.execute("SELECT name, max(seq) FROM sqlite_sequence GROUP BY name")
    )
    for table in TABLES:
        for sequence in sequences(new, table):
            _set(new, sequence, given.get(table, 0))
    ((last,),) = old.raw.execute("SELECT coalesce(max(id), 0) FROM workload")
    # ``given`` is higher after a restored backup
    _set(new, WORKLOAD_IDS, max(last, given.get("workload", 0)))


def _set(new: PostgresSession, sequence: str, last: int) -> list[Row]:
    asked = SQL("SELECT setval({}, {}, {})")
    return new.say(asked.format(*map(Literal, (sequence, max(1, last), last > 0))))


def _refuse_broken(new: PostgresSession) -> None:
    found = list(violations(new, SilentListener()))
    if found:
        broken = "; ".join(f"{one.invariant}: {one.what} ({len(one.rows)} rows)" for one in found)
        raise Conflict(f"nothing was moved, because an invariant does not hold: {broken}")
