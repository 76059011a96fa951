"""Answers without a fixed end, such as event streams and followed logs.

A client that does not read is cut off (``deadlines``). For each client, at most the transport's
buffer (BUFFER_BYTES) and one write are kept in memory. A stream that stops before its end is cut,
not ended properly. So its reader knows that there is more, and connects again. The guard does this
for an error that a handler raises after ``open``: an answer to it would become part of the data.
"""

import socket

from aiohttp import web

BUFFER_BYTES = 64 * 1024


class Cut(ConnectionError):
    """The stream stops before its end: the reader left, was too slow, or the service stops."""


class Stream:
    """An answer in pieces; after ``open`` the request has it as OPENED."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self.response = response

    async def open(self) -> None:
        """Send the headers. After this an error can only cut the stream."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise Cut("the reader is gone")
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # By default the kernel would buffer 4 MiB for a client that reads nothing.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            await self.response.prepare(self._request)
            self._request[OPENED] = self
        except ConnectionError:
            raise Cut("the reader is gone") from None

    @property
    def gone(self) -> bool:
        """Whether the client has closed the connection. Without a write nothing else notices it."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def write(self, data: bytes) -> None:
        """Write to the reader. Raises Cut if it is gone or too slow."""
        try:
            await self.response.write(data)
        except ConnectionError:
            raise Cut("the reader is gone") from None
        if self.gone:
            raise Cut("the reader is gone, or did not read")

    def cut(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()


OPENED = web.RequestKey("opened", Stream)
