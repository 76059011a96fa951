"""Answers that go on for as long as something happens: written with a deadline, cut when it ends.

A reader that does not read is cut (``deadlines``); what waits for it in this process is at most
what the transport takes (BUFFER_BYTES) and one write. A stream that ends before its time is
cut, not ended: so its reader knows that there is more, and comes back for it.
"""

import socket

from aiohttp import web

BUFFER_BYTES = 64 * 1024


class Cut(ConnectionError):
    """The stream is over before its end: the reader went, was too slow, or we have to stop."""


class Stream:
    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self.response = response

    async def open(self) -> None:
        """Send the headers; from now on an error can only cut the stream."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise Cut("the reader is gone")
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # The kernel would take 4 MiB for a reader that reads nothing.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            await self.response.prepare(self._request)
        except ConnectionError:
            raise Cut("the reader is gone") from None

    @property
    def gone(self) -> bool:
        """Whether the reader has hung up; without a write nothing else would notice."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def write(self, data: bytes) -> None:
        """Raises Cut for a reader that is gone or too slow."""
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
