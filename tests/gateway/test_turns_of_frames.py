"""A worker that sends many frames at once leaves the event loop to others meanwhile."""

import asyncio
from pathlib import Path

from boxsched.gateway.gateway import Gateway
from boxsched.gateway.link import MESSAGES_AT_ONCE, REPORTS_AT_ONCE
from boxsched.protocol import inbox, wire
from tests.contract.store_data import NOW
from tests.gateway.fakes import HELLO, TOKEN
from tests.gateway.harness import PATIENCE_SECONDS, GatewayHarness, passed, started

COUNT = 20_000


async def most_at_once(gateway: Gateway, count: int) -> int:
    """Wait until the node has read ``count`` messages; return how many it read in one step of the
    event loop, at most.
    """
    before = gateway.figures.messages
    most, end = 0, before + count
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (now := gateway.figures.messages) < end:
            most, before = max(most, now - before), now
            await asyncio.sleep(0)
    return max(most, now - before)


async def test_heartbeats_by_long_polling(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path) as harness:
        polls = harness.gateway.polls
        line = polls.find(polls.open("192.0.2.7", TOKEN), TOKEN)
        await line.put(1, [wire.encode(HELLO).decode()])
        assert isinstance(wire.from_node.decode((await line.take(0))[0]), wire.Welcome)

        async def read() -> None:  # otherwise the node waits with the answers
            after = 0
            while True:
                after += len(await line.take(after))

        reading = asyncio.create_task(read())
        beat = wire.encode(wire.Beat(1)).decode()
        _, most = await asyncio.gather(
            line.put(2, [beat] * COUNT), most_at_once(harness.gateway, COUNT)
        )
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert 1 < most <= MESSAGES_AT_ONCE
        line.lose()


async def test_heartbeats_over_a_web_socket(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path) as harness:
        worker = await harness.worker()

        async def send() -> None:
            for _ in range(COUNT):
                await worker.say(wire.Beat(1))

        async def read() -> None:
            while True:
                await worker.socket.receive()

        reading = asyncio.create_task(read())
        _, most = await asyncio.gather(send(), most_at_once(harness.gateway, COUNT))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert 0 < most <= MESSAGES_AT_ONCE


async def test_reports_that_are_repeated_count_once_and_leave_turns_to_others(
    tmp_path: Path,
) -> None:
    async with GatewayHarness.open(tmp_path) as harness:
        worker = await harness.worker()
        await harness.take_boxes()
        await harness.start(0)
        (task,) = await worker.runs(1)
        ack = await worker.said(*[started(task)] * 5_000, *[passed(task)] * 5_000)
        assert ack.stale == ()
        assert harness.reports() == [started(task), passed(task)]

        foreign = wire.Said(1, (inbox.JobStarted(task.job + 1, task.lease_token, NOW),) * 20_000)
        link = harness.gateway.link(worker.id)
        assert link is not None
        sorting = asyncio.create_task(link._sorted_out([foreign]))
        turns = 0
        while not sorting.done():
            turns += 1
            await asyncio.sleep(0)
        assert sorting.result() == ((), [((task.job + 1, task.lease_token),) * 20_000])
        assert 20_000 / REPORTS_AT_ONCE < turns < 2 * 20_000 / REPORTS_AT_ONCE
