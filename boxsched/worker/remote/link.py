"""One connection of a worker to a node, from the Hello to the end."""

import asyncio
import contextlib
import itertools
import random
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Literal, Protocol

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from boxsched.errors import StoreAway
from boxsched.protocol import wire
from boxsched.protocol.timing import UNKNOWN_AFTER_SECONDS
from boxsched.protocol.wire import MAX_MESSAGE_BYTES
from boxsched.reaching import why_not
from boxsched.worker.remote.discovery import NodeAddress
from boxsched.worker.remote.messages import NumberedMessage, printable
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.refusal import why_refused
from boxsched.worker.supervisor.last_heartbeat import boottime

CLOSE_SECONDS = 1.0  # how long to wait for the node's close frame
MAX_UNANSWERED_BEATS = 64
_REFUSALS = (401, 403)  # permanent until the operator acts
_NOT_THERE = 404  # perhaps only until a load balancer is repaired
_UNREADY = dict.fromkeys(
    (502, 503, 504), ": the node is not ready, or the load balancer has no node that is ready"
)
_TEXTS = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)

Socket = aiohttp.ClientWebSocketResponse[Literal[False]]  # texts come as bytes


class Lost(Exception):
    """The connection has ended or could not be made: try another node."""


class RefusedByNode(Exception):
    """The node refuses this worker, and will refuse it again until the operator acts."""


class NodeListener(Protocol):
    """Receives the messages of a node. Each method returns at once."""

    @property
    def problem(self) -> str | None:
        """Why no job can begin here now; sent with each heartbeat. None: jobs can begin."""

    def receive_level(self, level: wire.Level) -> None:
        """Take the newest level."""

    def heartbeat_answered(self, at: float) -> None:
        """Note that the node answered the heartbeat that was sent ``at`` (``boottime``)."""

    def receive_drained(self) -> None:
        """End: an operator drained the worker, and it has no jobs."""

    def drop(self, stale: Sequence[tuple[int, int]]) -> None:
        """End the attempts with these (job, lease token): the worker no longer holds them."""


