"""Deadlines of connections; aiohttp has none for headers, bodies and answers.

    headers   HEADER_SECONDS after the first byte of a request, or after the connect
    body      BODY_SECONDS after the end of the headers; then the request is refused (408)
    answer    the connection is cut when the client reads nothing of it for WRITE_SECONDS

The kernel also applies the last deadline (TCP_USER_TIMEOUT), to the data in its buffers. Only
connections with a deadline are checked, so that thousands of idle ones cost nothing.
"""

import asyncio
import contextlib
import socket
from typing import Protocol

from boxsched.errors import BoxschedError

HEADER_SECONDS = 10.0
BODY_SECONDS = 30.0
WRITE_SECONDS = 10.0
LOOKS_A_DEADLINE = 10  # looks during one deadline


class TooSlow(BoxschedError):
    """The body did not arrive in time."""

    code, status = "too_slow", 408


class HasDeadline(Protocol):
    def look(self, now: float) -> bool:
        """End what is overdue. Return whether there is still a deadline."""


def look_seconds() -> float:
    """Return the pause between two looks."""
    return min(HEADER_SECONDS, BODY_SECONDS, WRITE_SECONDS) / LOOKS_A_DEADLINE


def is_due(since: float, seconds: float, now: float) -> bool:
    """Whether the deadline will have passed at the next look: then it is too late to end it."""
    return now - since >= seconds - look_seconds()


class DeadlineWatch:
    """Looks at the connections that have a deadline."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[HasDeadline, None] = {}
        self._next: asyncio.TimerHandle | None = None

    def add(self, connection: HasDeadline) -> None:
        self._watched[connection] = None
        if self._next is None:
            self._next = self._loop.call_later(look_seconds(), self._look)

    def _look(self) -> None:
        self._next = None
        now = self._loop.time()
        watched, self._watched = self._watched, {}
        for connection in watched:
            if connection.look(now):
                self.add(connection)


class ReadProgress:
    """How much of an answer the client has read, and since when it has not read anything."""

    def __init__(self) -> None:
        self._mark: tuple[int, int] | None = None
        self._since = 0.0

    def stands_still(self, answer: int, taken: int, now: float) -> bool:
        """Whether the client has read nothing for WRITE_SECONDS. ``taken``: bytes read so far."""
        if self._mark != (answer, taken):
            self._mark, self._since = (answer, taken), now
        return now - self._since >= WRITE_SECONDS

    def reset(self) -> None:
        self._mark = None


def bound_kernel(transport: asyncio.BaseTransport | None, seconds: float) -> None:
    """Let the kernel cut the connection after ``seconds`` without an acknowledgement.

    0: the kernel's default, about 15 minutes.
    """
    raw = None if transport is None else transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, AttributeError):  # some systems do not support it
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1_000))
