"""Fair shares: which shard a node hands over so that each node leads about the same number.

A pure function of a node's view of the locks. The first node that sees a free shard takes it.
"""

from collections.abc import Collection, Mapping

import attrs


@attrs.frozen
class LockView:
    """The state of the locks at one moment: which nodes are alive, and who leads which shard."""

    me: int
    nodes: frozenset[int]  # alive: they hold the lock of their number
    leaders: Mapping[int, int]  # shard -> node; without the shards that have no leader

    @property
    def mine(self) -> frozenset[int]:
        return frozenset(shard for shard, node in self.leaders.items() if node == self.me)


def to_hand_over(view: LockView, shards: Collection[int]) -> int | None:
    """Return the shard that this node should hand over to a node that leads fewer, or None.

    One shard at a time, and only while every shard has a leader: a free lock is about to be taken.
    The shard with the greatest number is handed over, since the first shards have the most work.
    """
    if not all(shard in view.leaders for shard in shards):
        return None
    counts = dict.fromkeys(view.nodes, 0)
    for node in view.leaders.values():
        if node in counts:
            counts[node] += 1
    mine = counts.get(view.me, 0)
    if mine < 2 or mine < min(counts.values()) + 2:
        return None
    if any(count > mine for count in counts.values()):
        return None  # that node must hand over first
    return max(view.mine)
