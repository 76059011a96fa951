"""The mark of a PostgreSQL server, and whether the server is older than what a node has seen.

After a failover an old primary may come back and accept writes, at the same URL. The mark
(``store.marks``) shows which of two servers continues the other's history.
"""

from collections.abc import Sequence

import msgspec

from boxsched.store.blocks import Row
from boxsched.store.marks import Descent, Mark, Seen, lower

# In two statements: the tables may not be there yet. Where one of its processes crashes, the server
# recovers from its log, and begins its statistics anew, without another start.
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
    """Of the rows of SERVER and HISTORY; None where it is a standby."""
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
    """What shows that a server is older than what was seen before; None where it is not."""
    if not seen.lineage or mark.cluster != seen.cluster:
        return None
    latest, known = mark.latest, seen.lineage[-1]
    if latest is not None and latest.restored and latest.id not in seen.lineage:
        return None  # an operator's word
    if mark.is_new_history:
        return _why_not_later(mark, seen)
    assert latest is not None
    if latest.id == known:
        return lower(mark.shards, seen.shards)
    if known in (one.id for one in mark.lineage):
        return None  # it goes on from there
    if latest.id in seen.lineage:
        return f"it is on timeline {mark.timeline}, and a later history has been seen"
    return _why_not_later(mark, seen)


def _why_not_later(mark: Mark, seen: Seen) -> str | None:
    """Of a history that is not known: only a promotion makes a later timeline."""
    if mark.system != seen.system:
        return lower(mark.shards, seen.shards)
    if mark.timeline > seen.timeline:
        return None
    return f"it is on timeline {mark.timeline}, and {seen.timeline} has been seen"


def missing(mark: Mark, seen: Seen) -> str:
    """What of the batches seen a new history does not have, for people."""
    if mark.cluster != seen.cluster:
        return ""
    lost: Sequence[str] = [
        f"{batch - found} of shard {shard}"
        for shard, (_, batch) in sorted(seen.shards.items())
        if (found := mark.shards.get(shard, (0, 0))[1]) < batch
    ]
    return ", ".join(lost)
