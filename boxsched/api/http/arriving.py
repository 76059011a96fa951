"""Limit the memory of all request bodies that are being received from unknown senders.

The limit counts received bytes, not bodies: with a limit on bodies, a few clients that send slowly
could exclude all others. When too many bytes have been received, the body with the largest product
of size and age is refused. So a client that stalls is refused before one that sends.
"""

import contextlib
from collections.abc import Callable, Iterator

import attrs
from aiohttp import web

from boxsched.errors import StoreAway


@attrs.define(eq=False)
class Body:
    """A body that is being received. ``whole``: all of it was received."""

    request: web.BaseRequest
    since: float
    size: int = 0
    whole: bool = False


class ArrivingBodies:
    """The bodies that are being received. ``clock`` returns monotonic seconds."""

    def __init__(self, bytes_at_most: int, clock: Callable[[], float]) -> None:
        self._at_most = bytes_at_most
        self._clock = clock
        self._bodies: dict[Body, None] = {}
        self.size = 0

    @contextlib.contextmanager
    def body(self, request: web.BaseRequest) -> Iterator[Body]:
        """Count a body during the ``with`` block. Call ``grow`` for each piece that arrives."""
        body = Body(request, self._clock())
        self._bodies[body] = None
        try:
            yield body
        finally:
            self._drop(body)

    def grow(self, body: Body, count: int) -> None:
        """Count more received bytes.

        Raises StoreAway if this body is refused for lack of memory.
        """
        body.size += count
        self.size += count
        while self.size > self._at_most:
            now = self._clock()
            last = max(
                (one for one in self._bodies if not one.whole),
                key=lambda one: (one.size * (now - one.since), one.size),
            )
            self._drop(last)
            error = StoreAway("too many large bodies at the same time: try again")
            if last is body:
                raise error
            _refuse(last.request, error)

    def _drop(self, body: Body) -> None:
        if body in self._bodies:
            del self._bodies[body]
            self.size -= body.size


def _refuse(request: web.BaseRequest, error: StoreAway) -> None:
    """Refuse a body that another task is reading."""
    request.content.set_exception(error)
    request.content.feed_eof()
    request.protocol.close()  # after the answer: later data belongs to no request
