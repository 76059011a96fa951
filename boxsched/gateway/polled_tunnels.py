"""A worker's tunnel over long polling, where a proxy refuses WebSockets.

The requests are those of a worker's connection (``long_polls``), with bytes in place of texts
(``tunnelling.packed``). The worker opens the tunnel with its first request. An empty message says
only that the worker is alive. The limits of a tunnel make the faster side wait for the slower one.
"""

import attrs
from aiohttp import WSCloseCode, WSMessage, WSMsgType

from boxsched import tunnelling
from boxsched.gateway.figures import Times
from boxsched.gateway.long_polls import PolledLine
from boxsched.gateway.worker_line import Slow

WINDOW_BYTES = 256 << 10  # kept of each direction, and one message more
# A worker with nothing to ask for sends an empty message every PING_SECONDS.
SILENT_SECONDS = 60.0
assert SILENT_SECONDS > 2 * tunnelling.PING_SECONDS


class PolledTunnel:
    """A ``TunnelSocket`` over separate requests, which call the methods of ``line``."""

    def __init__(self, address: str, token: str, times: Times) -> None:
        self.line: PolledLine[bytes] = PolledLine(
            address,
            token,
            # A slow reader is waited for, as in a tunnel that is a WebSocket.
            attrs.evolve(times, silence=SILENT_SECONDS, write=float(tunnelling.UNSENT_SECONDS)),
            waiting=WINDOW_BYTES,
            unread=WINDOW_BYTES,
        )

    async def receive(self) -> WSMessage:
        data = await self.line.receive()
        if data is None and self.line.silent:
            return WSMessage(WSMsgType.CLOSED, None, None)
        if data is None:
            return WSMessage(WSMsgType.CLOSE, WSCloseCode.OK, None)
        return WSMessage(WSMsgType.BINARY, data, None)

    async def send_bytes(self, data: bytes) -> None:
        try:
            await self.line.send([data])
        except Slow as error:
            raise ConnectionResetError(str(error)) from None

    async def ping(self) -> None:
        """Do nothing: the worker's requests keep its connections alive."""

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> None:
        """Let the worker fetch what was sent, if it does so soon."""
        await self.line.hang_up(WSCloseCode(code), message.decode() or "closed")

    def release(self) -> None:
        """End it for good."""
        self.line.cut()
        self.line.close()
