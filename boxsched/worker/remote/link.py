"""One connection of a worker to a node, from its Hello to its end."""

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
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.refusal import why_refused
from boxsched.worker.remote.saying import Sentence, printable
from boxsched.worker.supervisor.heard import boottime

CLOSE_SECONDS = 1.0  # for the node to answer a farewell
MAX_UNANSWERED_BEATS = 64
_REFUSALS = (401, 403)  # only a person can help
_NOT_THERE = 404  # until whoever passes it on is mended
_UNREADY = dict.fromkeys(
    (502, 503, 504), ", as a node that is not ready does, or a load balancer without one"
)
_TEXTS = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)

Socket = aiohttp.ClientWebSocketResponse[Literal[False]]  # texts come as bytes


class Lost(Exception):
    """The connection has ended or could not be made: the worker is to try another node."""


class NotTaken(Exception):
    """The node refuses this worker, and will refuse it again: a person has to act."""


class NodeListener(Protocol):
    """What receives the messages of a node. Each method returns at once."""

    @property
    def problem(self) -> str | None:
        """Why no job can begin here at present; sent with each heartbeat. None: jobs can begin."""

    def told(self, level: wire.Level) -> None:
        """A level has come."""

    def heard(self, at: float) -> None:
        """A heartbeat that was sent ``at`` (``boottime``) was answered."""

    def dropped(self, stale: Sequence[tuple[int, int]]) -> None:
        """The attempts with these (job, lease token) no longer belong to this worker."""


class Link:
    """A connection: call ``greet`` first, then ``serve``, and ``say`` while ``serve`` runs."""

    def __init__(self, socket: Socket, pace: Pace, chance: random.Random) -> None:
        self._socket = socket
        self._pace = pace
        self._chance = chance
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[wire.Ack | None]] = {}
        self._beats: dict[int, float] = {}  # when they were sent
        self._over = False
        self.fixes_commits = False  # as its Welcome says

    async def greet(self, hello: wire.Hello) -> wire.Welcome:
        """Send the Hello and return the Welcome. Raises Lost, NotTaken."""
        try:
            await self._send(hello)
        except ConnectionError as error:
            raise Lost(f"it hung up: {error}") from None
        answer = await self._receive()
        if isinstance(answer, wire.Refused):
            message = printable(answer.message)
            raise Lost(message) if answer.again else NotTaken(message)
        if not isinstance(answer, wire.Welcome):
            raise Lost("it did not answer the hello")
        self._pace = self._pace.of(answer.lost_after)
        self.fixes_commits = answer.fixes_commits
        return answer

    async def serve(self, listener: NodeListener) -> None:
        """Handle messages until the node says Leave. Raises Lost.

        What was not answered by then counts as not done.
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

    async def say(self, sentence: Sentence) -> wire.Ack:
        """Send a message and return its Ack: it is durable.

        Raises StoreAway if the connection ends first.
        """
        if self._over:
            raise StoreAway("the connection to the node is gone")
        number = next(self._numbers)
        answered = self._unanswered[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(sentence(number))
            ack: wire.Ack | None = await answered
            if ack is None:
                raise StoreAway("the connection to the node was lost before it answered")
            return ack
        except ConnectionError as error:
            raise StoreAway(f"the connection to the node was lost: {error}") from None
        finally:
            del self._unanswered[number]

    # --- What is sent -----------------------------------------------------------------------

    async def _send(self, message: wire.FromWorker) -> None:
        await self._socket.send_frame(wire.encode(message), aiohttp.WSMsgType.TEXT)

    async def _beat(self, listener: NodeListener) -> None:
        """Send heartbeats until the connection ends."""
        await asyncio.sleep(self._pace.beat * self._chance.random())  # not all in one moment
        while True:
            number = next(self._numbers)
            self._beats[number] = boottime()  # before it is sent: the lease counts from here
            if len(self._beats) > MAX_UNANSWERED_BEATS:
                del self._beats[next(iter(self._beats))]
            try:
                await self._send(wire.Beat(number, listener.problem))
            except ConnectionError:
                return
            await asyncio.sleep(self._pace.beat)

    # --- What is heard ----------------------------------------------------------------------

    async def _listen(self, listener: NodeListener) -> None:
        loop = asyncio.get_running_loop()
        silence = self._pace.silence
        try:
            async with asyncio.timeout(silence) as patience:
                while not isinstance(message := await self._receive(), wire.Leave):
                    patience.reschedule(loop.time() + silence)
                    self._take(message, listener)
        except TimeoutError:
            raise Lost(f"nothing was heard for {silence:g} s") from None

    def _take(self, message: wire.FromNode, listener: NodeListener) -> None:
        match message:
            case wire.Level():
                listener.told(message)
            case wire.Ack():
                if (sent := self._beats.pop(message.number, None)) is not None:
                    listener.heard(sent)
                if message.stale:  # before whoever said it goes on
                    listener.dropped(message.stale)
                answered = self._unanswered.get(message.number)
                if answered is not None and not answered.done():
                    answered.set_result(message)
            case wire.Refused():
                raise Lost(printable(message.message))
            case _:
                raise Lost("it said something out of turn")

    async def _receive(self) -> wire.FromNode:
        """Return the node's next message. Raises Lost."""
        message = await self._socket.receive()
        if message.type in _TEXTS:
            try:
                said: wire.FromNode = wire.from_node.decode(message.data)
            except msgspec.DecodeError as error:
                raise Lost(f"it said what this worker does not understand: {error}") from None
            return said
        if message.type is aiohttp.WSMsgType.ERROR:
            raise Lost(f"the connection broke: {message.data}")
        raise Lost(_why_closed(self._socket.close_code, str(message.extra or "")))


def _why_closed(code: int | None, reason: str) -> str:
    if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        return "the connection broke"
    return f"it hung up ({code}{': ' + printable(reason)[:200] if reason else ''})"


# --- Connecting -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connection(node: NodeAddress, token: str) -> AsyncIterator[Socket]:
    """Open a WebSocket to the node; it is closed at the end in any case. Raises Lost, NotTaken."""
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
            await _within_reason(socket.close())
    finally:
        for each in raw:  # else what was not sent yet keeps a dead connection open
            with contextlib.suppress(OSError):
                each.shutdown(sockets.SHUT_RDWR)
        await _within_reason(session.close())


async def _within_reason(closing: Awaitable[object]) -> None:
    """Close politely, but do not wait long: the worker has to go on to another node."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing


async def _opened(session: aiohttp.ClientSession, node: NodeAddress) -> Socket:
    door = node.url.with_path(node.url.path.rstrip("/") + wire.PATH)
    try:
        return await session.ws_connect(
            door,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            max_msg_size=4 * MAX_MESSAGE_BYTES,  # what is running is never left out of a level
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as error:
        if error.status in _REFUSALS:
            raise NotTaken(await why_refused(session, door, error.status)) from None
        if error.status == _NOT_THERE:
            raise Lost(await why_refused(session, door, error.status)) from None
        raise Lost(
            f"it answered with status {error.status}{_UNREADY.get(error.status, '')}"
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
        """Nothing was opened."""
