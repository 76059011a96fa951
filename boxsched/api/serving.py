"""Connections: their deadlines, and the answers that are made outside of any route.

aiohttp has no deadline for headers: who sends none, or drips them, would stay for ever. It also
answers what it cannot parse, and what a route raises by mistake, with a text of its own; here both
get the contract's form. The second is the one catch-all of the service: it logs, and tells the
client no more than the id to look for.
"""

import asyncio
import logging
import secrets
from typing import Any, cast

import aiohttp
from aiohttp import http_parser, web
from aiohttp.web_protocol import RequestHandler

from boxsched.api import replies
from boxsched.api.places import NO_LIMIT, Places

log = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
KEEPALIVE_SECONDS = 30.0
LINGER_SECONDS = 5.0  # for the rest of a body that was refused
OLDEST_AIOHTTP = (3, 14, 5)  # older ones have known holes: CVE-2026-69243, CVE-2025-69223, ...


class Runner(web.AppRunner):
    """``web.AppRunner`` for this service's application."""

    def __init__(self, app: web.Application, *, places: Places = NO_LIMIT, **options: Any) -> None:
        _check_aiohttp()
        self._places = places
        options.setdefault("access_log", None)
        options.setdefault("keepalive_timeout", KEEPALIVE_SECONDS)
        options.setdefault("lingering_time", LINGER_SECONDS)
        # A compressed body could be a bomb: it is refused by its header, never unpacked.
        options.setdefault("auto_decompress", False)
        super().__init__(app, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(
            self._places,
            cast(Any, made.request_handler),
            request_factory=cast(Any, made.request_factory),
            loop=asyncio.get_running_loop(),
            **made._kwargs,
        )


class Server(web.Server):
    def __init__(self, places: Places, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places = places

    def __call__(self) -> "Connection":
        return Connection(self, self._places, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    __slots__ = ("_place", "_places")

    def __init__(self, server: Server, places: Places, **options: Any) -> None:
        super().__init__(server, **options)
        self._places = places
        self._place: str | None = None  # the address that it counts for

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request's headers have a shorter time than the pause between two requests."""
        super().connection_made(transport)
        if not self._takes_place(transport):
            cast(asyncio.Transport, transport).abort()
            return
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._next_keepalive_close_time = self._loop.time() + HEADER_SECONDS
        self._keepalive_handle = self._loop.call_at(
            self._next_keepalive_close_time, self._process_keepalive
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._places.give_back(place)
        super().connection_lost(exc)

    def _takes_place(self, transport: asyncio.BaseTransport) -> bool:
        peer = transport.get_extra_info("peername")
        if not isinstance(peer, tuple) or not self._places.counts(peer[0]):
            return True
        self._place = self._places.take(peer[0])
        return self._place is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            if not isinstance(exc, ConnectionError):
                log.error("an answer broke off: %s", request.path, exc_info=exc)
            raise ConnectionError("the answer has begun: it can only be cut")
        if status < 500:
            response = replies.error(status, "malformed", "this is not HTTP as we read it")
        else:
            response = _mistake(request, exc)
        replies.fill(response.headers)
        response.force_close()
        return response


def _mistake(request: web.BaseRequest, exc: BaseException | None) -> web.Response:
    """A mistake of ours: its traceback into the log, its id to the client."""
    id_ = secrets.token_hex(8)
    log.error("request %s: %s %r failed", id_, request.method, request.path, exc_info=exc)
    response = replies.error(500, "internal", f"a mistake of the service; its log has it as {id_}")
    response.headers["X-Request-Id"] = id_
    return response


def _check_aiohttp() -> None:
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if version < OLDEST_AIOHTTP:
        raise RuntimeError(f"aiohttp {aiohttp.__version__} is too old: 3.14.5 or newer is needed")
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError("aiohttp is installed without its C parser: install its wheel")
