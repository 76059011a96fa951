"""Answers: JSON bodies, errors (docs/api.md, "Errors"), and the headers of every answer."""

import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from activity_monitor import SECURITY_HEADERS
from boxsched.errors import BoxschedError, TooMany, Unauthorized

RETRY_SECONDS = 1
SERVER = "boxsched"
SLICE_BYTES = 131_072

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_CSP = "Content-Security-Policy"
_JSON: CIMultiDict[str] = CIMultiDict(SECURITY_HEADERS)
_JSON["Server"] = SERVER
_JSON["Cache-Control"] = "no-store"
_EVERY = CIMultiDict(_JSON)
_JSON["Content-Type"] = "application/json; charset=utf-8"

_CODES: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    417: "expectation_failed",
}
_MESSAGES: Mapping[int, str] = {
    404: "there is nothing at this path",
    405: "this path does not allow this method",
    417: "only `Expect: 100-continue` is supported",
}

HSTS = "max-age=31536000"

encode = msgspec.json.Encoder().encode


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error. ``field``: the part of the request that is wrong."""

    code: str
    message: str
    field: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    error: Error


class Sliced(web.Response):
    """A large body, written in slices: for a slow client only one slice is buffered."""

    async def write_eof(self, data: bytes = b"") -> None:
        body = self.body
        assert isinstance(body, bytes)
        for begin in range(0, len(body), SLICE_BYTES):
            await self.write(body[begin : begin + SLICE_BYTES])
        await web.StreamResponse.write_eof(self)


def json_bytes(body: bytes, status: int = 200) -> web.Response:
    kind = web.Response if len(body) <= SLICE_BYTES else Sliced
    return kind(body=body, status=status, headers=_JSON.copy())


def json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(value), status=status, headers=_JSON.copy())


def created(body: bytes, location: str) -> web.Response:
    headers = _JSON.copy()
    headers["Location"] = location
    return web.Response(body=body, status=201, headers=headers)


def error(status: int, code: str, message: str, field: str | None = None) -> web.Response:
    return json(ErrorAnswer(Error(code, message, field)), status)


def refusal(raised: BoxschedError) -> web.Response:
    """Return the answer for an error of ``boxsched.errors``."""
    response = error(raised.status, raised.code, raised.message, raised.field)
    if isinstance(raised, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="boxsched"'
    elif isinstance(raised, TooMany):
        response.headers["Retry-After"] = str(raised.retry_after)
    elif raised.status == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def refused(raised: web.HTTPException) -> web.Response:
    """Return aiohttp's own refusal in the format of docs/api.md, "Errors"."""
    response = error(
        raised.status,
        _CODES.get(raised.status, "malformed" if raised.status < 500 else "error"),
        _MESSAGES.get(raised.status, raised.reason),
    )
    if "Allow" in raised.headers:
        response.headers["Allow"] = raised.headers["Allow"]
    return response


def text(body: bytes) -> web.Response:
    """Return lines for a program."""
    headers = _EVERY.copy()
    headers["Content-Type"] = "text/plain; charset=utf-8"
    kind = web.Response if len(body) <= SLICE_BYTES else Sliced
    return kind(body=body, headers=headers)


def text_stream() -> web.StreamResponse:
    """Return a response for a job's output, which a browser always shows as text."""
    headers = _EVERY.copy()
    headers["Content-Type"] = "text/plain; charset=utf-8"
    headers[_CSP] = SECURITY_HEADERS[_CSP] + "; sandbox"
    headers["X-Accel-Buffering"] = "no"
    return web.StreamResponse(headers=headers)


def attachment(name: str) -> web.StreamResponse:
    """Return a response for a file of a job, which a browser saves and never shows."""
    headers = _EVERY.copy()
    headers["Content-Type"] = "application/octet-stream"
    headers[_CSP] = SECURITY_HEADERS[_CSP] + "; sandbox"
    plain = _NOT_PLAIN.sub("_", name) or "artifact"
    headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    return web.StreamResponse(headers=headers)


def event_stream() -> web.StreamResponse:
    headers = _EVERY.copy()
    headers["Content-Type"] = "text/event-stream; charset=utf-8"
    headers["X-Accel-Buffering"] = "no"  # nginx would delay the events
    return web.StreamResponse(headers=headers)


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the security headers to every answer (signal ``on_response_prepare``)."""
    headers = response.headers
    if headers["Server"] != SERVER:  # aiohttp's value, which contains versions
        headers["Server"] = SERVER
        fill(headers)
    if request.secure:
        headers["Strict-Transport-Security"] = HSTS


def fill(headers: CIMultiDict[str], more: Mapping[str, str] = _EVERY) -> None:
    for name, value in more.items():
        headers.setdefault(name, value)
