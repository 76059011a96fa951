"""Bodies of webhooks: larger than others, and perhaps compressed.

Nobody has shown who they are while a body is read, and the signature needs all of it. So only few
large ones are in memory at a time, apart from those of the API.
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

from boxsched.api.http.bodies import encoding_of, read_bytes, too_large
from boxsched.api.http.large import LargeBodies
from boxsched.errors import Malformed

MAX_PAYLOAD_BYTES = 25 << 20  # also of what was compressed
MEDIUM_BYTES, MEDIUM_AT_ONCE = 64 << 10, 16
HUGE_BYTES, HUGE_AT_ONCE = 1 << 20, 2  # also those of unknown size
AT_ONCE_BYTES = 64 << 10  # what takes about as long as the hand-over to a thread

_GZIP = 16 + zlib.MAX_WBITS
_ENCODINGS = {"identity": False, "gzip": True, "x-gzip": True}


class Payloads:
    """Reads bodies of webhooks within limits of size, time and memory."""

    def __init__(self) -> None:
        self._medium = LargeBodies(MEDIUM_AT_ONCE, MEDIUM_BYTES)
        self._huge = LargeBodies(HUGE_AT_ONCE, HUGE_BYTES)

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body, unpacked; its place in memory is kept until the block ends.

        Raises Malformed, TooLarge, TooSlow, and StoreAway if no place is free for too long.
        """
        packed = _ENCODINGS.get(encoding_of(request))
        if packed is None:
            raise Malformed("of all Content-Encodings only gzip is taken")
        turn = self._huge.always() if packed else self._huge.turn(request)
        async with turn, self._medium.turn(request):
            body = await read_bytes(request, MAX_PAYLOAD_BYTES)
            yield await asyncio.to_thread(unpacked, body) if packed else body


def unpacked(body: bytes) -> bytes:
    """What was packed by gzip, in one member or several. Raises Malformed and TooLarge."""
    parts: list[bytes] = []
    room = MAX_PAYLOAD_BYTES
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error:
            raise Malformed("the body is not what gzip makes") from None
        room -= len(part)
        if room < 0:
            raise too_large(MAX_PAYLOAD_BYTES)
        if not member.eof:
            raise Malformed("the body ends before its gzip data does")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)
