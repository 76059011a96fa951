"""The way into an SSH session through this service: a WebSocket with the bytes of SSH."""

from aiohttp import web

from boxsched.api.http.guard import TOKEN
from boxsched.api.resources.worker_socket import require_websocket
from boxsched.api.submitting import new_workloads
from boxsched.errors import Conflict, Forbidden
from boxsched.model import Kind, workload_text
from boxsched.node.node import Node


class SshTunnelRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Serve a connection to the session's server; return when it has ended.

        A browser's session is not enough: a page of another site could use it for a WebSocket.
        """
        if "Authorization" not in request.headers:
            raise Forbidden("a session is entered with a token: Authorization: Bearer TOKEN")
        stored = await new_workloads.find(self._node.store, request.match_info["workload"])
        if stored.kind is not Kind.SSH:
            raise Conflict("this is not an SSH session")
        if stored.ssh is None:
            raise Conflict(f"the session {workload_text(stored.id)} is not open")
        token = request[TOKEN].id
        self._node.entering.require_room(token)  # before it: a client can read this refusal
        require_websocket(request)
        return await self._node.entering.enter(request, stored.id, token)
