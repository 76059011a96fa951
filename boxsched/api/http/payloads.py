"""Read bodies of webhooks, which may be large and compressed.

The sender is unknown until the whole body is read, because the signature covers all of it. So the
memory of all bodies that are being received is limited (``arriving``). Only a few large bodies are
processed at a time, with a limit separate from the API's.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

from aiohttp import web

from boxsched.api.http.arriving import ArrivingBodies
from boxsched.api.http.bodies import PIECE_BYTES, encoding_of, read_bytes, too_large
from boxsched.api.http.large import LargeBodies
from boxsched.errors import Malformed

MAX_PAYLOAD_BYTES = 25 << 20  # also after decompression
ARRIVING_BYTES = 64 << 20  # limit for all bodies that are being received
MEDIUM_BYTES, MEDIUM_AT_ONCE = 64 << 10, 16
HUGE_BYTES, HUGE_AT_ONCE = 1 << 20, 2  # compressed bodies count as huge
AT_ONCE_BYTES = 64 << 10  # a body of this size is processed about as fast as a thread starts

_GZIP = 16 + zlib.MAX_WBITS
_ENCODINGS = {"identity": False, "gzip": True, "x-gzip": True}


class Payloads:
    """Reads bodies of webhooks within limits of size, time and memory."""

    def __init__(self) -> None:
        self._arriving = ArrivingBodies(ARRIVING_BYTES, time.monotonic)
        self._medium = LargeBodies(MEDIUM_AT_ONCE, MEDIUM_BYTES)
        self._huge = LargeBodies(HUGE_AT_ONCE, HUGE_BYTES)

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Provide the decompressed body during the ``async with`` block; its memory is counted
        until then.

        Raises Malformed, TooLarge, TooSlow, and StoreAway if there is no memory for it in time.
        """
        packed = _ENCODINGS.get(encoding_of(request))
        if packed is None:
            raise Malformed("the only supported Content-Encoding is gzip")
        with self._arriving.body(request) as arriving:
            grow = partial(self._arriving.grow, arriving)
            body = await read_bytes(request, MAX_PAYLOAD_BYTES, grow)
            arriving.whole = True
            async with self._place(len(body), packed):
                yield await asyncio.to_thread(unpacked, body) if packed else body

    def _place(self, size: int, packed: bool) -> contextlib.AbstractAsyncContextManager[None]:
        if packed or size >= HUGE_BYTES:
            return self._huge.always()
        return self._medium.always() if size >= MEDIUM_BYTES else contextlib.nullcontext()


def unpacked(body: bytes) -> bytes:
    """Decompress a gzip body with a single member. Raises Malformed and TooLarge."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _unpacked_pieces(body):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_PAYLOAD_BYTES:
                raise too_large(MAX_PAYLOAD_BYTES)
    except zlib.error:
        raise Malformed("the body is not valid gzip data") from None
    return b"".join(pieces)


def _unpacked_pieces(body: bytes) -> Iterator[bytes]:
    """Decompress in pieces, because zlib blocks other threads while it copies. Raises Malformed."""
    member = zlib.decompressobj(_GZIP)
    place = 0
    while not member.eof:
        packed = member.unconsumed_tail
        if not packed:
            packed = body[place : place + PIECE_BYTES]
            place += len(packed)
        made = member.decompress(packed, PIECE_BYTES)
        if made:
            yield made
        elif not packed and not member.eof:
            raise Malformed("the body's gzip data is incomplete")
    if member.unused_data or place < len(body):
        raise Malformed("the body has data after the end of its gzip data")
