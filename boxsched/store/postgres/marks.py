"""What a session shows of the server that it is on, and of the history that the database there has.

After a failover an old primary may come back and take writes, under the same URL. It is told by its
*mark*: the server's system and timeline, the numbers of every shard, and the *lineage*. That is a
table with a row for each history that the database went on with: its first server, each later
timeline, each restoration of a backup. A row's id is chosen at random, and a copy of the database
has the rows of its ancestors. So of two servers one can say which goes on from the other.
"""

from collections.abc import Mapping, Sequence

import attrs
import msgspec

from boxsched.store.blocks import Row

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


class Descent(msgspec.Struct, frozen=True, array_like=True):
    """A row of the lineage."""

    id: str
    restored: bool
    system: str | None
    timeline: int | None


@attrs.frozen
class Mark:
    """``run``: since when the server runs, and has not crashed."""

    system: str
    timeline: int
    run: str
    cluster: str = ""
    lineage: tuple[Descent, ...] = ()
    shards: Mapping[int, tuple[int, int]] = attrs.field(factory=dict)  # (epoch, batch)

    @property
    def latest(self) -> Descent | None:
        return self.lineage[-1] if self.lineage else None

    @property
    def is_new_history(self) -> bool:
        """Whether the lineage says nothing of this server's timeline yet."""
        latest = self.latest
        return latest is None or (latest.system, latest.timeline) != (self.system, self.timeline)

    @property
    def key(self) -> tuple[str, int, str, str]:
        """The same for all sessions that are on one server, in one history."""
        return self.system, self.timeline, self.run, self.latest.id if self.latest else ""

    @property
    def age(self) -> tuple[int, int, list[tuple[int, tuple[int, int]]]]:
        """The greater the newer, of servers that one knows no more of."""
        return self.timeline, len(self.lineage), sorted(self.shards.items())


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


class Seen(msgspec.Struct):
    """The newest that a node has seen of its database."""

    cluster: str = ""
    system: str = ""
    timeline: int = 0  # the highest of that system
    lineage: list[str] = []  # ids, the latest last
    shards: dict[int, tuple[int, int]] = {}

    def note(self, mark: Mark) -> bool:
        """It is used; whether that is news of more than numbers of batches."""
        before = (self.cluster, self.system, self.timeline, list(self.lineage))
        if self.cluster != mark.cluster:
            self.lineage, self.shards = [], {}
        if self.system != mark.system:
            self.timeline = 0
        self.cluster, self.system = mark.cluster, mark.system
        self.timeline = max(self.timeline, mark.timeline)
        ids = [one.id for one in mark.lineage]
        self.lineage = [id_ for id_ in self.lineage if id_ not in ids] + ids
        self.shards = dict(mark.shards)
        return before != (self.cluster, self.system, self.timeline, self.lineage)


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


def lower(shards: Mapping[int, tuple[int, int]], seen: Mapping[int, tuple[int, int]]) -> str | None:
    """The first shard whose epoch or batch is below what was seen; None where there is none."""
    for shard, (epoch, batch) in sorted(seen.items()):
        found = shards.get(shard, (0, 0))
        if found[0] < epoch or found[1] < batch:
            return (
                f"shard {shard} is at epoch {found[0]}, batch {found[1]}, and epoch {epoch}, "
                f"batch {batch} have been seen"
            )
    return None


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
