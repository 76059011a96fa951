"""A node's sender with a real store and real receivers, and a held clock."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from boxsched.model import ProjectId, WorkloadId
from boxsched.outgoing import sender as module
from boxsched.outgoing.retrying import GIVEN_UP_SECONDS
from boxsched.outgoing.sender import AT_ONCE, PER_HOST
from boxsched.secrets.ring import KeyRing, new_key
from boxsched.secrets.vault import Vault
from boxsched.store import open_store
from boxsched.store.records import Workload
from tests.contract.store_data import NOW, Leader
from tests.outgoing.receiver import Receiver, json_of
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


async def test_due_notifications_are_claimed_sent_and_stored(
    harness: SenderHarness, receiver: Receiver
) -> None:
    assert (harness.sender.waiting, dict(harness.sender.counts)) == (0, {})
    assert await harness.sender.run_once() == 0
    (workload,) = await harness.notify(receiver.url)
    assert await harness.sender.run_once() == 1
    await harness.sender.idle()
    assert (await harness.row()).state == "waiting", "stored with the next round"
    assert await harness.sender.run_once() == 0
    row = await harness.row()
    assert (row.state, row.status, row.error, row.attempts, row.done_at) == (
        "delivered", 200, None, 1, NOW,
    )  # fmt: skip
    assert [json_of(one)["workload"] for one in receiver.got] == [{"id": workload}]
    assert harness.sender.counts == {"delivered": 1}
    assert await harness.round() == 0


async def test_any_error_during_a_try_is_a_failed_try(
    harness: SenderHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise OverflowError("too much")

    await harness.notify(receiver.url)
    with monkeypatch.context() as patched:
        patched.setattr(module, "send", broken)
        assert await harness.round() == 1
    row = await harness.row()
    assert (row.state, row.error) == ("waiting", "it could not be sent: OverflowError")
    assert row.due_at == NOW + 5.0, "and the next try waits, as after any other"


async def test_what_is_deleted_while_it_is_claimed_is_not_sent(
    harness: SenderHarness, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(ids: Sequence[WorkloadId], _: int) -> Sequence[Workload]:
        return ()

    await harness.notify(receiver.url)
    monkeypatch.setattr(harness.store, "workloads_of", gone)
    assert await harness.round() == 1
    assert receiver.got == []


async def test_failed_tries_are_repeated_after_doubling_pauses(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status = 500
    await harness.notify(receiver.url)
    for attempts, pause in enumerate((5.0, 10.0, 20.0), 1):
        began = harness.clock.now()
        assert await harness.round() == 1
        row = await harness.row()
        assert (row.state, row.status, row.error) == ("waiting", 500, "it answered 500")
        assert (row.attempts, row.due_at, row.done_at) == (attempts, began + pause, None)
        harness.clock.time += pause - 0.001
        assert await harness.round() == 0
        harness.clock.time += 0.001
    receiver.status = 200
    assert await harness.round() == 1
    assert (await harness.row()).state == "delivered"
    assert harness.sender.counts == {"failed": 3, "delivered": 1}


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 2.5), (1.0, 7.5)])
async def test_pauses_are_random(
    harness: SenderHarness, receiver: Receiver, chance: float, pause: float
) -> None:
    harness.chance, receiver.status = chance, 500
    await harness.notify(receiver.url)
    await harness.round()
    assert (await harness.row()).due_at == NOW + pause


async def test_a_notification_is_given_up_after_a_day(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status = 500
    await harness.notify(receiver.url)
    harness.clock.time += GIVEN_UP_SECONDS - 1.0
    await harness.round()
    assert (await harness.row()).state == "waiting"
    harness.clock.time = (await harness.row()).due_at
    await harness.round()
    row = await harness.row()
    assert (row.state, row.status, row.error) == ("dead", 500, "it answered 500")
    assert (row.attempts, row.done_at) == (2, harness.clock.now())
    assert harness.sender.counts == {"failed": 1, "dead": 1}
    assert await harness.round() == 0


async def test_at_the_end_of_the_day_a_try_is_the_last_one(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status = 500
    await harness.notify(receiver.url)
    harness.clock.time += GIVEN_UP_SECONDS
    await harness.round()
    assert (await harness.row()).state == "dead"


async def test_a_notification_that_can_never_be_sent_is_given_up_at_once(
    harness: SenderHarness, receiver: Receiver
) -> None:
    await harness.notify(receiver.url)
    assert await harness.round(harness.node(allowed=())) == 1
    row = await harness.row()
    assert (row.state, row.status, row.attempts) == ("dead", None, 1)
    assert "--allow-outgoing 127.0.0.1" in str(row.error)


async def test_a_secret_that_cannot_be_opened_here_is_tried_again(
    harness: SenderHarness, receiver: Receiver
) -> None:
    vault = Vault(KeyRing.of(new_key(), "a test"))

    def seal(project: ProjectId, version: int) -> str:
        return vault.seal(f"project/{project}", "hook.1", version, "s3cret")

    await harness.notify(receiver.url, seal=seal)
    assert await harness.round() == 1
    row = await harness.row()
    assert (row.state, row.status, receiver.got) == ("waiting", None, [])
    assert "this node has no key for secrets" in str(row.error)
    harness.clock.time = row.due_at
    assert await harness.round(harness.node(vault)) == 1
    assert (await harness.row()).state == "delivered"
    assert "X-Boxsched-Signature" in receiver.got[0].headers


async def test_a_host_that_asks_for_a_pause_gets_nothing_until_it_is_over(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "100"}
    async with Receiver.open() as other:
        (first,) = await harness.notify(receiver.url)
        await harness.round()
        assert (await harness.row()).due_at == NOW + 100.0
        harness.clock.time += 99.0
        await harness.end(first)
        await harness.notify(receiver.url, other.url)
        assert await harness.round() == 1, "another host does not wait"
        assert (len(receiver.got), len(other.got)) == (1, 1)
        receiver.status = 200
        harness.clock.time += 1.0
        assert await harness.round() == 2, "one after another of a workload"
        await harness.sender.idle()
        await harness.sender.run_once()
        assert {row.state for row in await harness.rows()} == {"delivered"}
        assert len(receiver.got) == 4


async def test_one_receiver_stops_the_others_of_its_host_for_ten_minutes_at_most(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": "86400"}
    await harness.notify(f"{receiver.url}/greedy")
    await harness.round()
    assert (await harness.row()).due_at == NOW + 86_400.0, "itself it waits as long as it asks"
    await harness.notify(f"{receiver.url}/other")
    harness.clock.time += 599.0
    assert await harness.round() == 0
    harness.clock.time += 1.0
    assert await harness.round() == 1
    assert [one.path for one in receiver.got] == ["/greedy", "/other"]


async def test_a_requested_pause_does_not_shorten_ours(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "1"}
    await harness.notify(receiver.url)
    await harness.round()
    assert (await harness.row()).due_at == NOW + 5.0


async def test_each_host_and_all_hosts_together_have_a_limit_of_running_deliveries(
    harness: SenderHarness,
) -> None:
    hosts = AT_ONCE // PER_HOST + 1
    async with contextlib.AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(Receiver.open()) for _ in range(hosts)]
        for one in receivers:
            one.gate.clear()
            await harness.notify(*[one.url] * (PER_HOST + 2))
        assert await harness.sender.run_once() == AT_ONCE
        assert await harness.sender.run_once() == 0
        busy = [one for one in receivers if one.got or await got(one, PER_HOST)]
        assert len(busy) == hosts - 1
        (idle,) = [one for one in receivers if one not in busy]
        busy[0].gate.set()
        await until(harness, lambda: harness.sender.counts["delivered"] == PER_HOST)
        assert await harness.sender.run_once() == 2
        assert len(await busy[0].until(PER_HOST + 2)) == PER_HOST + 2
        await until(harness, lambda: harness.sender.counts["delivered"] == PER_HOST + 2)
        assert await harness.sender.run_once() == PER_HOST, "the one that had none"
        assert len(await idle.until(PER_HOST)) == PER_HOST
        for one in receivers:
            one.gate.set()
        await harness.sender.idle()


async def test_a_host_gets_its_share_again_only_when_deliveries_have_ended(
    harness: SenderHarness, receiver: Receiver
) -> None:
    await harness.notify(*[receiver.url] * (3 * PER_HOST))
    for _ in range(3):
        receiver.gate.clear()
        assert await harness.sender.run_once() == PER_HOST
        assert await harness.sender.run_once() == 0
        receiver.gate.set()
        await harness.sender.idle()
    assert await harness.sender.run_once() == 0
    assert {row.state for row in await harness.rows()} == {"delivered"}


async def test_failing_hosts_together_have_a_limit_of_tries_a_second(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status = 500
    await harness.notify(*[receiver.url] * 100)
    begun = []
    for _ in range(6):
        begun.append(await harness.sender.run_once())
        await harness.sender.idle()
    assert sum(begun) == 64, "its burst"
    harness.clock.time += 0.125
    assert await harness.round() == 12
    async with Receiver.open() as healthy:
        await harness.notify(*[healthy.url] * PER_HOST)
        assert await harness.round() == PER_HOST, "others do not wait for them"
    receiver.status = 200
    harness.clock.time += 0.125
    while await harness.round():
        harness.clock.time += 0.125
    assert len(await receiver.until(100)) == 100, "it answers again"


async def test_tries_of_failing_hosts_are_divided_by_chance(
    harness: SenderHarness, receiver: Receiver
) -> None:
    receiver.status = 500
    async with Receiver.open(500) as other:
        for one in (receiver, other):
            await harness.notify(*[one.url] * 50)
        for _ in range(6):
            await harness.round()
        harness.draw = random.Random(7).random
        before = len(receiver.got), len(other.got)
        for _ in range(12):
            harness.clock.time += 1 / 64
            assert 1 <= await harness.round() <= 2
        assert len(receiver.got) > before[0]
        assert len(other.got) > before[1]


async def got(receiver: Receiver, count: int) -> bool:
    """Whether this many requests arrive."""
    try:
        await receiver.until(count, seconds=1.0)
    except TimeoutError:
        return False
    return True


async def until(harness: SenderHarness, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.wait(harness.sender._tasks, return_when=asyncio.FIRST_COMPLETED)
