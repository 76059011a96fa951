"""One reader of the history: its place, its short queue, and its reads of the events table."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

import attrs

from boxsched.feed.cursor import BEGINNING, EventCursor, Place, mark
from boxsched.protocol.batches import StoredEvent
from boxsched.store.store import Store

QUEUED_AT_MOST = 256 * 1024  # bytes of event data a reader, over all shards
PAGE = 500  # events of a look at the table


@attrs.define(eq=False)
class Tail:
    """The events of one shard that a reader has not got yet.

    All up to the batch ``known`` is given, queued, or in a look that is going on; while ``behind``
    a look at the table is due, which finds all of it. The queue is empty then.
    """

    shard: int
    last: Place = BEGINNING  # of the event that was given last
    known: int = 0
    behind: bool = False
    ready: bool = False  # in the reader's line of tails with something to give
    queue: deque[StoredEvent] = attrs.field(factory=deque)
    queued: int = 0  # bytes


class Subscription:
    """``async with feed.subscribe(cursor) as events: async for event in events``.

    Within a shard events come in order, between shards in any. Iteration ends when the feed closes;
    one that was broken off goes on where it was.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: dict[int, Tail] = {}
        self._marks: dict[int, str] = {}  # the text of each shard's place, by shard
        self._page: deque[StoredEvent] = deque()  # read from the table, to be given next
        self._ready: deque[Tail] = deque()
        self._queued = 0
        self._news = asyncio.Event()
        self._closed = False

    @property
    def place(self) -> str:
        """The cursor, as text, behind the event that was given last."""
        return "+".join(self._marks.values()) or str(EventCursor({}))

    # --- What the feed calls ----------------------------------------------------------------

    async def begin(self, after: EventCursor | None) -> None:
        """Find the place to go on from; None is now. The feed may call the others before."""
        for shard, end in (await self._store.last_events()).items():
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
        # It may be left for good at each yield and await: all is as it must be before each.
        while not self._closed:
            if self._page:
                event = self._page.popleft()
                self._pass(self._tails[event.shard], (event.batch, event.n))
                yield event
            elif self._ready:
                tail = self._ready[0]
                self._ready.rotate(-1)  # no shard waits for another one's end
                queued = self._next_queued(tail)
                if queued is not None:
                    yield queued
                elif tail.behind:
                    await self._catch_up(tail)
                else:
                    self._ready.pop()  # this one
                    tail.ready = False
            else:
                self._news.clear()
                await self._news.wait()

    def _next_queued(self, tail: Tail) -> StoredEvent | None:
        while tail.queue:
            event = tail.queue.popleft()
            tail.queued -= len(event.data)
            self._queued -= len(event.data)
            if (event.batch, event.n) > tail.last:  # else a look, or another offer, had it too
                self._pass(tail, (event.batch, event.n))
                return event
        return None

    async def _catch_up(self, tail: Tail) -> None:
        """A page of the table; a short one means that the queue goes on from there."""
        tail.behind = False  # what is offered from here on is queued beside the look
        page: list[StoredEvent] | None = None
        try:
            page = await self._store.events_after(tail.shard, *tail.last, PAGE)
        finally:
            if page is None or len(page) == PAGE:
                self._fall_behind(tail)
        # Behind the page: what was there then is all that followed.
        start = (await self._store.history_starts()).get(tail.shard)
        if start is not None and tail.last[0] <= start.batch:
            self.close()  # some are deleted as old: it is told so when it comes back
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
        """The reader is behind this place."""
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
        """The table has it all."""
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
