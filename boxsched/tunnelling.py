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

from aiohttp import WSMessage, WSMsgType

CHUNK_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 256 << 10
# Load balancers cut connections without traffic. A peer that is suspended need not answer.
PING_SECONDS = 25.0
SILENCE_SECONDS = 600  # without an acknowledgement, after which the kernel cuts a connection
CLOSE_SECONDS = 2.0

_LENGTH = struct.Struct("!I")  # before each message in a body


class TunnelSocket(Protocol):
    """A WebSocket of a server or a client."""

    async def receive(self) -> WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> Any: ...


async def join_socket(tunnel: TunnelSocket, plain: socket.socket) -> None:
    """Carry bytes between the tunnel and a non-blocking socket until one ends; close both."""
    loop = asyncio.get_running_loop()

    async def out() -> None:
        while data := await loop.sock_recv(plain, CHUNK_BYTES):
            await tunnel.send_bytes(data)

    async def back() -> None:
        while (data := await received(tunnel)) is not None:
            await loop.sock_sendall(plain, data)

    try:
        await until_one_ends(out(), back(), keep_alive(tunnel))
    finally:
        plain.close()
        await close(tunnel)


async def join_tunnels(
    one: TunnelSocket, other: TunnelSocket, ended: asyncio.Event | None = None
) -> None:
    """Carry bytes between two tunnels until one ends, or until ``ended`` is set; close both."""

    async def carry(source: TunnelSocket, target: TunnelSocket) -> None:
        while (data := await received(source)) is not None:
            await target.send_bytes(data)

    async def end() -> None:
        await (ended or asyncio.Event()).wait()

    try:
        await until_one_ends(
            carry(one, other), carry(other, one), keep_alive(one), keep_alive(other), end()
        )
    finally:
        await asyncio.gather(close(one), close(other))


async def received(tunnel: TunnelSocket) -> bytes | None:
    """Return the next bytes; None at the end of the tunnel."""
    message = await tunnel.receive()
    return message.data if message.type is WSMsgType.BINARY else None


async def keep_alive(tunnel: TunnelSocket) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await tunnel.ping()


async def until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until one returns or finds its connection closed; then cancel the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        with contextlib.suppress(OSError):  # the connection was lost
            task.result()


async def close(tunnel: TunnelSocket) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await tunnel.close()


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
    """Let the kernel cut the connection of a peer that is gone, but not of one that is slow."""
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, AttributeError):  # some systems do not support it
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1_000)
