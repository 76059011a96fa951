"""Compress answers to GET, except events and logs: each of their pieces must arrive at once."""

import asyncio

from aiohttp import web

from activity_monitor.packing import LEAST_BYTES, accepts_gzip, packed

IN_THREAD_BYTES = 16_384  # compressing a smaller body takes much less than a millisecond
_TYPES = frozenset({"application/json", "text/html"})


def wants_gzip(request: web.BaseRequest) -> bool:
    return accepts_gzip(request.headers.get("Accept-Encoding", ""))


def set_packed(response: web.Response, body: bytes) -> None:
    response.body = body
    response.headers["Content-Encoding"] = "gzip"


async def pack(request: web.Request, response: web.StreamResponse) -> None:
    """Compress the answer if it is large enough and the client accepts gzip."""
    if request.method != "GET" or not isinstance(response, web.Response):
        return
    body = response.body
    if response.content_type not in _TYPES or not isinstance(body, bytes):
        return
    response.headers["Vary"] = "Accept-Encoding"
    if "Content-Encoding" in response.headers or len(body) < LEAST_BYTES:
        return
    if wants_gzip(request):
        small = len(body) < IN_THREAD_BYTES
        set_packed(response, packed(body) if small else await asyncio.to_thread(packed, body))
