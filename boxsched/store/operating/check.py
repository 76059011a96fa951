"""``boxsched check``: every invariant that can be read from tables and history, by number.

The numbers (I1 to I10, V1 to V25) are those of docs/faults.md, "Invariants". The database is opened
read-only, in one snapshot, so a check can run while services run, with the same result.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from boxsched.model import workload_text
from boxsched.store.blocks import Block, Row, load
from boxsched.store.errors import StoreDamaged
from boxsched.store.operating.replay import Replay
from boxsched.store.operating.session import Session, opened, refuse_other_schema
from boxsched.store.records import SetAsideCommand
from boxsched.store.sqlite import session as sqlite_session
from boxsched.store.steps import reads

SQL = load("check.sql")
_OPERATING = load("operating_postgres.sql")
NOTED_AT_MOST = 100  # commands that were set aside, which the notes name


@attrs.frozen
class Violation:
    """A violated invariant: its numbers (``I3, V7``), its meaning, and the rows."""

    invariant: str
    what: str
    rows: tuple[Row, ...]


class CheckListener(Protocol):
    """Receives the progress of a check, from the thread that checks."""

    def step(self, what: str) -> None:
        """Note that the next part of the check begins."""

    def note(self, text: str) -> None:
        """Take a note about a skipped check or a command that was set aside."""


class SilentListener:
    def step(self, what: str) -> None: ...

    def note(self, text: str) -> None: ...


async def check(url: str, listener: CheckListener | None = None) -> list[Violation]:
    """Return all violations. Raises StoreAway if the database cannot be read."""
    return await asyncio.to_thread(_check, url, listener or SilentListener())


def _check(url: str, listener: CheckListener) -> list[Violation]:
    try:
        with opened(url, program="boxsched check") as session:
            return list(violations(session, listener))
    except StoreDamaged as error:
        return [Violation("file", error.message, ((str(error.__cause__),),))]


def violations(session: Session, listener: CheckListener) -> Iterator[Violation]:
    """Return all violations that the session's transaction sees."""
    blocks = {**SQL}
    if isinstance(session, sqlite_session.SqliteSession):
        listener.step("the file")
        yield from _integrity(session.raw)
    else:
        blocks |= _of_commit_times(session, listener)
    refuse_other_schema(session)
    for number, (name, block) in enumerate(blocks.items(), 1):
        listener.step(f"{name.replace('_', ' ')} ({number} of {len(blocks)})")
        rows = list(session.stream(block))
        if rows:
            yield _violation(block.purpose.replace("\n", " "), rows)
    for command in session.run(reads.set_aside(NOTED_AT_MOST)):
        listener.note(_noted(command))
    broken: dict[str, list[Row]] = {}
    for what, row in Replay(session.stream, listener.step).run():
        broken.setdefault(what, []).append(row)
    for what, found in broken.items():
        yield _violation(what, found)


def _integrity(raw: sqlite3.Connection) -> Iterator[Violation]:
    found = raw.execute("PRAGMA integrity_check").fetchall()
    if found != [("ok",)]:
        yield Violation("file", "the database file is damaged", tuple(found))


def _of_commit_times(session: Session, listener: CheckListener) -> Mapping[str, Block]:
    """Check V2, which needs the times of PostgreSQL's commits, if it stores them."""
    if list(session.stream(_OPERATING["commit_times"])) == [("on",)]:
        return load("check_postgres.sql")
    listener.note(
        "V2 (nothing committed by a leader after its successor began) was not checked: "
        "PostgreSQL stores no commit times here (track_commit_timestamp is off)"
    )
    return {}


def _noted(command: SetAsideCommand) -> str:
    about = "" if command.workload is None else f" about {workload_text(command.workload)}"
    return f"command {command.id} ({command.kind}{about}) was set aside: {command.error}"


def _violation(purpose: str, rows: Iterable[Row]) -> Violation:
    invariant, _, what = purpose.partition(": ")
    return Violation(invariant, what, tuple(rows))
