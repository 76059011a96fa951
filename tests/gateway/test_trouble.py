"""A database that is away and returns, workers that do not read, and many workers at once."""

import asyncio
import socket as sockets
from pathlib import Path

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.protocol import inbox, wire
from tests.gateway.harness import QUICK, FakeWorker, GatewayHarness, passed, started


async def test_no_connection_ends_while_the_database_is_away(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await harness.take_boxes()
    await harness.start(0)
    (task,) = (await worker.level()).tasks
    asked = len(harness.asked)
    harness.unsteady.away = True
    await worker.say(wire.Said(1, (started(task),)))
    await worker.say(wire.Logged(2, (wire.Chunk(task.job, 1, 0, b"hello\n"),)))
    await worker.say(wire.Said(3, (passed(task),)))
    await worker.say(wire.Beat(4))
    for call in ("ask", "append_log", "beat"):
        await harness.unsteady.until(harness.unsteady.refused, call, 3)
    harness.gateway.look([worker.id])
    await harness.unsteady.until(harness.unsteady.refused, "assignments", 2)
    assert not [one for one in worker.waiting if isinstance(one, wire.Ack)]
    assert len(harness.asked) == asked

    harness.unsteady.away = False
    assert {(await worker.next(wire.Ack)).number for _ in range(4)} == {1, 2, 3, 4}
    assert harness.reports() == [started(task), passed(task)]
    assert await harness.log_of(task) == b"hello\n"
    await harness.start(1)
    await worker.runs(2)


async def test_a_worker_that_connects_meanwhile_is_accepted_afterwards(
    harness: GatewayHarness,
) -> None:
    harness.unsteady.away = True
    worker = await harness.dial()
    await worker.hello()
    await harness.unsteady.until(harness.unsteady.refused, "connect_worker", 3)
    harness.unsteady.away = False
    await worker.next(wire.Welcome)
    await worker.level()


async def test_a_worker_that_gives_up_meanwhile_is_not_accepted(harness: GatewayHarness) -> None:
    harness.unsteady.away = True
    worker = await harness.dial()
    await worker.hello()
    await harness.unsteady.until(harness.unsteady.refused, "connect_worker", 1)
    worker.socket._response.connection.transport.abort()  # type: ignore[union-attr]
    other = await harness.dial()
    await other.hello("other")
    await harness.unsteady.until(harness.unsteady.refused, "connect_worker", 5)
    harness.unsteady.away = False
    await other.next(wire.Welcome)
    assert [one.name for one in await harness.store.workers()] == ["other"]


async def test_a_hint_is_not_answered_while_the_database_is_away(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    harness.unsteady.away = True
    with pytest.raises(StoreAway):
        await harness.gateway.looked([worker.id])


async def test_the_end_of_a_connection_is_stored_when_the_database_is_back(
    harness: GatewayHarness,
) -> None:
    worker = await harness.worker()
    harness.unsteady.away = True
    await worker.socket.close()
    await harness.unsteady.until(harness.unsteady.refused, "disconnect_workers")
    harness.unsteady.away = False
    await harness.disconnected(worker)


async def test_the_number_of_callers_that_wait_for_the_database_is_limited(tmp_path: Path) -> None:
    """Nothing more is read; a worker that is not read is neither silent nor disconnected."""
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, silence=0.3)) as harness:
        worker = await harness.worker()
        await harness.take_boxes()
        await harness.start(0)
        (task,) = (await worker.level()).tasks
        harness.unsteady.away = True
        data = b"x" * (64 << 10)
        before = harness.gateway.figures.messages

        async def pour() -> None:
            for number in range(200):
                chunks = (wire.Chunk(task.job, 1, number * len(data), data),)
                await worker.say(wire.Logged(number, chunks))

        pouring = asyncio.create_task(pour())
        await harness.unsteady.until(harness.unsteady.refused, "append_log", 20)
        await asyncio.sleep(0.5)  # longer than it may be silent
        assert harness.gateway.figures.messages - before < 40
        assert not pouring.done()
        harness.unsteady.away = False
        for number in range(200):
            assert (await worker.next(wire.Ack)).number == number
        await pouring
        assert await harness.log_of(task) == 200 * data


async def test_a_worker_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, write=0.5, level=0.01)) as harness:
        well = await harness.worker("well")
        deaf = await harness.worker("deaf", boxes=1)
        deaf.socket._response.connection.protocol.pause_reading()  # type: ignore[union-attr]
        raw = deaf.socket.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)

        async def shout() -> None:
            number = 0
            while True:
                number += 1
                # Each is stale, so its Ack is as long as possible.
                reports = tuple(inbox.JobStarted(10**15 + n, 1, 0.0) for n in range(2_000))
                await deaf.say(wire.Said(number, reports))

        shouting = asyncio.create_task(shout())
        while harness.gateway.figures.ended["slow"] == 0:
            await well.level()
        shouting.cancel()
        await asyncio.gather(shouting, return_exceptions=True)
        await harness.disconnected(deaf)
        assert list(harness.gateway.connected) == [well.id]
        await well.beat()


@pytest.mark.slow
async def test_five_hundred_workers_connect_at_once(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, hello=20.0)) as harness:
        harness.session._connector._limit = 0  # type: ignore[union-attr]
        harness.token = attrs.evolve(harness.token, max_workers=500)

        async def come(number: int) -> FakeWorker:
            return await harness.worker(f"w{number}", boxes=2)

        workers = await asyncio.gather(*(come(n) for n in range(500)))
        assert len({worker.id for worker in workers}) == 500
        assert harness.gateway.figures.connected == 500
        await asyncio.gather(*(worker.beat() for worker in workers))
        assert harness.unsteady.done["beat"] < 100
        assert harness.gateway.figures.look_ups < 500
        await harness.gateway.close()
        assert list(harness.gateway.connected) == []
        await asyncio.gather(*(worker.socket.close() for worker in workers))
