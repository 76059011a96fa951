"""The file ``NAME.moved`` next to a SQLite file whose rows were moved to another database.

It is written before the target's transaction commits, and becomes ``sure`` when the commit is
known. So a crash in between never leaves two databases that are both served.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from boxsched.store.errors import FolderUnusable, StoreMoved

MODE = 0o644  # it contains no secrets, so every user may read where the rows are


class MovedMark(msgspec.Struct, frozen=True):
    """Content of the file. ``target``: a URL without its password. ``date``: such as 2026-11-22."""

    target: str
    cluster: str
    date: str
    sure: bool = False


def mark_file(database: Path) -> Path:
    return database.with_name(database.name + ".moved")


def write(database: Path, mark: MovedMark) -> None:
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
    with contextlib.suppress(OSError):  # if this fails, the remaining mark is not ``sure``
        mark_file(database).unlink()
        _sync_folder(database.parent)


def refuse_moved(database: Path, *, again_to: str | None = None) -> None:
    """Raise StoreMoved if there is a mark, also if the file is missing; but not if a move to
    ``again_to`` was interrupted.
    """
    file = mark_file(database)
    if not os.path.lexists(file):
        return
    try:
        mark = msgspec.json.decode(file.read_bytes(), type=MovedMark)
    except (OSError, msgspec.DecodeError):
        raise StoreMoved(
            f"this database was moved, but {file} cannot be read: give --database "
            "(BOXSCHED_DATABASE)"
        ) from None
    if mark.sure:
        raise StoreMoved(
            f"this database was moved to {mark.target} on {mark.date}: give --database "
            f"(BOXSCHED_DATABASE); to serve the old file nevertheless, remove {file} "
            "and run boxsched db restored"
        )
    if mark.target != again_to:
        raise StoreMoved(
            f"a move of this database to {mark.target} was interrupted on {mark.date} and may be "
            "complete: repeat it (boxsched db move), which reports this; or remove "
            f"{file} if that database does not contain cluster {mark.cluster} (boxsched db status)"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
