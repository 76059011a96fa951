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
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Malformed("this path accepts only WebSockets: send Upgrade: websocket")
        deadlines.bound_kernel(request.transport, 0)  # the gateway has its own deadlines
        return await self._node.gateway.serve(request, request[TOKEN])
