"""A TLS proxy before a PostgreSQL that was built without TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

_TLS_ASKED = 80877103  # the protocol's SSLRequest
_GSS_ASKED = 80877104


class TlsProxy:
    """``versions`` are the TLS versions of accepted sessions; sessions without TLS are refused."""

    def __init__(self, certificate: Path, backend: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._backend = backend
        self.versions: list[str | None] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["TlsProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (asked := await self._asked(reader)) == _GSS_ASKED:
                writer.write(b"N")
            if asked != _TLS_ASKED:
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            self.versions.append(writer.get_extra_info("ssl_object").version())
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def _asked(self, reader: asyncio.StreamReader) -> int:
        return int.from_bytes((await reader.readexactly(8))[4:])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._backend)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, forth))
                both.create_task(_copy(back, writer))
        finally:
            forth.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
