"""A node's sender during outages, and at its end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from boxsched.errors import StoreAway
from boxsched.outgoing import sender as module
from boxsched.outgoing.sender import CLAIM_SECONDS
from boxsched.store import open_store
from tests.contract.store_data import Leader
from tests.lingering import Lingering
from tests.outgoing.receiver import Receiver
from tests.outgoing.sender_harness import SenderHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SenderHarness]:
    store = open_store(f"sqlite:///{tmp_path}/boxsched.sqlite", tmp_path)
    await store.open()
    opened = SenderHarness(store, await Leader(store).lead())
    yield opened
    for guard in opened.guards:
        await guard.close()
    await store.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.open() as opened:
        yield opened


async def test_reports_are_stored_later_if_the_store_is_away(
    harness: SenderHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> Any:
        raise StoreAway("away for the test")

    await harness.notify(receiver.url)
    await harness.sender.run_once()
    await harness.sender.idle()
    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "settle_and_claim", away)
        for _ in range(2):
            with pytest.raises(StoreAway):
                await harness.sender.run_once()
    assert (await harness.row()).state == "waiting"
    await harness.sender.run_once()
    assert ((await harness.row()).state, len(receiver.got)) == ("delivered", 1)


async def test_notifications_of_a_dead_node_are_sent_by_another_when_the_claim_ends(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.gate.clear()
    await harness.notify(receiver.url)
    assert await harness.sender.run_once() == 1
    other = harness.node()
    harness.clock.time += CLAIM_SECONDS - 0.001
    assert await other.run_once() == 0
    harness.clock.time += 0.001
    assert await other.run_once() == 1
    receiver.gate.set()
    await other.idle()
    await other.run_once()
    row = await harness.row()
    assert (row.state, row.attempts) == ("delivered", 2)
    deliveries = {one.headers["X-Boxsched-Delivery"] for one in await receiver.until(2)}
    assert len(deliveries) == 1, "the receiver can tell that it is the same"


async def test_the_sender_continues_through_outages_counts_and_ends_what_is_under_way(
    harness: SenderHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROUND_SECONDS", "AWAY_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr("boxsched.outgoing.guard.TOTAL_SECONDS", 3_600.0)
    sender = harness.node()
    away, measured, again = asyncio.Event(), asyncio.Event(), asyncio.Event()
    due_hosts, waiting = harness.store.due_hosts, harness.store.waiting_notifications

    async def first_away(now: float) -> list[str]:
        if not away.is_set():
            away.set()
            raise StoreAway("away for the test")
        if measured.is_set():
            again.set()
        return await due_hosts(now)

    async def counted(limit: int) -> int:
        found = await waiting(limit)
        if found:
            measured.set()
        return found

    monkeypatch.setattr(harness.store, "due_hosts", first_away)
    monkeypatch.setattr(harness.store, "waiting_notifications", counted)
    receiver.gate.clear()
    await harness.notify(receiver.url)
    running = asyncio.create_task(sender.run())
    async with asyncio.timeout(30):
        await receiver.until(1)
        await again.wait()
        assert sender.waiting == 1
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()
    assert not sender._tasks
    assert harness.guards[-1].session(URL(receiver.url)).closed


async def test_deliveries_have_ended_before_their_connections_are_closed(
    harness: SenderHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, delivery, when_closed = harness.node(), Lingering(), list[bool]()
    guard = harness.guards[-1]
    close = guard.close

    async def closing() -> None:
        when_closed.append(delivery.ended)
        await close()

    monkeypatch.setattr(guard, "close", closing)
    sender._tasks.add(asyncio.create_task(delivery.work()))
    running = asyncio.create_task(sender.run())
    await delivery.begun.wait()
    await harness.store.ping()
    running.cancel()
    await asyncio.wait([running])
    assert when_closed == [True]


async def test_an_idle_sender_looks_again_only_after_its_pause(
    harness: SenderHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 3_600.0)
    rounds: list[int] = []
    stored = asyncio.Event()
    run_once = harness.sender.run_once

    async def counting() -> int:
        rounds.append(await run_once())
        if len(rounds) == 2:  # the end of a delivery wakes it
            stored.set()
        return rounds[-1]

    monkeypatch.setattr(harness.sender, "run_once", counting)
    await harness.notify(receiver.url)
    running = asyncio.create_task(harness.sender.run())
    async with asyncio.timeout(30):
        await stored.wait()
        assert (await harness.row()).state == "delivered"
        for _ in range(20):
            await harness.store.ping()
    assert rounds == [1, 0]
    running.cancel()
    await asyncio.wait([running])
