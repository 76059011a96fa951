"""Long answers (event streams, followed logs, workers) end when their token becomes invalid.

A request is checked only when it begins, so a stream could continue forever after its token was
revoked. So one task checks the tokens of all long answers together, and cuts the invalid ones.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from aiohttp import web

from boxsched.api.auth.known_tokens import KnownTokens

TOKENS_LOOK_SECONDS = 0.5  # including the query's time, a revoked token ends within a second


class Lasting:
    def __init__(self, tokens: KnownTokens) -> None:
        self._tokens = tokens
        self._open: dict[int, tuple[web.Request, str]] = {}  # by id(): a request has no hash
        self._opened = asyncio.Event()

    @contextlib.contextmanager
    def watched(self, request: web.Request, sha256: str) -> Iterator[None]:
        """Watch the answer during the ``with`` block. ``sha256``: the sum of its token."""
        self._open[id(request)] = request, sha256
        self._opened.set()
        try:
            yield
        finally:
            del self._open[id(request)]

    async def run(self) -> None:
        """Check the tokens until cancelled. Without open answers nothing is queried."""
        while True:
            await self._opened.wait()
            await asyncio.sleep(TOKENS_LOOK_SECONDS)
            await self.run_once()
            if not self._open:
                self._opened.clear()

    async def run_once(self) -> int:
        """Cut the answers whose tokens are no longer valid; return their number."""
        watched = list(self._open.values())
        if not watched:
            return 0
        holding = await self._tokens.still_valid({sha256 for _, sha256 in watched})
        lost = [request for request, sha256 in watched if sha256 not in holding]
        for request in lost:
            if request.transport is not None:
                request.transport.abort()
        return len(lost)
