"""The nodes of a cluster, as one of them sees it."""

from collections.abc import Sequence

import attrs

from boxsched.cluster.shares import LockView
from boxsched.protocol.lock_keys import node_number
from boxsched.store.records import NodeInfo


@attrs.frozen
class NodeStanding:
    """A node. ``shards``: those that it leads. ``me``: whether it is the node that answers.
    ``schema``: the schema that its program knows; None: one before the seventh."""

    id: int
    name: str
    url: str
    version: str
    requires: str  # required parts of workers' fingerprints
    alive: bool
    shards: tuple[int, ...]
    me: bool
    started_at: float
    seen_at: float | None
    schema: int | None = None


def standing(nodes: Sequence[NodeInfo], view: LockView | None, me: str) -> list[NodeStanding]:
    """Describe each node. Only the locks say which are alive; without a view, only this node is."""
    found = []
    for node in nodes:
        number = node_number(node.name)
        leads = () if view is None else [s for s, n in view.leaders.items() if n == number]
        alive = node.name == me if view is None else number in view.nodes
        found.append(
            NodeStanding(
                node.id,
                node.name,
                node.url,
                node.version,
                node.requires,
                alive,
                tuple(sorted(leads)),
                node.name == me,
                node.started_at,
                node.seen_at,
                node.schema,
            )
        )
    return found
