"""Long polling for external workers whose proxy refuses WebSockets (``gateway.long_polls``)."""

from aiohttp import web
from msgspec import Struct

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


def _connection(request: web.Request) -> tuple[str, Token]:
    """Return the connection's id and the caller's token."""
    return request.match_info["connection"], request[TOKEN]


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise Invalid("must be a whole number", name)
    return int(text)
