"""A TCP proxy before PostgreSQL that cuts, swallows or holds data when a given word passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class CuttingProxy:
    """Passes everything on until told otherwise."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        # when a client sends this word, before it is passed on
        self.cut_before: bytes | None = None
        # when a client sends it, after the server has carried it out
        self.cut_after: bytes | None = None
        self.silent = False  # nothing more is passed on, and both sides stay connected

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, there}
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as group:
                answered = asyncio.Event()
                group.create_task(self._up(reader, there, writer, answered))
                group.create_task(self._down(there_reader, writer, answered))
        for each in (writer, there):
            each.transport.abort()
        self._writers -= {writer, there}

    async def _up(
        self,
        reader: asyncio.StreamReader,
        there: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        answered: asyncio.Event,
    ) -> None:
        while said := await reader.read(1 << 16):
            if self.silent:
                continue
            if self.cut_before is not None and self.cut_before in said:
                client.transport.abort()
                break
            cutting = self.cut_after is not None and self.cut_after in said
            answered.clear()
            there.write(said)
            if cutting:
                client.transport.abort()  # the answer reaches nobody
                await answered.wait()
                break
        there.close()

    async def _down(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        while said := await reader.read(1 << 16):
            answered.set()
            if not self.silent:
                client.write(said)
        client.close()


@contextlib.asynccontextmanager
async def proxied(port: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
