"""How the feed learns of batches of other nodes: hints, polls, and reads of the table."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.feed import EventFeed
from boxsched.feed import feed as feed_module
from boxsched.protocol.batches import StoredEvent
from boxsched.store import Store, open_store
from boxsched.store.records import ShardHead
from tests.engine.event_history import (
    PATIENCE_SECONDS,
    EventHistory,
    LookCounter,
    by_shard,
    following,
    read,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'boxsched.sqlite'}", tmp_path)
    await store.open()
    await store.open_shards(2)
    yield store
    await store.close()


@pytest.fixture
def history(store: Store) -> EventHistory:
    return EventHistory(store)


@pytest.fixture
def feed(store: Store) -> EventFeed:
    return EventFeed(store)


# --- Batches of other nodes ---------------------------------------------------------------------


async def test_a_node_without_leadership_or_messages_follows_the_table(
    history: EventHistory, feed: EventFeed
) -> None:
    async with feed.subscribe(None) as events, following(feed):
        seen: list[StoredEvent] = []
        for shard in (1, 2, 1):
            await history.commit(shard, 2)
            seen += await read(events, 2)
        assert by_shard(seen) == await history.table()


async def test_a_hint_causes_a_read_at_once(
    history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HINTED_POLL_SECONDS", 1_000.0)
    async with feed.subscribe(None) as events, following(feed, hints_reach=True):
        for _ in range(3):
            batch, _ = await history.commit(1, 2)
            feed.heard(1, batch)
            await read(events, 2)


@pytest.mark.parametrize("fate", ["lost", "late", "twice", "another's"])
async def test_invalid_hints_change_nothing(
    history: EventHistory, feed: EventFeed, fate: str
) -> None:
    async with feed.subscribe(None) as events, following(feed, hints_reach=True):
        hints = [(1, (await history.commit(1, 3))[0]) for _ in range(4)]
        if fate == "lost":
            del hints[1]
        elif fate == "late":
            hints.append(hints.pop(1))
        elif fate == "twice":
            hints.insert(2, hints[1])
        else:
            hints[1] = (2, 2)
        for one in hints:
            feed.heard(*one)
        assert by_shard(await read(events, 12)) == await history.table()


async def test_a_forged_hint_does_no_harm(history: EventHistory, feed: EventFeed) -> None:
    async with feed.subscribe(None) as events, following(feed, hints_reach=True):
        await feed.poll()
        feed.heard(1, 1)
        feed.heard(1, 1_000_000)
        feed.heard(7, 1)
        await feed.poll()
        await history.lead_by(feed, 1, 1)
        batch, _ = await history.commit(1, 1)
        feed.heard(1, batch)
        assert by_shard(await read(events, 2)) == await history.table()


async def test_batches_without_events_are_read_for_once(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with feed.subscribe(None) as events:
        await feed.poll()
        for _ in range(3):
            await history.commit(1, 0)
        looks = LookCounter(store, "events_after", monkeypatch)
        for _ in range(5):
            await feed.poll()
        assert looks.count == 1
        await history.lead_by(feed, 1, 1)
        assert (await read(events, 1))[0].batch == 4
        assert looks.count == 1


async def test_after_a_read_of_the_table_published_batches_need_no_other_read(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = LookCounter(store, "events_after", monkeypatch)
    async with feed.subscribe(None) as events:
        await history.commit(1, 1)
        await feed.poll()
        assert len(await read(events, 1)) == 1
        await history.lead_by(feed, 1, 2)
        assert len(await read(events, 2)) == 2
        assert looks.count == 1


async def test_only_recent_events_are_read_for_all_readers_at_once(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are three events in a batch, and more than five are too many for one shared read."""
    monkeypatch.setattr(feed_module, "PAGE", 5)
    async with feed.subscribe(None) as one, feed.subscribe(None) as other:
        await history.lead_by(feed, 1, 3)
        looks = LookCounter(store, "events_after", monkeypatch)
        for batch in (2, 3, 4):
            await history.commit(1, 3)
            await feed.poll()
            assert looks.count == batch - 1
        for events in (one, other):
            assert len(await read(events, 12)) == 12
        assert looks.count == 3


class PollCounter:
    """Counts the finished polls of a feed."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._ask = store.shards
        self._news = asyncio.Event()
        monkeypatch.setattr(store, "shards", self)

    async def __call__(self) -> list[ShardHead]:
        heads = await self._ask()
        self.count += 1
        self._news.set()
        return heads

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.count < count:
                self._news.clear()
                await self._news.wait()


async def test_hints_do_not_cause_polls_without_a_pause(
    store: Store, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LEAST_SECONDS", 1_000.0)
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 2_000.0)
    polls = PollCounter(store, monkeypatch)
    async with feed.subscribe(None), following(feed):
        await polls.reach(1)
        for batch in range(10):
            feed.heard(1, batch)
            await store.ping()
        assert polls.count == 1


async def test_a_hint_causes_one_poll(
    store: Store, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 2_000.0)
    polls = PollCounter(store, monkeypatch)
    async with feed.subscribe(None), following(feed):
        await polls.reach(1)
        feed.heard(1, 0)  # that batch is known already
        for _ in range(10):
            await store.ping()
        assert polls.count == 1
        feed.heard(1, 1)
        await polls.reach(2)
        for _ in range(10):
            await store.ping()
        assert polls.count == 2
