"""One worker's data that waits for the store: limited, in order, kept while the store is away."""

import asyncio
from collections.abc import Mapping

import pytest

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Times
from boxsched.gateway.message_queue import LEAST_BYTES, MAX_WAITING_BYTES, MessageQueue
from boxsched.gateway.presence import Beats
from boxsched.model import WorkerId
from boxsched.protocol.workers import WorkerConnection


async def stored(group: list[int]) -> None:
    """Does nothing: the queue is not run."""


async def test_many_small_messages_are_limited_like_few_large_ones() -> None:
    queue: MessageQueue[int] = MessageQueue(stored, Times())
    for number in range(MAX_WAITING_BYTES // LEAST_BYTES):
        await queue.put(number, 1)
    waiting = asyncio.create_task(queue.put(-1, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(20):
        await waiting
    running.cancel()


async def test_a_message_larger_than_the_limit_does_not_wait_for_ever() -> None:
    queue: MessageQueue[int] = MessageQueue(stored, Times())
    async with asyncio.timeout(20):
        await queue.put(1, MAX_WAITING_BYTES + 1)


class BeatingLink:
    connection = WorkerConnection(WorkerId(1), 1)
    problem = ghosts = noted = None
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.acked: list[int] = []

    def ack(self, number: int, *, end: object = ()) -> None:
        self.acked.append(number)


async def test_heartbeats_that_arrive_during_a_failed_write_are_answered_by_the_next() -> None:
    link = BeatingLink()

    class Store:
        away = True

        async def beat(self, *arguments: object) -> Mapping[WorkerId, bool]:
            if self.away:
                beats.add(link, 2)  # type: ignore[arg-type]
                raise StoreAway("away for the test")
            assert arguments[2] == {}, "no problem, no entry"
            return {WorkerId(1): False}

    store = Store()
    beats = Beats(store, 1.0, lambda one: True, 60.0)  # type: ignore[arg-type]
    beats.add(link, 1)  # type: ignore[arg-type]
    with pytest.raises(StoreAway):
        await beats.write()
    assert link.acked == []
    store.away = False
    await beats.write()
    assert link.acked == [1, 2]
