"""The nodes of the cluster: who is alive, who leads which shard."""

from aiohttp import web
from msgspec import Struct

from boxsched.api import replies
from boxsched.api.times import rfc3339
from boxsched.cluster.standing import NodeStanding
from boxsched.node import Node


class NodeAnswer(Struct, frozen=True):
    """A node; ``shards`` are those that it leads, ``me`` = it gives this answer."""

    id: str
    name: str
    url: str
    version: str
    alive: bool
    shards: tuple[int, ...]
    me: bool
    started_at: str


class NodeList(Struct, frozen=True):
    nodes: tuple[NodeAnswer, ...]


class Nodes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def list(self, request: web.Request) -> web.Response:
        """Every node that ever was, by id."""
        return replies.json(NodeList(tuple([_shown(one) for one in await self._node.standing()])))


def _shown(node: NodeStanding) -> NodeAnswer:
    return NodeAnswer(
        str(node.id),
        node.name,
        node.url,
        node.version,
        node.alive,
        node.shards,
        node.me,
        rfc3339(node.started_at),
    )
