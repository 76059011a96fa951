"""What the data folder remembers of a SQLite file, so that an older copy of it is noticed.

Where a backup is put back without ``boxsched db restored``, lease tokens, event ids and numbers
would be given a second time. The data folder holds the epochs and batches that were seen there
(``memory``). Only what is durable is noted: so no crash leaves the file behind its memory. Where
the whole data folder is put back, its memory goes back with it, and nothing shows the difference.
"""

import sqlite3
from pathlib import Path

import attrs

from boxsched.store.errors import StoreBehind
from boxsched.store.marks import Descent, Mark, Seen, lower


def file_mark(raw: sqlite3.Connection) -> Mark | None:
    """None where the database is empty."""
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
    """The same file a little later: a lineage changes only while no service has it open."""
    return attrs.evolve(mark, shards=_heads(raw))


def refuse_older(path: Path, mark: Mark, seen: Seen) -> None:
    """Raises StoreBehind where the file is an older copy, and nobody has said that it is."""
    if mark.cluster != seen.cluster:
        return  # another database
    latest = mark.latest
    if latest is not None and latest.restored and latest.id not in seen.lineage:
        return  # db restored was run since
    why = lower(mark.shards, seen.shards)
    if why is not None:
        raise StoreBehind(
            f"{path} is older than what this data folder has seen of it: {why}. If a backup was "
            "put back on purpose, run boxsched db restored "
            f"--database sqlite:///{path} before the service starts; else put the newest file back"
        )


def _heads(raw: sqlite3.Connection) -> dict[int, tuple[int, int]]:
    rows = raw.execute("SELECT id, epoch, batch FROM shard").fetchall()
    return {id_: (epoch, batch) for id_, epoch, batch in rows}
