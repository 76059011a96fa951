"""A server whose answers the test decides."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """Answers requests with the next line of its script; the last one is repeated forever."""

    def __init__(self) -> None:
        self.part: list[Answer] = []
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(
            (request.method, request.path_qs, dict(request.headers), await request.read())
        )
        line = self.part.pop(0) if len(self.part) > 1 else self.part[0]
        return await line(request)


@pytest.fixture
async def service():
    played = ScriptedServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", played.answer)
    server = TestServer(app)
    await server.start_server()
    played.url = str(server.make_url("")).rstrip("/")
    yield played
    await server.close()
