"""The mark of a database, which describes its history, and the newest mark that a node has seen.

A database has a *lineage*: a table with a row for each history (its first server, each later
timeline, each restoration of a backup). A row's id is random, and a copy of the database has the
rows of its ancestors. The mark is the lineage together with the server's identity and the epoch and
last batch of every shard. Comparing two marks shows which is older.
"""

from collections.abc import Mapping

import attrs
import msgspec


class Descent(msgspec.Struct, frozen=True, array_like=True):
    """A row of the lineage; ``system`` and ``timeline`` are None on SQLite."""

    id: str
    restored: bool
    system: str | None
    timeline: int | None


@attrs.frozen
class Mark:
    """A database as one connection sees it. ``run``: identifies the server's run since its last
    start or crash. For SQLite ``system`` and ``run`` are empty and ``timeline`` is 0.
    """

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
        """Whether the lineage has no row for this server's timeline yet."""
        latest = self.latest
        return latest is None or (latest.system, latest.timeline) != (self.system, self.timeline)

    @property
    def key(self) -> tuple[str, int, str, str]:
        """A key that is equal for all sessions on one server, in one history."""
        return self.system, self.timeline, self.run, self.latest.id if self.latest else ""

    @property
    def age(self) -> tuple[int, int, list[tuple[int, tuple[int, int]]]]:
        """A sort key for servers with unknown histories: the newest is the greatest."""
        return self.timeline, len(self.lineage), sorted(self.shards.items())


class Seen(msgspec.Struct):
    """The newest mark that a node has seen of its database."""

    cluster: str = ""
    system: str = ""
    timeline: int = 0  # the highest timeline of that system
    lineage: list[str] = []  # ids, the latest last
    shards: dict[int, tuple[int, int]] = {}

    def note(self, mark: Mark) -> bool:
        """Remember a mark; return whether more than batch numbers changed."""
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


def lower(shards: Mapping[int, tuple[int, int]], seen: Mapping[int, tuple[int, int]]) -> str | None:
    """Return a message about the first shard whose epoch or batch is lower than seen before, or
    None.
    """
    for shard, (epoch, batch) in sorted(seen.items()):
        found = shards.get(shard, (0, 0))
        if found[0] < epoch or found[1] < batch:
            return (
                f"shard {shard} is at epoch {found[0]}, batch {found[1]}, but epoch {epoch}, "
                f"batch {batch} have been seen"
            )
    return None