class Link:
    """A connection: call ``greet`` first, then ``serve``; call ``send`` while ``serve`` runs."""

    def __init__(self, socket: Socket, pace: Pace, chance: random.Random) -> None:
        self._socket = socket
        self._pace = pace
        self._chance = chance
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[wire.Ack | None]] = {}
        self._beats: dict[int, float] = {}  # when unanswered heartbeats were sent, by number
        self._over = False
        self.fixes_commits = False  # from the node's Welcome

    async def greet(self, hello: wire.Hello) -> wire.Welcome:
        """Send the Hello and return the Welcome. Raises Lost, RefusedByNode."""
        try:
            await self._send(hello)
        except ConnectionError as error:
            raise Lost(f"the node closed the connection: {error}") from None
        answer = await self._receive()
        if isinstance(answer, wire.Refused):
            message = printable(answer.message)
            raise Lost(message) if answer.again else RefusedByNode(message)
        if not isinstance(answer, wire.Welcome):
            raise Lost("the node did not answer the Hello")
        self._pace = self._pace.of(answer.lost_after)
        self.fixes_commits = answer.fixes_commits
        return answer

    async def serve(self, listener: NodeListener) -> None:
        """Handle messages until the node says Leave. Raises Lost.

        Messages without an answer at the end count as not processed.
        """
        beating = asyncio.create_task(self._beat(listener))
        try:
            await self._listen(listener)
        finally:
            self._over = True
            for answered in self._unanswered.values():
                if not answered.done():
                    answered.set_result(None)
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def send(self, message: NumberedMessage) -> wire.Ack:
        """Send a message; return its Ack when it is durable.

        Raises StoreAway if the connection ends first.
        """
        if self._over:
            raise StoreAway("the connection to the node is gone")
        number = next(self._numbers)
        answered = self._unanswered[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(message(number))
            ack: wire.Ack | None = await answered
            if ack is None:
                raise StoreAway("the connection to the node was lost before it answered")
            return ack
        except ConnectionError as error:
            raise StoreAway(f"the connection to the node was lost: {error}") from None
        finally:
            del self._unanswered[number]

    # --- Sending ----------------------------------------------------------------------------

    async def _send(self, message: wire.FromWorker) -> None:
        await self._socket.send_frame(wire.encode(message), aiohttp.WSMsgType.TEXT)

    async def _beat(self, listener: NodeListener) -> None:
        """Send heartbeats until the connection ends."""
        await asyncio.sleep(self._pace.beat * self._chance.random())  # spread over many workers
        while True:
            number = next(self._numbers)
            self._beats[number] = boottime()  # before it is sent: the lease starts here
            if len(self._beats) > MAX_UNANSWERED_BEATS:
                del self._beats[next(iter(self._beats))]
            try:
                await self._send(wire.Beat(number, listener.problem))
            except ConnectionError:
                return
            await asyncio.sleep(self._pace.beat)

    # --- Receiving --------------------------------------------------------------------------

    async def _listen(self, listener: NodeListener) -> None:
        loop = asyncio.get_running_loop()
        silence = self._pace.silence
        try:
            async with asyncio.timeout(silence) as patience:
                while not isinstance(message := await self._receive(), wire.Leave):
                    patience.reschedule(loop.time() + silence)
                    self._take(message, listener)
        except TimeoutError:
            raise Lost(f"the node was silent for {silence:g} s") from None

    def _take(self, message: wire.FromNode, listener: NodeListener) -> None:
        match message:
            case wire.Level():
                listener.receive_level(message)
            case wire.Ack():
                if (sent := self._beats.pop(message.number, None)) is not None:
                    listener.heartbeat_answered(sent)
                if message.stale:  # before the caller of ``send`` continues
                    listener.drop(message.stale)
                answered = self._unanswered.get(message.number)
                if answered is not None and not answered.done():
                    answered.set_result(message)
            case wire.Drained():
                listener.receive_drained()
            case wire.Refused():
                raise Lost(printable(message.message))
            case _:
                raise Lost("the node sent an unexpected message")

    async def _receive(self) -> wire.FromNode:
        """Return the node's next message. Raises Lost."""
        message = await self._socket.receive()
        if message.type in _TEXTS:
            try:
                said: wire.FromNode = wire.from_node.decode(message.data)
            except msgspec.DecodeError as error:
                raise Lost(f"the node sent an invalid message: {error}") from None
            return said
        if message.type is aiohttp.WSMsgType.ERROR:
            raise Lost(f"the connection broke: {message.data}")
        raise Lost(_why_closed(self._socket.close_code, str(message.extra or "")))


def _why_closed(code: int | None, reason: str) -> str:
    if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        return "the connection broke"
    detail = f": {printable(reason)[:200]}" if reason else ""
    return f"the node closed the connection ({code}{detail})"


# --- Connecting -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connection(node: NodeAddress, token: str) -> AsyncIterator[Socket]:
    """Open a WebSocket to the node and close it in any case. Raises Lost, RefusedByNode."""
    raw: list[sockets.socket] = []

    def make(address: tuple[Any, ...]) -> sockets.socket:
        raw.append(_made(address))
        return raw[-1]

    resolver = _Pinned(node.ip) if node.ip is not None else None
    connector = aiohttp.TCPConnector(resolver=resolver, socket_factory=make)
    bearer = {"Authorization": f"Bearer {token}"}
    session = aiohttp.ClientSession(connector=connector, headers=bearer)
    try:
        socket = await _opened(session, node)
        try:
            yield socket
        finally:
            await _briefly(socket.close())
    finally:
        for each in raw:  # unsent data would keep a dead connection open
            with contextlib.suppress(OSError):
                each.shutdown(sockets.SHUT_RDWR)
        await _briefly(session.close())


async def _briefly(closing: Awaitable[object]) -> None:
    """Wait at most CLOSE_SECONDS for the close: the worker connects to another node next."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing


async def _opened(session: aiohttp.ClientSession, node: NodeAddress) -> Socket:
    url = node.url.with_path(node.url.path.rstrip("/") + wire.PATH)
    try:
        return await session.ws_connect(
            url,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            max_msg_size=4 * MAX_MESSAGE_BYTES,  # a level always contains all running jobs
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as error:
        if error.status in _REFUSALS:
            raise RefusedByNode(await why_refused(session, url, error.status)) from None
        if error.status == _NOT_THERE:
            raise Lost(await why_refused(session, url, error.status)) from None
        raise Lost(
            f"the node answered with status {error.status}{_UNREADY.get(error.status, '')}"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise Lost(why_not(error, node.url)) from None


def _made(address: tuple[Any, ...]) -> sockets.socket:
    """Make a socket whose connection ends when the peer is silent, even while data is unsent."""
    family, kind, protocol = address[:3]
    made = sockets.socket(family, kind, protocol)
    made.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    if hasattr(sockets, "TCP_USER_TIMEOUT"):
        made.setsockopt(
            sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, int(UNKNOWN_AFTER_SECONDS * 1_000)
        )
    return made


class _Pinned(AbstractResolver):
    """Resolves a name to one of its addresses. Certificate and Host header still use the name."""

    def __init__(self, ip: str) -> None:
        self._ip = ip

    async def resolve(
        self, host: str, port: int = 0, family: sockets.AddressFamily = sockets.AF_INET
    ) -> list[ResolveResult]:
        own = sockets.AF_INET6 if ":" in self._ip else sockets.AF_INET
        flags = sockets.AI_NUMERICHOST | sockets.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=self._ip, port=port, family=own, proto=0, flags=flags)
        ]

    async def close(self) -> None:
        """Do nothing."""
