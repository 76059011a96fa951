"""The WebSocket of external workers: the guard checks the token, the gateway serves it."""

from aiohttp import web

from boxsched.api.http import deadlines
from boxsched.api.http.guard import TOKEN
from boxsched.errors import Malformed
from boxsched.node.node import Node


class WorkerRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve a worker's connection; return when it has ended."""
        require_websocket(request)
        deadlines.bound_kernel(request.transport, 0)  # the gateway has its own deadlines
        return await self._node.gateway.serve(request, request[TOKEN])

    async def tunnel(self, request: web.Request) -> web.StreamResponse:
        """Serve a worker's tunnel to an SSH session; return when it has ended."""
        require_websocket(request)
        name = request.match_info["tunnel"]
        return await self._node.entering.arrive(request, name, request[TOKEN].id)


def require_websocket(request: web.Request) -> None:
    """Raise Malformed unless the request is for a WebSocket."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise Malformed("this path accepts only WebSockets: send Upgrade: websocket")
