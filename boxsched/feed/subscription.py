"""One reader of the history: its place, its short queue, and its reads of the events table."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

import attrs

from boxsched.feed.cursor import BEGINNING, EventCursor, Place, mark
from boxsched.protocol.batches import StoredEvent
from boxsched.store.store import Store

QUEUED_AT_MOST = 256 * 1024  # bytes of queued event data for one reader, over all shards
PAGE = 500  # events in one read of the table


@attrs.define(eq=False)
class Tail:
    """The events of one shard that a reader has not received yet.

    Everything up to the batch ``known`` was delivered, is queued, or is being read. ``behind``: the
    table must be read, which finds all of it; then the queue is empty.
    """

    shard: int
    last: Place = BEGINNING  # place of the last delivered event
    known: int = 0
    behind: bool = False
    ready: bool = False  # in the reader's list of tails with events to deliver
    queue: deque[StoredEvent] = attrs.field(factory=deque)
    queued: int = 0  # bytes


class Subscription:
    """``async with feed.subscribe(cursor) as events: async for event in events``.

    Events of one shard arrive in order; the order between shards is arbitrary. Iteration ends when
    the feed closes. An interrupted iteration can be continued.
    """

    def __init__(self, store: Store, shard: int | None = None) -> None:
        """``shard``: the only one that it reads; None: it reads all."""
        self._store = store
        self._shard = shard
        self._tails: dict[int, Tail] = {}
        self._marks: dict[int, str] = {}  # by shard, the text of its place
        self._page: deque[StoredEvent] = deque()  # read from the table, delivered next
        self._ready: deque[Tail] = deque()
        self._queued = 0
        self._news = asyncio.Event()
        self._closed = False

    @property
    def place(self) -> str:
        """The cursor after the last delivered event, as text."""
        return "+".join(self._marks.values()) or mark(self._shard or 1, BEGINNING)

    # --- What the feed calls ----------------------------------------------------------------

    async def begin(self, after: EventCursor | None) -> None:
        """Find the place to start from; None: from now on. The feed may call the other methods
        earlier.
        """
        for shard, end in (await self._store.last_events()).items():
            if self._shard not in (None, shard):
                continue
            tail = self._tail(shard)
            place = end if after is None else after.places.get(shard, BEGINNING)
            self._pass(tail, place)
            tail.known = max(tail.known, end[0])
            if place < end:
                self._fall_behind(tail)

    def offer(self, shard: int, after: int, to: int, events: Sequence[StoredEvent]) -> None:
        """Take all events of the shard's batches after ``after``, up to and including ``to``."""
        tail = self._tail(shard)
        if to <= tail.known:
            return
        if after > tail.known:
            self._fall_behind(tail)
        elif not tail.behind:
            self._enqueue(tail, events)
        tail.known = to

    def look(self, shard: int, batch: int) -> None:
        """This batch was committed: read it from the table."""
        tail = self._tail(shard)
        if batch > tail.known:
            tail.known = batch
            self._fall_behind(tail)

    def close(self) -> None:
        self._closed = True
        self._news.set()

    # --- What the reader gets ---------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[StoredEvent]:
        # The iteration may be ended at each yield and await, so the state is consistent before
        # each.
        while not self._closed:
            if self._page:
                event = self._page.popleft()
                self._pass(self._tails[event.shard], (event.batch, event.n))
                yield event
            elif self._ready:
                tail = self._ready[0]
                self._ready.rotate(-1)  # no shard waits for the end of another
                queued = self._next_queued(tail)
                if queued is not None:
                    yield queued
                elif tail.behind:
                    await self._catch_up(tail)
                else:
                    self._ready.pop()  # this tail
                    tail.ready = False
            else:
                self._news.clear()
                await self._news.wait()

    def _next_queued(self, tail: Tail) -> StoredEvent | None:
        while tail.queue:
            event = tail.queue.popleft()
            tail.queued -= len(event.data)
            self._queued -= len(event.data)
            # otherwise a read, or another offer, delivered it too
            if (event.batch, event.n) > tail.last:
                self._pass(tail, (event.batch, event.n))
                return event
        return None

    async def _catch_up(self, tail: Tail) -> None:
        """Read a page of the table; after a short page the queue continues."""
        tail.behind = False  # from here on offers are queued, in parallel with the read
        page: list[StoredEvent] | None = None
        try:
            page = await self._store.events_after(tail.shard, *tail.last, PAGE)
        finally:
            if page is None or len(page) == PAGE:
                self._fall_behind(tail)
        # The page ends at the last event that existed then.
        start = (await self._store.history_starts()).get(tail.shard)
        if start is not None and tail.last[0] <= start.batch:
            # some were deleted because they are old; the reader learns this when it reconnects
            self.close()
            return
        self._page.extend(page)

    # --- Its tails --------------------------------------------------------------------------

    def _tail(self, shard: int) -> Tail:
        """Return the shard's tail; a new one begins before the shard's first event."""
        tail = self._tails.get(shard)
        if tail is None:
            tail = self._tails[shard] = Tail(shard)
        return tail

    def _pass(self, tail: Tail, place: Place) -> None:
        """Set the reader's place."""
        tail.last = place
        if place > BEGINNING:
            new = tail.shard not in self._marks
            self._marks[tail.shard] = mark(tail.shard, place)
            if new:
                self._marks = dict(sorted(self._marks.items()))

    def _enqueue(self, tail: Tail, events: Sequence[StoredEvent]) -> None:
        size = sum(len(event.data) for event in events)
        tail.queue.extend(events)
        tail.queued += size
        self._queued += size
        if self._queued > QUEUED_AT_MOST:
            self._fall_behind(tail)
        elif events:
            self._to_give(tail)

    def _fall_behind(self, tail: Tail) -> None:
        """Drop the queue, because the table has all events."""
        self._queued -= tail.queued
        tail.queued = 0
        tail.queue.clear()
        tail.behind = True
        self._to_give(tail)

    def _to_give(self, tail: Tail) -> None:
        if not tail.ready:
            tail.ready = True
            self._ready.append(tail)
        self._news.set()
