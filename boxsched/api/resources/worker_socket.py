"""Where external workers connect: the guard has checked the token, the gateway does the rest."""

from aiohttp import web

from boxsched.api.http import deadlines
from boxsched.api.http.guard import TOKEN
from boxsched.errors import Malformed
from boxsched.node.node import Node


class Workers:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """A worker that is bound to its token; returns when the connection has ended."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Malformed("only a WebSocket is spoken here: send Upgrade: websocket")
        deadlines.bound_kernel(request.transport, 0)  # its silence is the gateway's to judge
        return await self._node.gateway.serve(request, request[TOKEN])
