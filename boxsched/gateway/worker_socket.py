"""A WebSocket for the gateway: text messages, deadlines, and an end within a known time."""

import asyncio
import socket as sockets

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from boxsched.gateway.figures import Times
from boxsched.gateway.received import ProtocolViolation
from boxsched.gateway.worker_line import Slow
from boxsched.protocol.wire import MAX_WORKER_MESSAGE_BYTES

BUFFER_BYTES = 64 << 10
KERNEL_BUFFER_BYTES = 256 << 10


class WorkerSocket:
    """A ``WorkerLine`` over a WebSocket; call ``open`` first."""

    def __init__(self, request: web.Request, times: Times) -> None:
        self.address = request.remote or ""
        self._request = request
        self._times = times
        self.response = web.WebSocketResponse(
            timeout=times.hang_up, compress=False, max_msg_size=MAX_WORKER_MESSAGE_BYTES
        )

    async def open(self) -> None:
        """Answer the upgrade. Raises aiohttp's error if the request is not for a WebSocket."""
        transport = self._request.transport
        if transport is not None:
            # By default the kernel would buffer 4 MiB for a worker that reads nothing.
            transport.set_write_buffer_limits(high=BUFFER_BYTES)
            raw = transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        await self.response.prepare(self._request)

    @property
    def gone(self) -> bool:
        """Whether the other side has closed the connection, as far as known without reading."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def receive(self) -> str | None:
        """Return the next text, or None if the other side has gone. Raises ProtocolViolation."""
        message: WSMessage = await self.response.receive()
        if message.type is WSMsgType.TEXT:
            return str(message.data)
        if message.type is WSMsgType.BINARY:
            raise ProtocolViolation("binary", "messages must be text, not binary")
        if isinstance(message.data, WebSocketError):  # aiohttp has closed it already
            too_large = message.data.code == WSCloseCode.MESSAGE_TOO_BIG
            raise ProtocolViolation("too_large" if too_large else "broken", str(message.data))
        return None

    async def send(self, texts: list[bytes]) -> None:
        """Send the texts. Raises Slow, or ConnectionError if the other side has gone."""
        try:
            async with asyncio.timeout(self._times.write):
                for text in texts:
                    await self.response.send_frame(text, WSMsgType.TEXT)
        except TimeoutError:
            raise Slow(f"it read nothing for {self._times.write:g} s") from None

    async def hang_up(self, code: WSCloseCode, reason: str) -> None:
        """Close it, or cut it if the other side does not answer."""
        try:
            async with asyncio.timeout(2 * self._times.hang_up):
                await self.response.close(code=code, message=reason.encode())
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()
