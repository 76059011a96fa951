"""Open a connection to a node: a WebSocket, or long polling where a proxy refuses those."""

import asyncio
import contextlib
import logging
import socket as sockets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from boxsched import tunnelling
from boxsched.protocol import wire
from boxsched.protocol.timing import UNKNOWN_AFTER_SECONDS
from boxsched.protocol.wire import MAX_MESSAGE_BYTES
from boxsched.reaching import why_not
from boxsched.worker.remote.discovery import NodeAddress
from boxsched.worker.remote.link import Lost, NothingListens, RefusedByNode, Socket
from boxsched.worker.remote.polled_socket import PolledTunnelSocket, open_polled
from boxsched.worker.remote.refusal import why_refused

CLOSE_SECONDS = 1.0  # how long to wait for the node's close frame
_REFUSALS = (401, 403)  # permanent until the operator acts
_NOT_THERE = 404  # perhaps only until a load balancer is repaired
_UNREADY = dict.fromkeys(
    (502, 503, 504), ": the node is not ready, or the load balancer has no node that is ready"
)

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def connection(
    node: NodeAddress,
    token: str,
    *,
    polls_first: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Socket]:
    """Open a connection to the node and close it in any case. Raises Lost, RefusedByNode.

    It is a WebSocket, or long polling where a proxy refuses WebSockets. ``polls_first``: try long
    polling first, since a WebSocket got no answer. ``tls``: None: as this machine trusts.
    """
    async with _session(node, token, tls) as session:
        socket = await _opened(session, node, polls_first=polls_first)
        try:
            yield socket
        finally:
            await _briefly(socket.close())


@contextlib.asynccontextmanager
async def tunnel_connection(
    node: NodeAddress,
    token: str,
    name: str,
    *,
    polls: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tunnelling.TunnelSocket]:
    """Open the tunnel that the node asked for, and close it in any case. Raises Lost.

    ``polls``: by long polling, which begins with the first message.
    """
    url = node.url.with_path(f"{node.url.path.rstrip('/')}{wire.TUNNELS}/{name}")
    async with _session(node, token, tls) as session:
        if polls:
            polled = PolledTunnelSocket(session, url / "polls")
            try:
                yield polled
            finally:
                await tunnelling.close(polled)
            return
        try:
            tunnel = await session.ws_connect(
                url,
                max_msg_size=tunnelling.MAX_MESSAGE_BYTES,
                heartbeat=tunnelling.HEARTBEAT_SECONDS,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(why_not(error, node.url)) from None
        try:
            tunnelling.bound_silence(tunnel.get_extra_info("socket"))
            yield tunnel
        finally:
            await _briefly(tunnel.close())


@contextlib.asynccontextmanager
async def _session(
    node: NodeAddress, token: str, tls: ssl.SSLContext | None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Make a session for one connection; close its socket in any case."""
    raw: list[sockets.socket] = []

    def make(address: tuple[Any, ...]) -> sockets.socket:
        raw.append(_made(address))
        return raw[-1]

    connector = node_connector(node, tls, make)
    bearer = {"Authorization": f"Bearer {token}"}
    session = aiohttp.ClientSession(connector=connector, headers=bearer)
    try:
        yield session
    finally:
        for each in raw:  # unsent data would keep a dead connection open
            with contextlib.suppress(OSError):
                each.shutdown(sockets.SHUT_RDWR)
        await _briefly(session.close())


def node_connector(
    node: NodeAddress,
    tls: ssl.SSLContext | None,
    make: Callable[[tuple[Any, ...]], sockets.socket] | None = None,
) -> aiohttp.TCPConnector:
    """Return a connector that reaches this node, at its own address. ``make``: makes sockets."""
    resolver = _Pinned(node.ip) if node.ip is not None else None
    return aiohttp.TCPConnector(
        resolver=resolver, socket_factory=make or _made, ssl=True if tls is None else tls
    )


async def _briefly(closing: Awaitable[object]) -> None:
    """Wait at most CLOSE_SECONDS for the close: the worker connects to another node next."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing


async def _opened(
    session: aiohttp.ClientSession, node: NodeAddress, *, polls_first: bool
) -> Socket:
    if polls_first and (polled := await open_polled(session, node.url)) is not None:
        _log.info("%s: WebSockets get no answer there; using long polling", node)
        return polled
    try:
        return await _web_socket(session, node)
    except _NoWebSocket as refusal:
        polled = await open_polled(session, node.url)
        if polled is None:
            raise refusal.reason from None
        _log.info("%s: no WebSocket (%s); using long polling", node, refusal.reason)
        return polled


class _NoWebSocket(Exception):
    """The server answered, but not with a WebSocket. ``reason``: what that means to a worker."""

    def __init__(self, reason: Lost | RefusedByNode) -> None:
        super().__init__(str(reason))
        self.reason = reason


async def _web_socket(session: aiohttp.ClientSession, node: NodeAddress) -> Socket:
    """Open a WebSocket. Raises Lost if the node is not reached, and _NoWebSocket."""
    url = node.url.with_path(node.url.path.rstrip("/") + wire.PATH)
    try:
        opened = await session.ws_connect(
            url,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            max_msg_size=4 * MAX_MESSAGE_BYTES,  # a level always contains all running jobs
            decode_text=False,
        )
        return cast(Socket, opened)  # aiohttp types its messages more narrowly
    except aiohttp.WSServerHandshakeError as error:
        if error.status in _REFUSALS:
            why = await why_refused(session, url, error.status)
            raise _NoWebSocket(RefusedByNode(why)) from None
        if error.status == _NOT_THERE:
            raise _NoWebSocket(Lost(await why_refused(session, url, error.status))) from None
        unready = _UNREADY.get(error.status, "")
        raise _NoWebSocket(Lost(f"the node answered with status {error.status}{unready}")) from None
    except aiohttp.ClientConnectorError as error:
        nothing_listens = isinstance(error.os_error, ConnectionRefusedError)
        kind = NothingListens if nothing_listens else Lost
        raise kind(why_not(error, node.url)) from None
    except (aiohttp.ClientError, OSError) as error:  # a proxy may close the connection
        raise _NoWebSocket(Lost(why_not(error, node.url))) from None


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
