"""The nodes of the cluster: which are alive, and which lead."""

import asyncio
import logging

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR
from boxsched.api.http import replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339, text_time
from boxsched.cluster.standing import NodeStanding
from boxsched.errors import Conflict, StoreAway
from boxsched.node.node import Node

log = logging.getLogger(__name__)


class NodeAnswer(Struct, frozen=True):
    """A node. ``shards``: those that it leads. ``me``: it is the node that answers. ``requires``:
    the parts that fingerprints of workers must have.

    ``seen_at``: its last sign of life; null: not known.
    """

    id: str
    name: str
    url: str
    version: str
    requires: str
    alive: bool
    shards: tuple[int, ...]
    me: bool
    started_at: str
    seen_at: str | None


class NodeList(Struct, frozen=True):
    nodes: tuple[NodeAnswer, ...]


class NodeRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def list(self, request: web.Request) -> web.Response:
        """Return all nodes, also absent ones, sorted by id."""
        return replies.json(NodeList(tuple([_shown(one) for one in await self._node.standing()])))

    async def forget(self, request: web.Request) -> web.Response:
        """204: the node is removed from the list until it is started again."""
        name = request.match_info["node"]
        node = self._node
        if node.elected and node.leadership.view is None:
            raise StoreAway("it is not known now which nodes are alive: try again")
        found = [one for one in await node.standing() if one.name == name]
        if not found:
            raise no_such("node", name, hint="; `boxsched nodes` shows their names")
        if found[0].alive:
            raise Conflict(f"the node {name} is alive: stop it first")
        await asyncio.shield(node.store.forget_node(name))
        log.info("the node %s was removed by %s", name, request[ACTOR])
        return web.Response(status=204)


def _shown(node: NodeStanding) -> NodeAnswer:
    return NodeAnswer(
        str(node.id),
        node.name,
        node.url,
        node.version,
        node.requires,
        node.alive,
        node.shards,
        node.me,
        rfc3339(node.started_at),
        text_time(node.seen_at),
    )
