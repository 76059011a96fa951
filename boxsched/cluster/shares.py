"""Who leads how many shards: a free one is taken by whoever sees it; this says who hands one over.

Pure: the view that a node has of the locks goes in, and the shard to hand over comes out.
"""

from collections.abc import Collection, Mapping

import attrs


@attrs.frozen
class View:
    """What the locks show at one moment: who is alive, and who leads which shard."""

    me: int
    nodes: frozenset[int]  # alive: they hold the lock of their number
    leaders: Mapping[int, int]  # shard -> node; a shard that nobody leads is not there

    @property
    def mine(self) -> frozenset[int]:
        return frozenset(shard for shard, node in self.leaders.items() if node == self.me)


def to_hand_over(view: View, shards: Collection[int]) -> int | None:
    """The shard that this node should give up so that another has a fairer share; None: none.

    One at a time, and only where every shard has a leader: while a lock is free, or on its way
    from one to the other, things are moving by themselves. The last one goes: the first shards
    have the most to do, and stay where they are.
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
        return None  # who has more gives first
    return max(view.mine)
