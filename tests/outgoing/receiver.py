"""A receiver on its own port that records requests and gives the configured answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
from aiohttp import web


@attrs.frozen
class RecordedRequest:
    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """``status``, ``headers`` and ``text``: of its next answers.

    While ``gate`` is not set it hangs.
    """

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self.text = "ok"
        self.got: list[RecordedRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self._news = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, status: int = 200) -> AsyncIterator["Receiver"]:
        receiver = cls(status)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield receiver
        finally:
            receiver.gate.set()
            await runner.cleanup()

    async def until(self, count: int, seconds: float = 20.0) -> list[RecordedRequest]:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def _answer(self, request: web.Request) -> web.Response:
        got = RecordedRequest(request.path, dict(request.headers), await request.read())
        async with self._news:
            self.got.append(got)
            self._news.notify_all()
        await self.gate.wait()
        return web.Response(status=self.status, headers=self.headers, text=self.text)


def json_of(got: RecordedRequest) -> Any:
    import json

    return json.loads(got.body)
