"""Pass new batches of the shards on to the readers of this node."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence

from boxsched.errors import StoreAway
from boxsched.feed.cursor import EventCursor
from boxsched.feed.subscription import PAGE, Subscription
from boxsched.protocol.batches import Event, StoredEvent
from boxsched.store.steps.maintenance import JUMP
from boxsched.store.store import Store

POLL_SECONDS = 0.2  # poll interval while no hints arrive from other nodes
HINTED_POLL_SECONDS = 1.0  # poll interval while hints arrive, because some may be lost
LEAST_SECONDS = 0.05  # shortest time between two polls, even with many hints

assert LEAST_SECONDS < POLL_SECONDS < HINTED_POLL_SECONDS


class EventFeed:
    """The feed of a node; see the package. Without readers it does nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers: set[Subscription] = set()
        self._readers_of: defaultdict[int | None, set[Subscription]] = defaultdict(set)
        self._delivered: dict[int, int] = {}  # by shard: the last batch passed on to all readers
        self._watched = asyncio.Event()  # set while there are readers
        self._hurry = asyncio.Event()  # the next poll should be soon
        self._closed = False

    # --- News -------------------------------------------------------------------------------

    def publish(self, shard: int, batch: int, events: Sequence[Event]) -> None:
        """Pass on all events of a batch that this node's engine committed, in order."""
        if self._readers:
            stored = [
                StoredEvent(shard, batch, n, event.type, event.data)
                for n, event in enumerate(events, 1)
            ]
            self._offer(shard, batch - 1, batch, stored)

    def heard(self, shard: int, batch: int) -> None:
        """Poll soon, because another node may have committed this batch. This is only a hint."""
        if batch > self._delivered.get(shard, -1):
            self._hurry.set()

    def recheck(self) -> None:
        """Poll soon, because a batch may have been committed without a hint."""
        self._hurry.set()

    # --- Readers ----------------------------------------------------------------------------

    async def now(self) -> EventCursor:
        """Return the cursor after the last event of every shard."""
        return EventCursor(await self._store.last_events())

    @contextlib.asynccontextmanager
    async def subscribe(
        self, after: EventCursor | None, shard: int | None = None
    ) -> AsyncIterator[Subscription]:
        """Subscribe to the events after ``after``, or from now on if it is None; of this shard
        only, if it is given.
        """
        reader = Subscription(self._store, shard)
        if self._closed:
            reader.close()
        self._readers.add(reader)  # first, so that no later commit is missed
        self._readers_of[shard].add(reader)
        self._watched.set()
        try:
            await reader.begin(after)
            yield reader
        finally:
            self._readers.discard(reader)
            self._readers_of[shard].discard(reader)
            if not self._readers_of[shard]:
                del self._readers_of[shard]
            if not self._readers:
                self._watched.clear()
                self._delivered.clear()

    @property
    def readers(self) -> Collection[Subscription]:
        return self._readers

    def close(self) -> None:
        """End all readers, and every new one at once, because the node stops."""
        self._closed = True
        for reader in self._readers:
            reader.close()

    @property
    def closed(self) -> bool:
        return self._closed

    # --- Following --------------------------------------------------------------------------

    async def run(self, hints_reach: Callable[[], bool]) -> None:
        """Poll until cancelled; continue after outages of the store."""
        while True:
            await self._watched.wait()
            with contextlib.suppress(StoreAway):
                await self.poll()
            await asyncio.sleep(LEAST_SECONDS)
            rest = (HINTED_POLL_SECONDS if hints_reach() else POLL_SECONDS) - LEAST_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._hurry.wait()

    async def poll(self) -> None:
        """Pass on everything that was committed, with or without a hint."""
        self._hurry.clear()
        for head in await self._store.shards():
            delivered = self._delivered.get(head.id)
            if delivered is None:
                self._look(head.id, head.batch)
            elif head.batch > delivered:
                await self._read(head.id, delivered, head.batch)

    async def _read(self, shard: int, delivered: int, batch: int) -> None:
        """Read the batches after ``delivered`` once for all readers.

        If there are too many, each reader reads them itself. Batches may have no events. A page
        always contains whole batches.
        """
        page = await self._store.events_after(shard, delivered + 1, 0, PAGE)
        if len(page) < PAGE:
            self._offer(shard, delivered, max([batch, *(event.batch for event in page[-1:])]), page)
        else:
            self._look(shard, batch)

    def _offer(self, shard: int, after: int, to: int, events: Sequence[StoredEvent]) -> None:
        if self._is_new_history(shard, to):
            self._send_away(shard, to)
        elif to > self._delivered.get(shard, -1):
            self._delivered[shard] = to
            for reader in self._concerned(shard):
                reader.offer(shard, after, to, events)

    def _look(self, shard: int, batch: int) -> None:
        if self._is_new_history(shard, batch):
            self._send_away(shard, batch)
        elif batch > self._delivered.get(shard, -1):
            self._delivered[shard] = batch
            for reader in self._concerned(shard):
                reader.look(shard, batch)

    def _concerned(self, shard: int) -> Iterator[Subscription]:
        """Return the readers of a shard."""
        yield from self._readers_of.get(None, ())
        yield from self._readers_of.get(shard, ())

    def _is_new_history(self, shard: int, batch: int) -> bool:
        delivered = self._delivered.get(shard)
        return delivered is not None and batch >= delivered + JUMP

    def _send_away(self, shard: int, batch: int) -> None:
        """End all readers of the shard. Their last events may not be in the new history; they learn
        that when they connect again.
        """
        self._delivered[shard] = batch
        for reader in self._concerned(shard):
            reader.close()
