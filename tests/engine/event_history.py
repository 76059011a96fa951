"""Shards that commit events, and readers that connect and disconnect."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import pytest

from boxsched.feed import EventCursor, EventFeed, Subscription
from boxsched.protocol.batches import Batch, Event, StoredEvent
from boxsched.store import Store
from boxsched.store.steps.maintenance import void_issued

PATIENCE_SECONDS = 20.0
FROM_THE_BEGINNING = EventCursor({})


class EventHistory:
    """Commits batches of events with the store's real fence, and does nothing else."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._leads: dict[int, tuple[int, int]] = {}  # shard: (epoch, batch)

    async def commit(self, shard: int, count: int) -> tuple[int, list[Event]]:
        """Return the number of the batch and its events."""
        if shard not in self._leads:
            epoch = await self.store.raise_epoch(shard, "someone")
            self._leads[shard] = (epoch, (await self.store.batch_number(shard))[1])
        epoch, batch = self._leads[shard]
        events = [
            Event("test.event", 1.0, None, None, f'{{"of": "{shard}.{batch + 1}.{n}"}}'.encode())
            for n in range(1, count + 1)
        ]
        await self.store.commit(
            Batch(shard, epoch, batch, (), (), (), (), (), (), (), (), (), tuple(events))
        )
        self._leads[shard] = (epoch, batch + 1)
        return batch + 1, events

    async def jump(self, shard: int) -> None:
        """Continue the shard far below the numbers already given out, as after a restored
        backup."""
        await self.store._driver.serving.write(void_issued, 0.0)
        self._leads.pop(shard, None)

    async def lead_by(self, feed: EventFeed, shard: int, count: int) -> None:
        """Commit a batch and publish it on the node that leads."""
        feed.publish(shard, *await self.commit(shard, count))

    async def table(self, after: EventCursor = FROM_THE_BEGINNING) -> dict[int, list[StoredEvent]]:
        """Return the events after a cursor, by shard; shards without events are left out."""
        found = {
            shard: await self.store.events_after(shard, *after.places.get(shard, (0, 0)), 100_000)
            for shard in await self.store.last_events()
        }
        return {shard: events for shard, events in found.items() if events}


def by_shard(events: Sequence[StoredEvent]) -> dict[int, list[StoredEvent]]:
    found: dict[int, list[StoredEvent]] = defaultdict(list)
    for event in events:
        found[event.shard].append(event)
    return dict(found)


async def read(subscription: Subscription, count: int) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in subscription:
            events.append(event)
            if len(events) == count:
                break
    return events


@contextlib.asynccontextmanager
async def following(feed: EventFeed, *, hints_reach: bool = False) -> AsyncIterator[None]:
    """Run the node's follow task."""
    task = asyncio.create_task(feed.run(lambda: hints_reach))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class FeedReader:
    """Reads continuously and records everything; may disconnect and connect again at any node."""

    def __init__(self) -> None:
        self.seen: list[StoredEvent] = []
        self.start: EventCursor | None = None
        self._place = ""
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._task is not None

    async def connect(self, feed: EventFeed, after: EventCursor | None) -> None:
        """Start at ``after`` the first time; later at the cursor of the last event read."""
        begun = asyncio.Event()
        if self.start is not None:
            after = EventCursor.parse(self._place)
            assert after is not None, self._place
        self._task = asyncio.create_task(self._read(feed, after, begun))
        await begun.wait()

    async def disconnect(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def ended(self) -> None:
        """Wait until the feed has closed."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._task

    async def received(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()

    async def _read(self, feed: EventFeed, after: EventCursor | None, begun: asyncio.Event) -> None:
        async with feed.subscribe(after) as events:
            self._place = events.place
            self.start = self.start or EventCursor.parse(events.place)
            begun.set()
            async for event in events:
                self.seen.append(event)
                self._place = events.place
                self._news.set()


class LookCounter:
    """Counts the reads of a table."""

    def __init__(self, store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._look = getattr(store, name)
        monkeypatch.setattr(store, name, self)

    async def __call__(self, *asked: int) -> object:
        self.count += 1
        return await self._look(*asked)
