"""Every reader receives every event in order, whatever hints it missed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.errors import StoreAway
from boxsched.feed import EventCursor, EventFeed
from boxsched.feed import feed as feed_module
from boxsched.feed import subscription as subscription_module
from boxsched.protocol.batches import StoredEvent
from boxsched.store import Store, open_store
from tests.engine.event_history import (
    FROM_THE_BEGINNING,
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


# --- Reading ------------------------------------------------------------------------------------


async def test_reading_from_the_beginning_continues_with_new_events(
    history: EventHistory, feed: EventFeed
) -> None:
    for shard in (1, 2, 1):
        await history.lead_by(feed, shard, 3)
    async with feed.subscribe(FROM_THE_BEGINNING) as events:
        seen = await read(events, 9)
        assert by_shard(seen) == await history.table()
        await history.lead_by(feed, 2, 4)
        seen += await read(events, 4)
        assert by_shard(seen) == await history.table()
        assert events.place == "1.2.3+2.2.4"


async def test_without_a_cursor_only_new_events_are_read(
    history: EventHistory, feed: EventFeed
) -> None:
    await history.lead_by(feed, 1, 2)
    async with feed.subscribe(None) as events:
        assert events.place == str(await feed.now()) == "1.1.2"
        await history.lead_by(feed, 2, 1)
        await history.lead_by(feed, 1, 1)
        assert {(e.shard, e.batch, e.n) for e in await read(events, 2)} == {(2, 1, 1), (1, 2, 1)}


async def test_a_shard_that_the_cursor_does_not_name_is_read_from_its_first_event(
    history: EventHistory, feed: EventFeed
) -> None:
    for shard in (1, 2):
        await history.lead_by(feed, shard, 2)
    async with feed.subscribe(EventCursor({1: (1, 1)})) as events:
        assert by_shard(await read(events, 3)) == await history.table(EventCursor({1: (1, 1)}))


async def test_a_shard_that_is_added_later_is_read_from_its_first_event(
    store: Store, history: EventHistory, feed: EventFeed
) -> None:
    async with feed.subscribe(None) as events, following(feed):
        await store.open_shards(3)
        await history.commit(3, 2)
        assert [event.shard for event in await read(events, 2)] == [3, 3]
        assert events.place == "3.1.2"


async def test_a_cursor_lists_its_shards_in_order(history: EventHistory, feed: EventFeed) -> None:
    async with feed.subscribe(None) as events:
        for shard in (2, 1):
            await history.lead_by(feed, shard, 1)
            await read(events, 1)
        assert events.place == "1.1.1+2.1.1"
    async with feed.subscribe(EventCursor.parse(events.place)) as again:
        assert again.place == events.place


async def test_every_cursor_on_the_way_can_be_continued_from(
    history: EventHistory, feed: EventFeed
) -> None:
    for shard in (1, 2, 2, 1):
        await history.lead_by(feed, shard, 2)
    places: list[str] = []
    seen: list[StoredEvent] = []
    async with feed.subscribe(FROM_THE_BEGINNING) as events:
        async for event in events:
            seen.append(event)
            places.append(events.place)
            if len(places) == 8:
                break
    for n, place in enumerate(places[:-1], 1):
        after = EventCursor.parse(place)
        async with feed.subscribe(after) as rest:
            assert by_shard(seen[:n] + await read(rest, 8 - n)) == await history.table()


async def test_a_subscription_ends_when_the_node_stops(
    history: EventHistory, feed: EventFeed
) -> None:
    reader = FeedReader()
    await reader.connect(feed, None)
    feed.close()
    await reader.ended()
    async with feed.subscribe(None) as late:
        assert await read(late, 1) == []


async def test_a_reader_that_cannot_start_is_removed(
    store: Store, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> dict[int, tuple[int, int]]:
        raise StoreAway("away")

    monkeypatch.setattr(store, "last_events", away)
    with pytest.raises(StoreAway):
        async with feed.subscribe(None):
            pass
    assert not feed.readers


async def test_a_reader_whose_read_failed_reads_again(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history.commit(1, 2)

    async def away(*asked: int) -> list[StoredEvent]:
        raise StoreAway("away")

    async with feed.subscribe(FROM_THE_BEGINNING) as events:
        with monkeypatch.context() as broken:
            broken.setattr(store, "events_after", away)
            with pytest.raises(StoreAway):
                await read(events, 1)
        assert len(await read(events, 2)) == 2


async def test_events_that_are_committed_during_a_read_arrive_once(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is in the queue, and the read may return it as well."""
    await history.commit(1, 2)
    look = store.events_after

    async def overtaken(*asked: int) -> list[StoredEvent]:
        if asked[1] == 0:
            await history.lead_by(feed, 1, 2)
        return await look(*asked)

    monkeypatch.setattr(store, "events_after", overtaken)
    async with feed.subscribe(FROM_THE_BEGINNING) as events:
        seen = await read(events, 4)
        await history.lead_by(feed, 1, 1)
        seen += await read(events, 1)
    monkeypatch.undo()
    assert by_shard(seen) == await history.table()


