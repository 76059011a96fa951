"""A proxy like PgBouncer: a few backends for all clients, assigned for a transaction or a
session."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

Backend = tuple[asyncio.StreamReader, asyncio.StreamWriter]

STARTUP = 196_608  # protocol 3.0; requests for encryption have other numbers


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a whole message; return its type and bytes."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)


class PoolingProxy:
    def __init__(self, port: int, *, pools_transactions: bool) -> None:
        self._server_port = port
        self._pools_transactions = pools_transactions
        self._idle: list[Backend] = []
        self._all: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._session(reader, writer)
        writer.transport.abort()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        startup = await self._startup(reader, writer)
        backend, greeting = await self._connected(startup)
        writer.write(greeting)
        held: Backend | None = backend
        if self._pools_transactions:
            self._idle.append(backend)
            held = None
        while True:
            kind, said = await _message(reader)
            if kind == b"X":
                return
            if held is None:
                held = self._idle.pop() if self._idle else (await self._connected(startup))[0]
            held[1].write(said)
            while True:
                kind, answer = await _message(held[0])
                writer.write(answer)
                if kind == b"Z":
                    break
            if self._pools_transactions and answer.endswith(b"I"):
                self._idle.append(held)
                held = None

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            body = head + await reader.readexactly(length - 8)
            if code == STARTUP:
                return body
            writer.write(b"N")

    async def _connected(self, startup: bytes) -> tuple[Backend, bytes]:
        """Open a new backend; return it and its greeting with our own key, as PgBouncer does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._all.append(writer)
        writer.write(startup)
        greeting = b""
        while True:
            kind, said = await _message(reader)
            if kind == b"K":
                said = said[:5] + struct.pack("!i", 1) + said[9:]
            greeting += said
            if kind == b"Z":
                return (reader, writer), greeting

    def close(self) -> None:
        for writer in self._all:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def pooled(port: int, *, pools_transactions: bool) -> AsyncIterator[int]:
    """Run the proxy; yield its port."""
    proxy = PoolingProxy(port, pools_transactions=pools_transactions)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        proxy.close()
