"""Every reader sees every event, in order, whatever it missed."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched import feed as feed_module
from boxsched.feed import EventCursor, EventFeed, Subscription
from boxsched.store.contract import SHARD
from boxsched.store.values import StoredEvent
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


def connected(shop: Shop) -> EventFeed:
    """A feed that the shop's engine publishes to."""
    feed = EventFeed(shop.store, SHARD)
    shop.publish = feed.publish
    return feed


async def table(shop: Shop) -> list[StoredEvent]:
    return await shop.store.events_after(SHARD, 0, 0, 100_000)


async def read(subscription: Subscription, count: int) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    async for event in subscription:
        events.append(event)
        if len(events) == count:
            break
    return events


async def test_from_the_beginning_and_on_into_the_present(shop: Shop) -> None:
    feed = connected(shop)
    await shop.build()
    async with feed.subscribe(EventCursor(SHARD, 0, 0)) as events:
        before = await table(shop)
        assert await read(events, len(before)) == before
        await shop.build(branch="x")
        after = (await table(shop))[len(before) :]
        assert after and await read(events, len(after)) == after


async def test_without_a_cursor_only_what_comes(shop: Shop) -> None:
    feed = connected(shop)
    await shop.build()
    count = len(await table(shop))
    async with feed.subscribe(None) as events:
        await shop.build(branch="x")
        new = (await table(shop))[count:]
        assert await read(events, len(new)) == new


async def test_a_batch_that_was_committed_but_not_published_is_read_too(shop: Shop) -> None:
    feed = connected(shop)
    async with feed.subscribe(EventCursor(SHARD, 0, 0)) as events:
        await read(events, len(await table(shop)))
        count = len(await table(shop))
        shop.publish = lambda batch, events: None
        await shop.build()
        shop.publish = feed.publish
        await shop.build(branch="x")
        new = (await table(shop))[count:]
        assert await read(events, len(new)) == new


async def test_after_a_reload_readers_look_at_the_table(shop: Shop) -> None:
    feed = connected(shop)
    async with feed.subscribe(None) as events:
        reading = asyncio.create_task(read(events, 1))
        await asyncio.sleep(0)
        shop.publish = lambda batch, events: None  # its commit's outcome was unknown
        await shop.build()
        feed.recheck()
        assert (await asyncio.wait_for(reading, 10))[0].type == "workload.registered"


async def test_a_reader_that_falls_behind_reads_the_table(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "QUEUED_AT_MOST", 2_000)
    monkeypatch.setattr(feed_module, "PAGE", 7)
    feed = connected(shop)
    chance = random.Random(1)
    seen: list[StoredEvent] = []
    async with feed.subscribe(EventCursor(SHARD, 0, 0)) as events:
        for number in range(40):
            await shop.build(branch=f"b{number}")
            for assignment in await shop.assignments():
                await shop.finish(assignment)
            if chance.random() < 0.3:
                there = len(await table(shop)) - len(seen)
                seen += await read(events, min(there, chance.randint(1, 12)))
        rest = len(await table(shop)) - len(seen)
        seen += await asyncio.wait_for(read(events, rest), 20)
    assert seen == await table(shop)


async def test_it_ends_when_the_node_stops(shop: Shop) -> None:
    feed = connected(shop)
    async with feed.subscribe(None) as events:
        reading = asyncio.create_task(read(events, 10_000))
        await asyncio.sleep(0)
        feed.close()
        assert await asyncio.wait_for(reading, 10) == []


@pytest.mark.parametrize("text", ["", "1.2", "1.2.x", "-1.2.3", "1.2.3.4", "9" * 70, "1.2.²"])
def test_odd_cursors_are_told(text: str) -> None:
    assert EventCursor.parse(text) is None


def test_a_cursor_reads_as_it_is_written() -> None:
    assert EventCursor.parse(str(EventCursor(1, 22, 3))) == EventCursor(1, 22, 3)
