"""Limit how many requests with large bodies are handled at a time, from all clients together.

A body of 1 MiB takes several times as much memory while it is read, checked and stored. Further
requests wait before their bodies are read; meanwhile their connections accept no more data.
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
    def __init__(self, at_once: int = AT_ONCE, large_bytes: int = LARGE_BYTES) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._large_bytes = large_bytes

    @contextlib.asynccontextmanager
    async def turn(self, request: web.Request) -> AsyncIterator[None]:
        """Hold a place while the request is answered, if its body is large or of unknown size.

        Raises StoreAway if no place is free for too long.
        """
        large = self._large_bytes
        if not request.can_read_body or (request.content_length or large) < large:
            yield
            return
        async with self.always():
            yield

    @contextlib.asynccontextmanager
    async def always(self) -> AsyncIterator[None]:
        """Hold a place for a body of any announced size. Raises StoreAway as ``turn`` does."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise StoreAway("too many large requests at the same time: try again") from None
        try:
            yield
        finally:
            self._places.release()
