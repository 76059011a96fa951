"""The database goes and comes, workers that do not read, and many at once."""

import asyncio
import socket as sockets
from pathlib import Path

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.protocol import inbox, wire
from tests.gateway.house import QUICK, House, Worker, passed, started


async def test_a_database_that_is_away_loses_no_connection(house: House) -> None:
    worker = await house.worker()
    await house.take_boxes()
    await house.start(0)
    (task,) = (await worker.level()).tasks
    asked = len(house.asked)
    house.unsteady.away = True
    await worker.say(wire.Said(1, (started(task),)))
    await worker.say(wire.Logged(2, (wire.Chunk(task.job, 1, 0, b"hello\n"),)))
    await worker.say(wire.Said(3, (passed(task),)))
    await worker.say(wire.Beat(4))
    for call in ("ask", "append_log", "beat"):
        await house.unsteady.until(house.unsteady.refused, call, 3)
    house.gateway.look([worker.id])
    await house.unsteady.until(house.unsteady.refused, "assignments", 2)
    assert not [one for one in worker.waiting if isinstance(one, wire.Ack)]
    assert len(house.asked) == asked

    house.unsteady.away = False
    assert {(await worker.next(wire.Ack)).number for _ in range(4)} == {1, 2, 3, 4}
    assert house.reports() == [started(task), passed(task)]
    assert await house.log_of(task) == b"hello\n"
    await house.start(1)
    await worker.runs(2)


async def test_a_worker_that_connects_in_between_is_accepted_afterwards(house: House) -> None:
    house.unsteady.away = True
    worker = await house.dial()
    await worker.hello()
    await house.unsteady.until(house.unsteady.refused, "connect_worker", 3)
    house.unsteady.away = False
    await worker.next(wire.Welcome)
    await worker.level()


async def test_a_worker_that_gives_up_in_between_is_not_accepted(house: House) -> None:
    house.unsteady.away = True
    worker = await house.dial()
    await worker.hello()
    await house.unsteady.until(house.unsteady.refused, "connect_worker", 1)
    worker.socket._response.connection.transport.abort()  # type: ignore[union-attr]
    other = await house.dial()
    await other.hello("other")
    await house.unsteady.until(house.unsteady.refused, "connect_worker", 5)
    house.unsteady.away = False
    await other.next(wire.Welcome)
    assert [one.name for one in await house.store.workers()] == ["other"]


async def test_a_hint_is_not_answered_while_the_database_is_away(house: House) -> None:
    worker = await house.worker()
    house.unsteady.away = True
    with pytest.raises(StoreAway):
        await house.gateway.looked([worker.id])


async def test_the_end_of_a_connection_is_stored_when_the_database_is_back(house: House) -> None:
    worker = await house.worker()
    house.unsteady.away = True
    await worker.socket.close()
    await house.unsteady.until(house.unsteady.refused, "disconnect_workers")
    house.unsteady.away = False
    await house.disconnected(worker)


async def test_the_number_of_callers_that_wait_for_the_database_is_limited(tmp_path: Path) -> None:
    """More is not read; a worker that is not read is not silent, nor let go."""
    async with House.open(tmp_path, attrs.evolve(QUICK, silence=0.3)) as house:
        worker = await house.worker()
        await house.take_boxes()
        await house.start(0)
        (task,) = (await worker.level()).tasks
        house.unsteady.away = True
        data = b"x" * (64 << 10)
        before = house.gateway.figures.messages

        async def pour() -> None:
            for number in range(200):
                chunks = (wire.Chunk(task.job, 1, number * len(data), data),)
                await worker.say(wire.Logged(number, chunks))

        pouring = asyncio.create_task(pour())
        await house.unsteady.until(house.unsteady.refused, "append_log", 20)
        await asyncio.sleep(0.5)  # longer than it may be silent
        assert house.gateway.figures.messages - before < 40
        assert not pouring.done()
        house.unsteady.away = False
        for number in range(200):
            assert (await worker.next(wire.Ack)).number == number
        await pouring
        assert await house.log_of(task) == 200 * data


async def test_a_worker_that_does_not_read_is_cut(tmp_path: Path) -> None:
    async with House.open(tmp_path, attrs.evolve(QUICK, write=0.5, level=0.01)) as house:
        well = await house.worker("well")
        deaf = await house.worker("deaf", boxes=1)
        deaf.socket._response.connection.protocol.pause_reading()  # type: ignore[union-attr]
        raw = deaf.socket.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)

        async def shout() -> None:
            number = 0
            while True:
                number += 1
                # Each is stale, so that its Ack is as long as it is.
                reports = tuple(inbox.JobStarted(10**15 + n, 1, 0.0) for n in range(2_000))
                await deaf.say(wire.Said(number, reports))

        shouting = asyncio.create_task(shout())
        while house.gateway.figures.ended["slow"] == 0:
            await well.level()
        shouting.cancel()
        await asyncio.gather(shouting, return_exceptions=True)
        await house.disconnected(deaf)
        assert list(house.gateway.connected) == [well.id]
        await well.beat()


@pytest.mark.slow
async def test_five_hundred_workers_connect_at_once(tmp_path: Path) -> None:
    async with House.open(tmp_path, attrs.evolve(QUICK, hello=20.0)) as house:
        house.session._connector._limit = 0  # type: ignore[union-attr]

        async def come(number: int) -> Worker:
            return await house.worker(f"w{number}", boxes=2)

        workers = await asyncio.gather(*(come(n) for n in range(500)))
        assert len({worker.id for worker in workers}) == 500
        assert house.gateway.figures.connected == 500
        await asyncio.gather(*(worker.beat() for worker in workers))
        assert house.unsteady.done["beat"] < 100
        assert house.gateway.figures.look_ups < 500
        await house.gateway.close()
        assert list(house.gateway.connected) == []
        await asyncio.gather(*(worker.socket.close() for worker in workers))
