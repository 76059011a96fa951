"""Every reader receives every event in order, whatever hints it missed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.errors import StoreAway
from boxsched.feed import EventCursor, EventFeed
from boxsched.feed import feed as feed_module
from boxsched.feed import subscription as subscription_module
from boxsched.protocol.batches import StoredEvent
from boxsched.store import Store, open_store
from boxsched.store.records import ShardHead
from boxsched.store.steps.maintenance import JUMP
from tests.engine.event_history import (
    FROM_THE_BEGINNING,
    PATIENCE_SECONDS,
    EventHistory,
    FeedReader,
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


class LookCounter:
    """Counts the reads of a table."""

    def __init__(self, store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._look = getattr(store, name)
        monkeypatch.setattr(store, name, self)

    async def __call__(self, *asked: int) -> object:
        self.count += 1
        return await self._look(*asked)


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


async def test_batches_without_events_after_others_are_read_for_once_too(
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


# --- Cursors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "1.2", "1.2.x", "-1.2.3", "1.2.3.4", "9" * 70, "1.2.²", "1.2." + "9" * 19, "1.2.3+",
        "+1.2.3", "1.2.3++2.1.1", "2.1.1+1.2.3", "1.2.3+1.2.4", "1.2.3 2.1.1", "1.2.3\n", "01.2.3",
        "+".join(f"{shard}.123456.12" for shard in range(1, 1_024)),
    ],
)  # fmt: skip
def test_unusual_cursors_are_accepted_or_reported(text: str) -> None:
    assert EventCursor.parse(text) is None


def test_a_cursor_has_at_most_8000_characters() -> None:
    """That many characters fit into an HTTP header."""
    marks = [f"{shard}.{10**10}.1" for shard in range(100, 544)]  # 18 characters with their "+"
    longest = "+".join([*marks, "1000.1.1"])
    assert len(longest) == 8_000
    assert EventCursor.parse(longest) is not None
    assert EventCursor.parse(f"{longest}0") is None


def test_a_single_shards_cursor_is_an_events_id() -> None:
    assert str(EventCursor({1: (22, 3)})) == "1.22.3"
    assert EventCursor.parse("1.22.3") == EventCursor({1: (22, 3)})
    assert str(FROM_THE_BEGINNING) == "1.0.0"


_NUMBERS = st.integers(1, 10**6)


@given(st.dictionaries(_NUMBERS, st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=50))
def test_a_cursor_reads_as_it_is_written(places: dict[int, tuple[int, int]]) -> None:
    assert EventCursor.parse(str(EventCursor(places))) == EventCursor(places)


def test_two_hundred_and_fifty_six_shards_fit_into_a_header() -> None:
    cursor = EventCursor(dict.fromkeys(range(1, 257), (10**12, 10**6)))
    assert EventCursor.parse(str(cursor)) == cursor
