"""Long polling for external workers whose proxy refuses WebSockets (``gateway.long_polls``), and
for their tunnels to SSH sessions (``gateway.polled_tunnels``).
"""

from aiohttp import web
from msgspec import Struct

from boxsched import tunnelling
from boxsched.api.http import bodies, replies
from boxsched.api.http.guard import TOKEN
from boxsched.errors import Invalid, Malformed, StoreAway
from boxsched.node.node import Node
from boxsched.protocol.wire import MAX_POLL_BYTES, MAX_POLL_MESSAGES
from boxsched.store.records import Token

MAX_NUMBER_DIGITS = 15


class PolledConnection(Struct, frozen=True):
    """A connection for long polling. ``connection``: its id, for all further requests."""

    connection: str


class WorkerPollRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._polls = node.gateway.polls

    async def open(self, request: web.Request) -> web.Response:
        """Begin a connection. The first message in it is the worker's Hello."""
        await bodies.read_bytes(request, MAX_POLL_BYTES)
        if self._node.hanging_up:
            raise StoreAway("this node is stopping")
        connection = self._polls.open(request.remote or "", request[TOKEN])
        return replies.json(PolledConnection(connection), 201)

    async def send(self, request: web.Request) -> web.Response:
        """Take messages from the worker, one a line."""
        body = await bodies.read_bytes(request, MAX_POLL_BYTES)
        number = _number(request, "number")
        line = self._polls.find(*_connection(request))
        if body.count(b"\n") > MAX_POLL_MESSAGES:  # a line may be empty
            raise Invalid(f"a request has at most {MAX_POLL_MESSAGES} messages")
        try:
            texts = [text for text in body.decode().split("\n") if text]
        except UnicodeDecodeError:
            raise Malformed("the body is not UTF-8") from None
        await line.put(number, texts)
        return web.Response(status=204)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer with the messages after number ``after``, one a line, when there are any."""
        after = _number(request, "after")
        texts = await self._polls.find(*_connection(request)).take(after)
        return replies.text(b"".join(text + b"\n" for text in texts))

    async def close(self, request: web.Request) -> web.Response:
        """End a connection."""
        self._polls.find(*_connection(request)).lose()
        return web.Response(status=204)

    # --- Tunnels ----------------------------------------------------------------------------

    async def send_bytes(self, request: web.Request) -> web.Response:
        """Take messages of a tunnel from the worker; an empty one says that it is alive."""
        body = await bodies.read_bytes(request, MAX_POLL_BYTES)
        number = _number(request, "number")
        tunnel = self._node.entering.polled(*_tunnel(request))
        try:
            messages = tunnelling.unpacked(body)
        except ValueError as error:
            raise Malformed(f"the body is malformed: {error}") from None
        if len(messages) > MAX_POLL_MESSAGES:
            raise Invalid(f"a request has at most {MAX_POLL_MESSAGES} messages")
        await tunnel.put(number, [one for one in messages if one])
        return web.Response(status=204)

    async def receive_bytes(self, request: web.Request) -> web.Response:
        """Answer with the messages of a tunnel after number ``after``, when there are any."""
        after = _number(request, "after")
        taken = await self._node.entering.polled(*_tunnel(request)).take(after)
        body = tunnelling.packed(taken)
        return web.Response(body=body, content_type="application/octet-stream")

    async def close_tunnel(self, request: web.Request) -> web.Response:
        """End a tunnel, after what the worker has sent."""
        self._node.entering.polled(*_tunnel(request)).lose()
        return web.Response(status=204)


def _tunnel(request: web.Request) -> tuple[str, str, str]:
    """Return the tunnel's name, the id of the caller's token, and the caller's address."""
    return request.match_info["tunnel"], request[TOKEN].id, request.remote or ""


def _connection(request: web.Request) -> tuple[str, Token]:
    """Return the connection's id and the caller's token."""
    return request.match_info["connection"], request[TOKEN]


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise Invalid("must be a whole number", name)
    return int(text)
