"""The mark beside a SQLite file whose rows went to another database: ``NAME.moved``.

It is there before the target's transaction commits, and ``sure`` once that is known: a crash in
between leaves a file that nobody serves unawares, never two databases that are served at once.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from boxsched.store.errors import FolderUnusable, StoreMoved

MODE = 0o644  # no secrets: whoever finds the file may read where its rows went


class Mark(msgspec.Struct, frozen=True):
    """``target`` is without its password; ``date`` as 2026-11-22."""

    target: str
    cluster: str
    date: str
    sure: bool = False


def mark_file(database: Path) -> Path:
    return database.with_name(database.name + ".moved")


def write(database: Path, mark: Mark) -> None:
    """Write the mark; durable when this returns. Raises FolderUnusable."""
    file = mark_file(database)
    draft = file.with_name(file.name + ".new")
    text = msgspec.json.format(msgspec.json.encode(mark), indent=2) + b"\n"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "wb") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        raise FolderUnusable(f"cannot write {file}: {error}") from error


def remove(database: Path) -> None:
    with contextlib.suppress(OSError):  # then it is one that is not sure, and says so
        mark_file(database).unlink()
        _sync_folder(database.parent)


def refuse_moved(database: Path, *, again_to: str | None = None) -> None:
    """Raises StoreMoved where there is a mark, also of a file that is gone; but not where a move to
    ``again_to`` was cut off."""
    file = mark_file(database)
    if not os.path.lexists(file):
        return
    try:
        mark = msgspec.json.decode(file.read_bytes(), type=Mark)
    except (OSError, msgspec.DecodeError):
        raise StoreMoved(
            f"this database was moved, as {file} says, which cannot be read: give --database "
            "(BOXSCHED_DATABASE)"
        ) from None
    if mark.sure:
        raise StoreMoved(
            f"this database was moved to {mark.target} on {mark.date}: give --database "
            f"(BOXSCHED_DATABASE); to serve the old file all the same, remove {file} "
            "and run boxsched db restored"
        )
    if mark.target != again_to:
        raise StoreMoved(
            f"a move of this database to {mark.target} was cut off on {mark.date}, and may be "
            "done: begin it again (boxsched db move), which says so; or remove "
            f"{file} if that database does not hold cluster {mark.cluster} (boxsched db status)"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
