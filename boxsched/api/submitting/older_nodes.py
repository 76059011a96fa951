"""Refuse what a node of an earlier version would not understand, while such a node is alive.

It would answer 500 for a project whose settings it cannot read, and where it leads, it would set
commands aside that it does not know. So nothing new is used before all nodes are upgraded.
"""

from boxsched.errors import Conflict
from boxsched.node.node import Node

NEEDED_SCHEMA = 6  # what programs know that have pauses, changes of priority and the newer settings


async def refuse_beside_older(
    node: Node, what: str, field: str | None = None, *, schema: int = NEEDED_SCHEMA
) -> None:
    """Raise Conflict while a node is alive that does not know ``what``.

    ``schema``: the least that programs know that do.
    """
    if not node.elected:
        return
    for one in await node.standing():
        if one.alive and (one.schema or 0) < schema:
            raise Conflict(
                f"the node {one.name} has an earlier version of boxsched, which does not know "
                f"{what}: upgrade it first",
                field,
            )
