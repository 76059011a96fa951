"""Store the state of a SQLite file in the data folder, to detect an older copy of the file.

If a backup is restored without ``boxsched db restored``, lease tokens, event ids and numbers would
be issued twice. So the data folder stores the epochs and batches that were seen (``memory``). Only
durable ones are noted, so the file is never older than the note after a crash. If the whole data
folder is restored, the note is restored too, and the difference cannot be detected.
"""

import sqlite3
from pathlib import Path

import attrs

from boxsched.store.errors import StoreBehind
from boxsched.store.marks import Descent, Mark, Seen, lower


def file_mark(raw: sqlite3.Connection) -> Mark | None:
    """Return the file's mark; None if the database is empty."""
    tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master")}
    if not {"meta", "shard"} <= tables:
        return None
    found = raw.execute("SELECT value FROM meta WHERE key = 'cluster'").fetchone()
    lineage: list[tuple[str, int]] = []
    if "lineage" in tables:  # since schema 4
        lineage = raw.execute("SELECT id, restored FROM lineage ORDER BY number").fetchall()
    return Mark(
        system="",
        timeline=0,
        run="",
        cluster=found[0] if found else "",
        lineage=tuple(Descent(id_, bool(restored), None, None) for id_, restored in lineage),
        shards=_heads(raw),
    )


def with_heads(mark: Mark, raw: sqlite3.Connection) -> Mark:
    """Return the mark with current epochs and batches. The lineage only changes while no service
    uses the file.
    """
    return attrs.evolve(mark, shards=_heads(raw))


def refuse_older(path: Path, mark: Mark, seen: Seen) -> None:
    """Raise StoreBehind if the file is an older copy without ``db restored``."""
    if mark.cluster != seen.cluster:
        return  # another database
    latest = mark.latest
    if latest is not None and latest.restored and latest.id not in seen.lineage:
        return  # db restored was run since
    why = lower(mark.shards, seen.shards)
    if why is not None:
        raise StoreBehind(
            f"{path} is older than what this data folder has seen of it: {why}. If a backup was "
            "restored on purpose, run boxsched db restored "
            f"--database sqlite:///{path} before the service starts; otherwise use the newest file"
        )


def _heads(raw: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    rows = raw.execute("SELECT id, epoch, batch FROM shard").fetchall()
    return {id_: (epoch, batch) for id_, epoch, batch in rows}
