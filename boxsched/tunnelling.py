"""Carry the bytes of an SSH connection over WebSockets: each binary message is a part of them.
Where a proxy refuses WebSockets, the bodies of requests and answers carry such messages.

A sender waits until its peer takes what was sent, so a slow reader slows down the other end, and
little is kept on the way. The tunnel ends when one side ends; what was sent before arrives.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType

CHUNK_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 256 << 10
# Each side pings, whatever it receives: its own data may delay its answers to the other's pings.
# Load balancers, too, cut connections without traffic.
PING_SECONDS = 10.0
# After that long without a byte from the other side, the WebSocket asks it for an answer, and ends
# ANSWER_PART of it later.
HEARTBEAT_SECONDS = 30.0
ANSWER_PART = 0.5  # aiohttp's
# Earlier versions ping every 25 s.
assert HEARTBEAT_SECONDS > 25.0 > PING_SECONDS
UNSENT_SECONDS = 120  # the kernel keeps data that the other side does not take
CLOSE_SECONDS = 2.0
MAX_REASON_BYTES = 120  # of a close frame

BROKE = "the connection broke"

_LENGTH = struct.Struct("!I")  # before each message in a body


class Broken(ConnectionError):
    """The tunnel has ended, but neither end of it has closed it; the message says why."""


class TunnelSocket(Protocol):
    """A WebSocket of a server or a client."""

    async def receive(self) -> WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def ping(self) -> None: ...

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> Any: ...


async def join_socket(
    tunnel: TunnelSocket, plain: socket.socket, *, cancelled: str | None = None
) -> str | None:
    """Carry bytes between the tunnel and a non-blocking socket until one ends; close both.

    Return why the tunnel was lost; None if an end closed it. ``cancelled``: why it is lost if the
    caller is cancelled.
    """
    why = cancelled
    loop = asyncio.get_running_loop()

    async def out() -> None:
        while data := await read():
            await tunnel.send_bytes(data)

    async def read() -> bytes:
        with contextlib.suppress(OSError):  # its end, too
            return await loop.sock_recv(plain, CHUNK_BYTES)
        return b""

    async def back() -> None:
        while (data := await received(tunnel)) is not None:
            try:
                await loop.sock_sendall(plain, data)
            except OSError:
                return

    try:
        why = await until_one_ends(out(), back(), keep_alive(tunnel))
    finally:
        plain.close()
        await close(tunnel, why)
    return why


async def join_tunnels(
    user: TunnelSocket,
    further: TunnelSocket,
    *works: Coroutine[Any, Any, None],
    to: str,
    cancelled: str | None = None,
) -> None:
    """Carry bytes between a user's tunnel and the further one until one ends; close both.

    ``works`` run meanwhile, and end it when they end. ``to``: where the further one leads; the user
    learns why it was lost. ``cancelled``: as for ``join_socket``.
    """

    async def out() -> None:
        while (data := await received(user)) is not None:
            await further.send_bytes(data)

    async def back() -> None:
        try:
            while (data := await received(further)) is not None:
                await user.send_bytes(data)
        except Broken as error:
            reason = f"{BROKE} between the service and {to}" if str(error) == BROKE else error
            raise Broken(str(reason)) from None

    why = cancelled
    try:
        why = await until_one_ends(out(), back(), keep_alive(user), keep_alive(further), *works)
    finally:
        await asyncio.gather(close(user, why), close(further, why))


async def received(tunnel: TunnelSocket) -> bytes | None:
    """Return the next bytes; None if the other side has closed the tunnel. Raises Broken."""
    message = await tunnel.receive()
    match message.type:
        case WSMsgType.BINARY:
            data: bytes = message.data
            return data
        case WSMsgType.CLOSE if message.data in (WSCloseCode.OK, None):
            return None
        case WSMsgType.CLOSE:
            raise Broken(message.extra or f"it was closed with code {message.data}")
        case WSMsgType.CLOSING:  # by this side
            return None
        case WSMsgType.ERROR if isinstance(message.data, TimeoutError):
            raise Broken(f"no answer for {(1 + ANSWER_PART) * HEARTBEAT_SECONDS:g} s")
        case _:
            raise Broken(BROKE)


async def keep_alive(tunnel: TunnelSocket) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await tunnel.ping()


async def until_one_ends(*works: Coroutine[Any, Any, None]) -> str | None:
    """Run all until one returns or finds its connection lost; then cancel the others.

    Return why the tunnel was lost; None if an end closed it.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    why: str | None = None
    for task in done:
        try:
            task.result()
        except Broken as error:
            why = str(error)
        except OSError:
            why = why or BROKE
    return why


async def close(tunnel: TunnelSocket, why: str | None = None) -> None:
    """Close it. ``why``: it was lost; the other side learns the reason."""
    code = WSCloseCode.OK if why is None else WSCloseCode.INTERNAL_ERROR
    message = (why or "").encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await tunnel.close(code=code, message=message)


def packed(messages: Iterable[bytes]) -> bytes:
    """Return a body with these messages."""
    return b"".join(part for one in messages for part in (_LENGTH.pack(len(one)), one))


def unpacked(body: bytes) -> list[bytes]:
    """Return the messages of a body. Raises ValueError if it is malformed."""
    found: list[bytes] = []
    at = 0
    while at < len(body):
        begin = at + _LENGTH.size
        if begin > len(body):
            raise ValueError("a length is cut off")
        (length,) = _LENGTH.unpack_from(body, at)
        at = begin + length
        if at > len(body):
            raise ValueError("a message is cut off")
        found.append(body[begin:at])
    return found


def bound_silence(raw: socket.socket | None) -> None:
    """Let the kernel cut the connection of a peer that is gone, but not of one that is slow.

    It also ends one that the heartbeat has given up, but that has unsent data.
    """
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, AttributeError):  # some systems do not support it
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_SECONDS * 1_000)
