"""A limit on the memory of all request bodies that are arriving, before any sender is known.

The limit counts bytes that have arrived, not bodies: with a fixed number of bodies, a few clients
that send slowly could keep all others out. When too many bytes have arrived, the body that has held
the most of them for the longest time is refused. So a client that stalls loses to one that sends.
"""

import contextlib
from collections.abc import Callable, Iterator

import attrs
from aiohttp import web

from boxsched.errors import StoreAway


@attrs.define(eq=False)
class Body:
    """A body, as far as it has arrived. ``whole``: all of it has."""

    request: web.BaseRequest
    since: float
    size: int = 0
    whole: bool = False


class Arriving:
    """``clock``: seconds that only grow."""

    def __init__(self, bytes_at_most: int, clock: Callable[[], float]) -> None:
        self._at_most = bytes_at_most
        self._clock = clock
        self._bodies: dict[Body, None] = {}
        self.size = 0

    @contextlib.contextmanager
    def body(self, request: web.BaseRequest) -> Iterator[Body]:
        """Counts until the block ends; what arrives is told by ``grow``."""
        body = Body(request, self._clock())
        self._bodies[body] = None
        try:
            yield body
        finally:
            self._drop(body)

    def grow(self, body: Body, count: int) -> None:
        """So many bytes more have arrived. Raises StoreAway if this one has to give way."""
        body.size += count
        self.size += count
        while self.size > self._at_most:
            now = self._clock()
            last = max(
                (one for one in self._bodies if not one.whole),
                key=lambda one: (one.size * (now - one.since), one.size),
            )
            self._drop(last)
            error = StoreAway("too many large bodies come at once: try again")
            if last is body:
                raise error
            _refuse(last.request, error)

    def _drop(self, body: Body) -> None:
        if body in self._bodies:
            del self._bodies[body]
            self.size -= body.size


def _refuse(request: web.BaseRequest, error: StoreAway) -> None:
    """End the reading of a body, which another task is at."""
    request.content.set_exception(error)
    request.content.feed_eof()
    request.protocol.close()  # behind the answer: what still comes belongs to no request
