"""The live history: every event to every reader, in order and without a gap.

Readers get what the engine publishes after its commits from a short queue in memory. A reader that
starts behind, falls behind, or missed a batch reads on from the events table until it has caught
up; so memory is bounded, and nobody loses an event or is thrown out for being slow.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from boxsched.store.contract import Store
from boxsched.store.values import Event, StoredEvent

QUEUED_AT_MOST = 256 * 1024  # bytes of event data a reader
PAGE = 500  # events of a look-up


class EventCursor(NamedTuple):
    """The event behind which a reader goes on; its text is the SSE id."""

    shard: int
    batch: int
    n: int

    def __str__(self) -> str:
        return f"{self.shard}.{self.batch}.{self.n}"

    @staticmethod
    def parse(text: str) -> "EventCursor | None":
        """None for anything that is not shard.batch.n."""
        parts = text.split(".")
        if len(parts) != 3 or len(text) > 60 or not all(p.isascii() and p.isdigit() for p in parts):
            return None
        shard, batch, n = map(int, parts)
        return EventCursor(shard, batch, n) if max(shard, batch, n) < 2**63 else None


class EventFeed:
    def __init__(self, store: Store, shard: int) -> None:
        self._store = store
        self._shard = shard
        self._readers: set[Subscription] = set()
        self._closed = False

    def publish(self, batch: int, events: Sequence[Event]) -> None:
        """A committed batch's events, in order; called by the engine."""
        if not self._readers:
            return
        stored = [
            StoredEvent(self._shard, batch, n, event.type, event.data)
            for n, event in enumerate(events, 1)
        ]
        for reader in self._readers:
            reader.offer(stored)

    def recheck(self) -> None:
        """A batch may have been committed and not published: every reader looks at the table."""
        for reader in self._readers:
            reader.recheck()

    def subscribe(self, after: EventCursor | None) -> "Subscription":
        """Events behind ``after``, or from now on; use it as an async context manager."""
        return Subscription(self, self._store, self._shard, after)

    def close(self) -> None:
        """Ends every reader: the node stops."""
        self._closed = True
        for reader in self._readers:
            reader.wake()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def readers(self) -> set["Subscription"]:
        return self._readers


class Subscription:
    """One reader: ``async with feed.subscribe(cursor) as events: async for event in events``.

    Iteration ends when the feed closes; one that was broken off goes on where it was.
    """

    def __init__(
        self, feed: EventFeed, store: Store, shard: int, after: EventCursor | None
    ) -> None:
        self._feed = feed
        self._store = store
        self._shard = shard
        self._from_now = after is None
        self._last = (after.batch, after.n) if after is not None else (0, 0)  # (batch, n)
        self._page: deque[StoredEvent] = deque()  # read from the table, to be given next
        self._queue: deque[StoredEvent] = deque()
        self._queued = 0
        self._behind = True  # reads the table, not the queue
        self._news = asyncio.Event()

    async def __aenter__(self) -> "Subscription":
        self._feed.readers.add(self)
        if self._from_now:
            self._last = await self._store.last_event(self._shard)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._feed.readers.discard(self)

    def offer(self, events: Sequence[StoredEvent]) -> None:
        self._queue.extend(events)
        self._queued += sum(len(event.data) for event in events)
        if self._queued > QUEUED_AT_MOST:
            self._drop()
        self._news.set()

    def recheck(self) -> None:
        self._behind = True
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def _drop(self) -> None:
        """Too far behind: the table has it all."""
        self._queue.clear()
        self._queued = 0
        self._behind = True

    async def __aiter__(self) -> AsyncIterator[StoredEvent]:
        while not self._feed.closed:
            event = self._next_queued()
            if event is not None:
                yield event
            elif self._page:
                event = self._page.popleft()
                self._last = (event.batch, event.n)
                yield event
            elif self._behind:
                await self._catch_up()
            else:
                self._news.clear()
                await self._news.wait()

    def _next_queued(self) -> StoredEvent | None:
        """The next event, if it is in the queue; where it may not be, the table is next."""
        while self._queue and not self._behind and not self._page:
            event = self._queue[0]
            place = (event.batch, event.n)
            batch, n = self._last
            if place > (batch, n) and place not in ((batch, n + 1), (batch + 1, 1)):
                # A batch may have been committed and not published, as its outcome was unknown for
                # a while: the table, which has this event too, tells.
                self._behind = True
                break
            self._queue.popleft()
            self._queued -= len(event.data)
            if place > (batch, n):
                self._last = place
                return event
        return None

    async def _catch_up(self) -> None:
        """A page of the table; a short one means that the queue goes on from there."""
        self._behind = False  # what is offered from here on is queued beside the look-up
        page = await self._store.events_after(self._shard, *self._last, PAGE)
        if len(page) == PAGE:
            self._drop()
        self._page.extend(page)
