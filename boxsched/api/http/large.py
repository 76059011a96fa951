"""Requests with large bodies: a limited number at a time, from all clients together.

A body of 1 MiB takes several times that while it is read, checked and stored. The others wait
before theirs is read, so that they cost nothing: meanwhile the connection takes no more from its
sender.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from boxsched.errors import StoreAway

LARGE_BYTES = 64 * 1024
AT_ONCE = 16
PATIENCE_SECONDS = 30.0


class LargeBodies:
    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._places = asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """While the request is answered, if it has, or may have, a large body; raises StoreAway."""
        if not request.can_read_body or (request.content_length or LARGE_BYTES) < LARGE_BYTES:
            yield
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise StoreAway("too many large bodies come at once: try again") from None
        try:
            yield
        finally:
            self._places.release()