async def test_a_reader_of_deleted_events_is_ended(
    store: Store, history: EventHistory, feed: EventFeed
) -> None:
    """Batches 1 and 2 of the first shard are deleted; a reader that is behind them is ended."""
    for shard in (1, 1, 1, 1, 2):
        await history.commit(shard, 3)
    await store.prune_history(1, 2.0, 8)
    assert {shard: one.batch for shard, one in (await store.history_starts()).items()} == {1: 2}
    for place in ((0, 0), (1, 3), (2, 2), (2, 3)):
        async with feed.subscribe(EventCursor({1: place, 2: (1, 3)})) as events:
            assert await read(events, 1) == []
    for place in ((3, 1), (3, 2), (3, 3)):
        after = EventCursor({1: place})
        left = await history.table(after)
        async with feed.subscribe(after) as events:
            assert by_shard(await read(events, sum(map(len, left.values())))) == left


# --- Batches of the node's own engines ----------------------------------------------------------


async def test_a_batch_that_was_committed_but_not_published_is_read_too(
    history: EventHistory, feed: EventFeed
) -> None:
    async with feed.subscribe(None) as events:
        await history.lead_by(feed, 1, 1)
        await history.commit(1, 2)
        await history.lead_by(feed, 1, 1)
        assert by_shard(await read(events, 4)) == await history.table()


async def test_after_a_reload_readers_read_the_table_at_once(
    history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HINTED_POLL_SECONDS", 1_000.0)
    async with feed.subscribe(None) as events, following(feed, hints_reach=True):
        await history.lead_by(feed, 1, 1)
        await read(events, 1)
        await history.commit(1, 1)  # its outcome was unknown
        feed.recheck()
        assert [event.batch for event in await read(events, 1)] == [2]


async def test_published_batches_need_no_read_of_the_table(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history.lead_by(feed, 1, 1)
    async with feed.subscribe(None) as events:
        looks = LookCounter(store, "events_after", monkeypatch)
        for count in (1, 0, 0, 2, 3):  # some batches have no events
            await history.lead_by(feed, 1, count)
        assert len(await read(events, 6)) == 6
        assert looks.count == 0


async def test_a_reader_that_is_up_to_date_sends_no_queries(
    store: Store, history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (1, 2):
        await history.lead_by(feed, shard, 2)
    looks = LookCounter(store, "events_after", monkeypatch)
    async with feed.subscribe(FROM_THE_BEGINNING) as events:
        await read(events, 4)
        for _ in range(5):
            await history.lead_by(feed, 1, 1)
            await read(events, 1)
        assert looks.count == 2


async def test_a_reader_that_falls_behind_reads_the_table(
    history: EventHistory, feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "QUEUED_AT_MOST", 200)
    monkeypatch.setattr(subscription_module, "PAGE", 7)
    async with feed.subscribe(None) as events:
        seen: list[StoredEvent] = []
        for turn in range(40):
            for shard in (1, 2):
                await history.lead_by(feed, shard, 1 + turn % 4)
                queued = [e for tail in events._tails.values() for e in tail.queue]
                assert sum(len(event.data) for event in queued) <= 200
            if turn % 5 == 4:
                seen += await read(events, 4)
        left = sum(map(len, (await history.table()).values())) - len(seen)
        seen += await read(events, left)
        assert by_shard(seen) == await history.table()
        assert events._queued == 0


async def test_a_slow_reader_has_each_shard_once_in_its_queue(
    history: EventHistory, feed: EventFeed
) -> None:
    """Its memory does not grow with the batches."""
    async with feed.subscribe(None) as events:
        for _ in range(20):
            for shard in (1, 2):
                await history.lead_by(feed, shard, 1)
        assert len(events._ready) == 2
        assert by_shard(await read(events, 40)) == await history.table()
