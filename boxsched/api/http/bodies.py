"""Read a request's body within limits of size and time, and decode it.

Refusals (docs/api.md, "Errors") distinguish malformed (400: not JSON) from invalid (422: JSON with
invalid values). They name the field as in the request: ``jobs[0].commands``.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from aiohttp import HttpVersion11, web

from boxsched.api.http import invalid_bodies, replies
from boxsched.errors import Malformed, TooLarge
from boxsched.json_text import check_form, check_keys, malformed

MAX_BODY_BYTES = 1 << 20
CHECKED_AT_ONCE_BYTES = 16_384  # the keys of a larger body are checked in a thread
PIECE_BYTES = 1 << 18  # size of the pieces in which a received body is stored
JOINED_AT_ONCE_BYTES = 1 << 20  # a larger body is put together in a thread

T = TypeVar("T")


async def expected(request: web.Request) -> web.Response | None:
    """Refuse an unknown ``Expect`` header. ``read`` answers 100-continue, after the guard."""
    if request.headers["Expect"].lower() != "100-continue":
        return replies.refused(web.HTTPExpectationFailed())
    return None


async def read(request: web.Request) -> bytes:
    """Return the whole body, at most MAX_BODY_BYTES. Raises TooLarge, TooSlow (``deadlines``)."""
    if encoding_of(request) != "identity":
        raise Malformed("send the body uncompressed: Content-Encoding is not supported")
    body = await read_bytes(request, MAX_BODY_BYTES)
    if len(body) <= CHECKED_AT_ONCE_BYTES:
        check_keys(body)
    else:
        await asyncio.to_thread(check_keys, body)
    return body


def encoding_of(request: web.Request) -> str:
    """Return the body's Content-Encoding."""
    return request.headers.get("Content-Encoding", "").strip().lower() or "identity"


async def read_bytes(
    request: web.Request, at_most: int, arrived: Callable[[int], None] | None = None
) -> bytes:
    """Return the whole body as it was sent. Raises TooLarge, and TooSlow (``deadlines``).

    ``arrived`` is called with the size of each piece, unless the body came with the headers.
    """
    if (request.content_length or 0) > at_most:
        raise too_large(at_most)
    content = request.content
    try:
        if content.is_eof():  # the usual case: it arrived with the headers
            body = content.read_nowait()
        else:
            if request.version >= HttpVersion11 and "Expect" in request.headers:
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0  # do not count "100 Continue" as part of the answer
            body = await _read_pieces(request, at_most, arrived)
    except web.RequestPayloadError:
        raise Malformed("the body does not match its headers") from None
    if len(body) > at_most:
        raise too_large(at_most)
    return body


async def _read_pieces(
    request: web.Request, at_most: int, arrived: Callable[[int], None] | None
) -> bytes:
    pieces: list[bytes] = []
    # joins small chunks: a client may send single bytes, and each object needs memory
    piece = bytearray()
    size = 0
    if request.transport is None:  # reading would raise an AssertionError in aiohttp
        raise ConnectionResetError("the client closed the connection")
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > at_most:
            raise too_large(at_most)
        if arrived is not None:
            arrived(len(chunk))
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    pieces.append(bytes(piece))
    if size <= JOINED_AT_ONCE_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)  # lets other threads run while it copies


def too_large(at_most: int) -> TooLarge:
    return TooLarge(f"a body has at most {at_most} bytes")


class Form(Generic[T]):
    """The type of a body. ``read`` returns the value, or raises the error for the caller."""

    def __init__(self, kind: type[T], empty: T | None = None) -> None:
        self.kind = kind
        self._empty = empty
        self._decoder = msgspec.json.Decoder(kind)

    def read(self, body: bytes) -> T:
        if not body and self._empty is not None:
            return self._empty
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            check_form(body)  # report malformed JSON first, also after an invalid value
            raise invalid_bodies.refusal(str(error), self.kind, body) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(error) from None
