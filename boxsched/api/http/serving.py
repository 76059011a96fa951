"""Connections: their deadlines (see ``deadlines``), and answers that no route makes.

These are answers to data that aiohttp cannot parse, to requests that it refuses before any
middleware, and to unexpected exceptions of routes. All get the format of docs/api.md, "Errors".
Unexpected exceptions are logged with an id; the client gets only the id.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
from aiohttp import ClientConnectionResetError, StreamReader, http_parser, web
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from boxsched.api.http import deadlines, replies
from boxsched.api.http.connection_limits import NO_LIMIT, ConnectionLimits
from boxsched.api.http.deadlines import DeadlineWatch

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEEPALIVE_SECONDS = 30.0
LINGER_SECONDS = 5.0  # how long the rest of a refused body is read
OLDEST_AIOHTTP = (3, 14, 5)  # older ones are vulnerable: CVE-2026-69243, CVE-2025-69223, ...


class Runner(web.AppRunner):
    """``web.AppRunner`` for this service's application."""

    def __init__(
        self, app: web.Application, *, places: ConnectionLimits = NO_LIMIT, **options: Any
    ) -> None:
        _check_aiohttp()
        self._places = places
        options.setdefault("access_log", None)
        options.setdefault("keepalive_timeout", KEEPALIVE_SECONDS)
        options.setdefault("lingering_time", LINGER_SECONDS)
        # Compressed bodies are refused by their header, never unpacked: they could be huge.
        options.setdefault("auto_decompress", False)
        super().__init__(app, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler = cast(Handler, made.request_handler)

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                return replies.refused(error)

        return HttpServer(
            self._places,
            cast(Any, handle),
            request_factory=cast(Any, made.request_factory),
            loop=asyncio.get_running_loop(),
            **made._kwargs,
        )


class HttpServer(web.Server):
    def __init__(self, places: ConnectionLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places = places
        self._watch = DeadlineWatch(self._loop)

    def __call__(self) -> "HttpConnection":
        return HttpConnection(self, self._places, self._watch, loop=self._loop, **self._kwargs)


class HttpConnection(RequestHandler):
    """``known``: whether a valid token was sent on it."""

    __slots__ = (
        "_answer_taken",
        "_body",
        "_body_since",
        "_headers_since",
        "_looks",
        "_place",
        "_places",
        "_watch",
        "_wire",
        "known",
    )

    def __init__(
        self, server: HttpServer, places: ConnectionLimits, watch: DeadlineWatch, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._places = places
        self._watch = watch
        self._place: str | None = None  # the key of its address in the connection limits
        self._wire: asyncio.Transport | None = None  # aiohttp drops its reference when it closes
        self._headers_since: float | None = None  # when the incomplete headers began
        self._body: StreamReader | None = None  # a body that was incomplete at the last look
        self._body_since = 0.0
        self._answer_taken = deadlines.ReadProgress()
        self._looks = 0  # how many looks found the same incomplete state
        self.known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)
        if not self._takes_place(transport):
            self._wire.abort()
            return
        deadlines.bound_kernel(transport, deadlines.WRITE_SECONDS)
        self._headers_since = self._loop.time()
        self._watch.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._places.give_back(place, self, known=self.known)
        self._wire = None
        if self._task_handler is not None and self._waiter is not None and self._waiter.done():
            self._task_handler.cancel()  # aiohttp would handle a request that came with the close
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        of_body = self._body is not None and not self._body.is_eof()
        super().data_received(data)
        if self._force_close or self._close or not data:
            return
        if self._upgraded:
            self._headers_since = None
        elif self._request_count > before:
            self._headers_since = None
            self._looks = 0
            self._received_whole_headers(data)
        elif not of_body:
            self._received_part_of_headers()

    def _received_whole_headers(self, data: bytes) -> None:
        payload = self._messages[-1][1] if self._messages else EMPTY_PAYLOAD
        self._body = None
        if payload is EMPTY_PAYLOAD:
            if not data.endswith(b"\n\r\n"):
                self._received_part_of_headers()  # the same packet contains the next request
        elif not payload.is_eof():
            self._body, self._body_since = payload, self._loop.time()
            self._watch.add(self)

    def _received_part_of_headers(self) -> None:
        if self._headers_since is None:
            self._headers_since = self._loop.time()
            self._watch.add(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.add(self)

    def force_close(self) -> None:
        super().force_close()
        self._watch.add(self)  # the transport closes only when the client has read everything

    async def start(self) -> None:
        await super().start()
        self._watch.add(self)  # the same

    # --- Deadlines ---------------------------------------------------------------------------

    def look(self, now: float) -> bool:
        """End what is overdue. Return whether there is still a deadline."""
        if self._wire is None:
            return False
        waits = (self._look_at_headers(now), self._look_at_body(now), self._look_at_answer(now))
        self._looks = self._looks + 1 if any(waits) else 0
        return any(waits)

    def _look_at_headers(self, now: float) -> bool:
        if self._headers_since is None or self._force_close:
            return False
        served = self._current_request is not None or bool(self._messages)
        if not served and deadlines.is_due(self._headers_since, deadlines.HEADER_SECONDS, now):
            self.force_close()
            return False
        return True

    def _look_at_body(self, now: float) -> bool:
        if self._body is None or self._body.is_eof():
            self._body = None
            return False
        if not deadlines.is_due(self._body_since, deadlines.BODY_SECONDS, now):
            return True
        seconds = deadlines.BODY_SECONDS
        self._body.set_exception(deadlines.TooSlow(f"the body took more than {seconds:g} s"))
        self._body.feed_eof()
        self._body = None
        self.close()  # after the answer: later data belongs to no request
        return False

    def _look_at_answer(self, now: float) -> bool:
        assert self._wire is not None
        unread = self._wire.get_write_buffer_size()
        if not unread:
            self._answer_taken.reset()
            return False
        if self._upgraded and not self._wire.is_closing():
            return False  # workers' connections have their own deadline
        request = self._current_request
        written = 0 if request is None else request.writer.output_size
        if self._answer_taken.stands_still(id(request), written - unread, now):
            self._wire.abort()
            return False
        return True

    # --- The limit of connections ------------------------------------------------------------

    def become_known(self) -> None:
        if not self.known:
            self.known = True
            if self._place is not None:
                self._places.recognize(self._place, self)

    def keeps_waiting(self, looks: int) -> bool:
        if self._looks < looks:
            return False
        if self._headers_since is not None or (self._body and not self._body.is_eof()):
            return True
        return self._wire is not None and self._wire.get_write_buffer_size() > 0

    @property
    def idle(self) -> bool:
        return self._waiter is not None and not self._messages

    def close_for_limit(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _takes_place(self, transport: asyncio.BaseTransport) -> bool:
        peer = transport.get_extra_info("peername")
        if not isinstance(peer, tuple) or not self._places.counts(peer[0]):
            return True
        self._place = self._places.take(peer[0], self)
        return self._place is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if _client_left(request, exc):
            raise ConnectionError("the client closed the connection")
        if request.writer.output_size > 0:
            if not isinstance(exc, ConnectionError):
                log.error("an answer was cut by an error: %s", request.path, exc_info=exc)
            raise ConnectionError("the answer has begun: it can only be cut")
        if status < 500:
            response = replies.error(status, "malformed", "this is not a valid HTTP request")
        else:
            response = _mistake(request, exc)
        replies.fill(response.headers)
        response.force_close()
        return response


def recognize(request: web.Request) -> None:
    """Mark the connection of a request with a valid token."""
    if isinstance(request.protocol, HttpConnection):
        request.protocol.become_known()


def _client_left(request: web.BaseRequest, exc: BaseException | None) -> bool:
    """Whether the error only means that the client closed the connection: it is not logged."""
    if not isinstance(exc, ConnectionError):
        return False
    by_write = isinstance(exc, ClientConnectionResetError)
    return by_write or request.transport is None or exc is request.content.exception()


def _mistake(request: web.BaseRequest, exc: BaseException | None) -> web.Response:
    """Answer an unexpected exception: log its traceback, and return its id to the client."""
    id_ = secrets.token_hex(8)
    log.error("request %s: %s %r failed", id_, request.method, request.path, exc_info=exc)
    response = replies.error(
        500, "internal", f"an internal error; the service's log has the id {id_}"
    )
    response.headers["X-Request-Id"] = id_
    return response


def _check_aiohttp() -> None:
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if version < OLDEST_AIOHTTP:
        raise RuntimeError(f"aiohttp {aiohttp.__version__} is too old: 3.14.5 or newer is needed")
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError("aiohttp is installed without its C parser: install its wheel")
