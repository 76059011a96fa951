"""An HTTP proxy that does not let WebSockets through, before one node or several."""

import asyncio
import contextlib
import enum
import itertools
from collections.abc import AsyncIterator, Iterator

import aiohttp
from aiohttp import web

HOP_BY_HOP = frozenset(
    {"connection", "upgrade", "transfer-encoding", "content-length", "keep-alive", "te", "trailer"}
)


class Refusal(enum.Enum):
    """What the proxy does with a request for a WebSocket."""

    STRIP = "it removes the Upgrade header, as nginx does by default"
    STATUS = "it answers with a page of its own"
    FORBID = "it answers 403 with a page of its own"
    RESET = "it closes the connection"
    SWALLOW = "it never answers"


class HttpProxy:
    """``lose``: of how many further requests the node's answer is lost."""

    def __init__(self, nodes: list[str], refusal: Refusal) -> None:
        self.lose = 0
        self.requests: list[str] = []
        self.url = ""
        self._nodes: Iterator[str] = itertools.cycle(nodes)
        self._refusal = refusal
        self._client = aiohttp.ClientSession(auto_decompress=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        upgraded = "Upgrade" in request.headers
        if upgraded and self._refusal is not Refusal.STRIP:
            return await self._refuse(request)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
        }
        body = await request.read()
        url = next(self._nodes) + request.raw_path
        async with self._client.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            said = await answer.read()
        if self.lose:
            self.lose -= 1
            assert request.transport is not None
            request.transport.abort()
        kept = {
            name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP
        }
        return web.Response(status=answer.status, body=said, headers=kept)

    async def _refuse(self, request: web.Request) -> web.StreamResponse:
        match self._refusal:
            case Refusal.STATUS:
                return web.Response(status=501, text="<html>not implemented</html>")
            case Refusal.FORBID:
                return web.Response(status=403, text="<html>not allowed</html>")
            case Refusal.RESET:
                assert request.transport is not None
                request.transport.abort()
        await asyncio.Event().wait()
        raise AssertionError("not reached")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, nodes: list[str], refusal: Refusal) -> AsyncIterator["HttpProxy"]:
        proxy = cls(nodes, refusal)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
            await proxy._client.close()
