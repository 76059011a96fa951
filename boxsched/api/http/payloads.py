"""Bodies of webhooks: larger than others, and perhaps compressed.

Nobody has shown who they are while a body is read, and the signature needs all of it. So the bytes
of all that arrive are limited together (``arriving``), and only few large bodies that are whole are
worked on at a time, apart from those of the API.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

from aiohttp import web

from boxsched.api.http.arriving import Arriving
from boxsched.api.http.bodies import PIECE_BYTES, encoding_of, read_bytes, too_large
from boxsched.api.http.large import LargeBodies
from boxsched.errors import Malformed

MAX_PAYLOAD_BYTES = 25 << 20  # also of what was compressed
ARRIVING_BYTES = 64 << 20  # of all bodies together
MEDIUM_BYTES, MEDIUM_AT_ONCE = 64 << 10, 16
HUGE_BYTES, HUGE_AT_ONCE = 1 << 20, 2  # also those that are compressed
AT_ONCE_BYTES = 64 << 10  # what takes about as long as the hand-over to a thread

_GZIP = 16 + zlib.MAX_WBITS
_ENCODINGS = {"identity": False, "gzip": True, "x-gzip": True}


class Payloads:
    """Reads bodies of webhooks within limits of size, time and memory."""

    def __init__(self) -> None:
        self._arriving = Arriving(ARRIVING_BYTES, time.monotonic)
        self._medium = LargeBodies(MEDIUM_AT_ONCE, MEDIUM_BYTES)
        self._huge = LargeBodies(HUGE_AT_ONCE, HUGE_BYTES)

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body, unpacked; its place in memory is kept until the block ends.

        Raises Malformed, TooLarge, TooSlow, and StoreAway if there is no room for too long.
        """
        packed = _ENCODINGS.get(encoding_of(request))
        if packed is None:
            raise Malformed("of all Content-Encodings only gzip is taken")
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
    """What was packed by gzip, in one member. Raises Malformed and TooLarge."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _unpacked_pieces(body):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_PAYLOAD_BYTES:
                raise too_large(MAX_PAYLOAD_BYTES)
    except zlib.error:
        raise Malformed("the body is not what gzip makes") from None
    return b"".join(pieces)


def _unpacked_pieces(body: bytes) -> Iterator[bytes]:
    """In pieces: no other thread runs while zlib copies what it has made. Raises Malformed."""
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
            raise Malformed("the body ends before its gzip data does")
    if member.unused_data or place < len(body):
        raise Malformed("the body does not end where its gzip data does")
