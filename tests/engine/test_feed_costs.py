"""The feed after a lost history, and how often it reads the table."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.errors import StoreAway
from boxsched.feed import EventFeed
from boxsched.feed import feed as feed_module
from boxsched.feed import subscription as subscription_module
from boxsched.store import Store, open_store
from boxsched.store.records import ShardHead
from boxsched.store.steps.maintenance import JUMP
from tests.engine.event_history import (
    PATIENCE_SECONDS,
    EventHistory,
    FeedReader,
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


# --- Another history ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["published", "read", "looked for"])
async def test_a_history_that_lost_commits_ends_every_reader_once(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Readers that connect again receive new events, and their batches continue from there."""
    readers = [FeedReader(), FeedReader()]
    for reader in readers:
        await reader.connect(feed, None)
    batch, events = await history.commit(1, 1)
    feed.publish(1, batch, events)
    for reader in readers:
        await reader.received(1)
    await history.jump(1)
    if way == "looked for":
        monkeypatch.setattr(feed_module, "PAGE", 1)
    batch, events = await history.commit(1, 1)
    if way == "published":
        feed.publish(1, batch, events)
    else:
        await feed.poll()
    for reader in readers:
        await reader.ended()
        assert len(reader.seen) == 1
    again = FeedReader()
    await again.connect(feed, None)
    await history.lead_by(feed, 1, 1)
    await again.received(1)
    await feed.poll()
    await history.lead_by(feed, 1, 1)
    await again.received(2)
    await again.disconnect()


async def test_the_feed_forgets_its_position_when_all_readers_have_left(
    history: EventHistory, feed: EventFeed
) -> None:
    """So a later reader whose cursor is far behind is not disconnected for it."""
    async with feed.subscribe(None) as events:
        await history.lead_by(feed, 1, 1)
        assert len(await read(events, 1)) == 1
    await history.jump(1)
    async with feed.subscribe(None) as events:
        await history.lead_by(feed, 1, 1)
        assert len(await read(events, 1)) == 1


async def test_a_gap_just_below_the_limit_is_the_same_history(feed: EventFeed) -> None:
    async with feed.subscribe(None) as events:
        feed.publish(1, 1, [])
        feed.publish(1, JUMP, [])
        assert not events._closed
        feed.publish(1, 2 * JUMP, [])
        assert events._closed


async def test_batches_without_events_are_read_only_once(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with feed.subscribe(None) as events:
        await feed.poll()
        for count in (2, 0, 0):
            await history.commit(1, count)
        looks = LookCounter(store, "events_after", monkeypatch)
        for _ in range(3):
            await feed.poll()
        assert looks.count == 1
        await history.lead_by(feed, 1, 1)
        assert [event.batch for event in await read(events, 3)] == [1, 1, 4]
        assert looks.count == 1


async def test_two_hundred_readers_share_one_read(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = [FeedReader() for _ in range(200)]
    for reader in readers:
        await reader.connect(feed, None)
    await feed.poll()
    await history.commit(2, 3)
    looks = LookCounter(store, "events_after", monkeypatch)
    await feed.poll()
    for reader in readers:
        await reader.received(3)
        await reader.disconnect()
    assert looks.count == 1


async def test_events_too_many_for_one_shared_read_are_read_by_each_reader(
    history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 5)
    monkeypatch.setattr(subscription_module, "PAGE", 5)
    async with feed.subscribe(None) as events:
        await feed.poll()
        for _ in range(4):
            await history.commit(1, 4)
        await feed.poll()
        assert by_shard(await read(events, 16)) == await history.table()


async def test_nothing_is_queried_without_readers(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(feed_module, "LEAST_SECONDS", 0.0)
    polled = asyncio.Event()
    looks = LookCounter(store, "shards", monkeypatch)
    ask = store.shards

    async def shards() -> list[ShardHead]:
        heads = await ask()
        polled.set()
        return heads

    monkeypatch.setattr(store, "shards", shards)
    async with following(feed):
        async with feed.subscribe(None), asyncio.timeout(PATIENCE_SECONDS):
            await polled.wait()
        await store.shards()  # a poll that was running has returned by now
        before = looks.count
        for _ in range(5):
            await store.ping()
            await history.lead_by(feed, 1, 1)
        assert looks.count == before
        async with feed.subscribe(None) as events:
            await history.commit(1, 1)
            assert (await read(events, 1))[0].batch == 6


async def test_the_feed_survives_outages_of_the_store(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, failed = store.shards, asyncio.Event()

    async def away() -> list[ShardHead]:
        if failed.is_set():
            return await ask()
        failed.set()
        raise StoreAway("away")

    monkeypatch.setattr(store, "shards", away)
    async with feed.subscribe(None) as events, following(feed):
        await failed.wait()
        await history.commit(1, 2)
        assert len(await read(events, 2)) == 2
