"""What a node keeps and sends: limited, in order, each once."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from boxsched.errors import StoreAway
from boxsched.gateway import message_queue, worker_sender
from boxsched.gateway.message_queue import MessageQueue
from boxsched.gateway.outputs import within
from boxsched.gateway.worker_sender import WorkerSender
from boxsched.protocol import wire
from boxsched.worker.agent.spool import most_bytes
from tests.gateway.fakes import AT_ONCE, FakeSocket
from tests.gateway.harness import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("offset", "size", "kept"),
    [(0, 10, 10), (90, 10, 10), (91, 10, 9), (99, 10, 1), (100, 10, 0), (200, 10, 0)],
)
def test_a_chunk_is_kept_up_to_the_limit(offset: int, size: int, kept: int) -> None:
    limit = 1_000
    text = within(most_bytes(limit) - 100 + offset, b"#" * size, limit)
    assert text.count(b"#") == kept
    assert (b"rest was cut" in text) == (0 < kept < size)


def test_the_mark_of_a_cut_log_says_the_limit_in_plain_units() -> None:
    for limit, said in ((3 << 20, b"3 MiB"), ((3 << 20) + 1, b"3145729 bytes"), (7, b"7 bytes")):
        cut = within(limit, b"x" * (most_bytes(limit) + 1), limit)
        assert b"this node stores " + said + b" of a log" in cut


async def test_a_written_queue_has_its_whole_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_queue, "MAX_WAITING_BYTES", 4 * message_queue.LEAST_BYTES)
    groups: list[list[int]] = []
    written = asyncio.Event()

    async def store(group: list[int]) -> None:
        groups.append(group)
        written.set()

    queue: MessageQueue[int] = MessageQueue(store, AT_ONCE)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        for first in (0, 4, 8):
            written.clear()
            for number in range(4):  # exactly the limit
                await queue.put(first + number, 1)
            await written.wait()
    running.cancel()
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


async def test_a_large_message_counts_with_its_size() -> None:
    queue: MessageQueue[int] = MessageQueue(_never, AT_ONCE)
    await queue.put(1, message_queue.MAX_WAITING_BYTES)
    more = asyncio.create_task(queue.put(2, 1))
    await asyncio.sleep(0)
    assert not more.done()
    more.cancel()


async def _never(group: list[int]) -> None:
    raise AssertionError("the queue is not run")


async def test_heartbeats_that_were_not_stored_are_written_before_the_next() -> None:
    groups: list[list[int]] = []
    done = asyncio.Event()

    async def store(group: list[int]) -> None:
        groups.append(list(group))
        if len(groups) == 1:
            await queue.put(2, 1)
        if len(groups) < 3:
            raise StoreAway("away for the test")
        if len(groups) == 4:
            done.set()

    queue: MessageQueue[int] = MessageQueue(store, AT_ONCE)
    await queue.put(1, 1)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    running.cancel()
    assert groups == [[1], [1], [1], [2]]


async def test_texts_go_before_acks_and_the_level_comes_last() -> None:
    line = FakeSocket()
    line.takes.set()
    sender = WorkerSender(cast(Any, line))
    sender.level(())
    sender.ack(wire.Ack(1))
    sender.ack(wire.Ack(2))
    sender.text(wire.encode(wire.Leave()))
    assert list(map(wire.from_node.decode, sender._take())) == [
        wire.Leave(),
        wire.Ack(1),
        wire.Ack(2),
        wire.Level(()),
    ]
    assert sender._take() == [], "each goes once"


async def test_each_kind_of_message_wakes_the_sender() -> None:
    line = FakeSocket()
    line.takes.set()
    sender = WorkerSender(cast(Any, line))
    running = asyncio.create_task(sender.run())
    sends: tuple[Callable[[], None], ...] = (
        lambda: sender.text(wire.encode(wire.Leave())),
        lambda: sender.ack(wire.Ack(1)),
        lambda: sender.level(()),
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        for send in sends:
            line.asked.clear()
            send()
            await line.asked.wait()
    running.cancel()
    assert line.sent == [[wire.Leave()], [wire.Ack(1)], [wire.Level(())]]


async def test_the_number_of_pending_acks_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_sender, "MAX_UNSENT_ACKS", 3)
    line = FakeSocket()
    sender = WorkerSender(cast(Any, line))
    sender.ack(wire.Ack(1))
    sender.ack(wire.Ack(2))
    assert sender._room.is_set()
    sender.ack(wire.Ack(3))
    assert not sender._room.is_set()
    running = asyncio.create_task(sender.run())
    line.takes.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await sender.room()
    running.cancel()
    assert line.sent == [[wire.Ack(1), wire.Ack(2), wire.Ack(3)]]
