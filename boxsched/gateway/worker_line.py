"""What the gateway needs of a worker's connection: a WebSocket, or long polling."""

from typing import Protocol

from aiohttp import WSCloseCode


class Slow(Exception):
    """The worker does not read what was sent: its connection is cut."""


class WorkerLine(Protocol):
    """A worker's connection, from before its Hello to its end."""

    @property
    def address(self) -> str:
        """The worker's IP address."""

    @property
    def gone(self) -> bool:
        """Whether the worker has closed the connection, as far as known without reading."""

    async def receive(self) -> str | None:
        """Return the next message, or None if the worker has gone. Raises ProtocolViolation."""

    async def send(self, texts: list[bytes]) -> None:
        """Send messages. Raises Slow, or ConnectionError if the worker has gone."""

    async def hang_up(self, code: WSCloseCode, reason: str) -> None:
        """Close the connection, or cut it if the worker does not answer."""

    def cut(self) -> None:
        """End the connection at once."""
