"""Stream every change as a server-sent event: in order and without a gap."""

import asyncio
import contextlib

from aiohttp import web

from boxsched.api.auth.actor import CALLER
from boxsched.api.http import replies
from boxsched.api.http.streams import BUFFER_BYTES, Cut, Stream
from boxsched.api.resources.events_in_scope import EventsInScope
from boxsched.errors import Invalid, StoreAway
from boxsched.feed import BEGINNING, EventCursor, Subscription
from boxsched.node.node import Node
from boxsched.protocol.batches import StoredEvent

KEEPALIVE_SECONDS = 15.0
_KEEPALIVE = b": still here\n\n"


class EventRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Stream the events after ``Last-Event-ID`` or ``?after=``, or from now on."""
        if self._node.feed.closed:
            raise StoreAway("this node is stopping")
        scope = request[CALLER].scope
        shard = scope.organization.shard
        after = await self._after(request, shard)
        seen = EventsInScope(self._node.store, scope)
        async with self._node.feed.subscribe(after, shard) as events:
            # Subscribe first: a client that received the first byte misses no later event.
            stream = Stream(request, replies.event_stream())
            with contextlib.suppress(Cut):
                await stream.open()
                await _pass_on(events, stream, seen)
        return stream.response

    async def _after(self, request: web.Request, shard: int) -> EventCursor | None:
        field, text = "Last-Event-ID", request.headers.get("Last-Event-ID")
        if not text:
            field, text = "after", request.query.get("after")
        if text is None:
            return None
        cursor = EventCursor.parse(text.replace(" ", "+"))  # in a query, a "+" means a space
        if cursor is None:
            raise Invalid("this is not the id of an event", field)
        ends = await self._node.store.last_events()
        for its, place in cursor.places.items():
            if its != shard or place > ends.get(shard, BEGINNING):
                raise _gone(field)
        # After a failover or a restored backup, events that a reader has seen may be missing.
        # Later batches then have much greater numbers.
        asked = [(shard, *place) for shard, place in cursor.places.items() if place[1]]
        there = await self._node.store.events_there(asked)
        starts = await self._node.store.history_starts()
        start = starts.get(shard)
        if start is not None and cursor.places.get(shard, BEGINNING)[0] <= start.batch:
            raise Invalid(
                "the events after this one were deleted: read the current state again", field
            )
        if len(there) < len(asked):
            raise _gone(field)
        return cursor


def _gone(field: str) -> Invalid:
    """Return the error for an event of another database, or one that was lost in a failover."""
    return Invalid("there is no such event: read the current state again", field)


class WriteBuffer:
    """Data for one reader that is not written yet: about BUFFER_BYTES at most."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False

    async def put(self, data: bytes) -> None:
        """Add data; wait while the buffer is full."""
        while self._size > BUFFER_BYTES:
            self._room.clear()
            await self._room.wait()
        self._parts.append(data)
        self._size += len(data)
        self._filled.set()

    def close(self) -> None:
        """End the data."""
        self._over = True
        self._filled.set()

    async def take(self, seconds: float) -> bytes | None:
        """Return all data; b"" after this many seconds without data; None at the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            return b""
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._room.set()
        if not self._over:
            self._filled.clear()
        return None if self._over and not data else data


async def _pass_on(events: Subscription, stream: Stream, seen: EventsInScope) -> None:
    buffer = WriteBuffer()
    await stream.write(hello(events.place))
    filling = asyncio.create_task(_fill(buffer, events, seen), name="events of a reader")
    try:
        await _empty(buffer, stream)
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


async def _fill(buffer: WriteBuffer, events: Subscription, seen: EventsInScope) -> None:
    try:
        async for event in events:
            if await seen.includes(event):
                await buffer.put(message(event, events.place))
    except StoreAway:
        pass  # the reader connects again and continues from its position
    finally:
        buffer.close()


async def _empty(buffer: WriteBuffer, stream: Stream) -> None:
    while (data := await buffer.take(KEEPALIVE_SECONDS)) is not None:
        await stream.write(data or _KEEPALIVE)


def hello(place: str) -> bytes:
    """Return the first message: only an id, so that a reader without events resumes from here."""
    return b"retry: 2000\n: connected\nid: %b\n\n" % place.encode()


def message(event: StoredEvent, place: str) -> bytes:
    """Return an event's message. Its data is one line: JSON contains newlines only as escapes."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        place.encode(),
        event.type.encode(),
        event.data,
    )
