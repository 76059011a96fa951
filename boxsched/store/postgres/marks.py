"""The mark of a PostgreSQL server, and whether the server is older than what a node has seen.

After a failover an old primary may come back and accept writes, at the same URL. The mark
(``store.marks``) shows which of two servers continues the other's history.
"""

from collections.abc import Sequence

import msgspec

from boxsched.store.blocks import Row
from boxsched.store.marks import Descent, Mark, Seen, lower

# Two statements, because the tables may not exist yet. If one of its processes crashes, the server
# recovers from the WAL without a restart, and resets its statistics.
SERVER = """
SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END,
       CAST((SELECT system_identifier FROM pg_control_system()) AS text),
       concat(extract(epoch FROM pg_postmaster_start_time()), ' ',
              extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())),
       to_regclass('lineage') IS NOT NULL
"""
HISTORY = """
SELECT (SELECT value FROM meta WHERE key = 'cluster'),
       (SELECT CAST(json_agg(json_build_array(id, restored, system, timeline) ORDER BY number)
                    AS text) FROM lineage),
       (SELECT CAST(json_agg(json_build_array(id, epoch, batch)) AS text) FROM shard)
"""

_descents = msgspec.json.Decoder(tuple[Descent, ...])
_heads = msgspec.json.Decoder(tuple[tuple[int, int, int], ...])


def mark(server: Row, history: Row | None) -> Mark | None:
    """Return the mark from the rows of SERVER and HISTORY; None for a standby."""
    wal_file, system, run, _ = server
    if wal_file is None:
        return None
    timeline = int(wal_file[:8], 16)
    if history is None:
        return Mark(system, timeline, run)
    cluster, lineage, shards = history
    heads = {id_: (epoch, batch) for id_, epoch, batch in _heads.decode(shards or "[]")}
    return Mark(system, timeline, run, cluster or "", _descents.decode(lineage or "[]"), heads)


def why_behind(mark: Mark, seen: Seen) -> str | None:
    """Return why the server is older than what was seen before; None if it is not."""
    if not seen.lineage or mark.cluster != seen.cluster:
        return None
    latest, known = mark.latest, seen.lineage[-1]
    if latest is not None and latest.restored and latest.id not in seen.lineage:
        return None  # an operator has confirmed it with ``db restored``
    if mark.is_new_history:
        return _why_not_later(mark, seen)
    assert latest is not None
    if latest.id == known:
        return lower(mark.shards, seen.shards)
    if known in (one.id for one in mark.lineage):
        return None  # it continues the known history
    if latest.id in seen.lineage:
        return f"it is on timeline {mark.timeline}, but a later history has been seen"
    return _why_not_later(mark, seen)


def _why_not_later(mark: Mark, seen: Seen) -> str | None:
    """The same for an unknown history: only a promotion creates a later timeline."""
    if mark.system != seen.system:
        return lower(mark.shards, seen.shards)
    if mark.timeline > seen.timeline:
        return None
    return f"it is on timeline {mark.timeline}, but timeline {seen.timeline} has been seen"


def missing(mark: Mark, seen: Seen) -> str:
    """Return which known batches a new history does not contain, for people."""
    if mark.cluster != seen.cluster:
        return ""
    lost: Sequence[str] = [
        f"{batch - found} of shard {shard}"
        for shard, (_, batch) in sorted(seen.shards.items())
        if (found := mark.shards.get(shard, (0, 0))[1]) < batch
    ]
    return ", ".join(lost)
