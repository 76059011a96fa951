"""What a worker that uses long polling reads last: why its connection ended."""

import asyncio

import pytest

from boxsched.gateway.long_polls import Ended, PolledLine
from boxsched.protocol import wire
from tests.gateway.fakes import HELLO, TOKEN
from tests.gateway.harness import PATIENCE_SECONDS, GatewayHarness
from tests.gateway.test_older_connections import Gate

GREETING = wire.encode(HELLO).decode()


def of_version(version: int) -> str:
    return f'{{"type":"hello","version":{version}}}'


async def polling(harness: GatewayHarness, first: str = GREETING) -> PolledLine[str]:
    """A connection that has said ``first``."""
    polls = harness.gateway.polls
    line = polls.find(polls.open("192.0.2.7", TOKEN), TOKEN)
    await line.put(1, [first])
    return line


async def end_of(line: PolledLine[str]) -> tuple[list[wire.FromNode], str]:
    """Read until the end; return all messages, and the end's code and reason."""
    read: list[wire.FromNode] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                read += map(wire.from_node.decode, await line.take(len(read)))
            except Ended as end:
                return read, end.message


@pytest.mark.parametrize(
    ("first", "refusal", "end"),
    [
        ("odd", [], "1008 no_hello"),
        (of_version(wire.VERSION - 1), [("version", False)], "1008 version"),
        (of_version(wire.VERSION + 1), [("version", True)], "1013 version"),
        (of_version(wire.VERSION), [("invalid", False)], "1008 invalid"),
    ],
)
async def test_a_worker_that_does_not_come_in(
    harness: GatewayHarness, first: str, refusal: list[tuple[str, bool]], end: str
) -> None:
    read, told = await end_of(await polling(harness, first))
    assert [(one.code, one.again) for one in read if isinstance(one, wire.Refused)] == refusal
    assert (len(read), told) == (len(refusal), end)


async def test_a_worker_that_has_a_newer_connection(harness: GatewayHarness) -> None:
    older = await polling(harness)
    assert isinstance(wire.from_node.decode((await older.take(0))[0]), wire.Welcome)
    await polling(harness)
    assert (await end_of(older))[1] == "1000 replaced"


async def test_a_worker_that_comes_in_after_its_newer_connection(harness: GatewayHarness) -> None:
    gate = Gate(harness)
    older = await polling(harness)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await gate.reached.wait()
    newer = await polling(harness)
    assert await newer.take(0), "it is welcome"
    gate.opened.set()
    assert await end_of(older) == ([], "1000 gone")


async def test_a_worker_that_breaks_the_protocol(harness: GatewayHarness) -> None:
    line = await polling(harness)
    await line.put(2, [GREETING])
    assert (await end_of(line))[1] == "1008 order"


async def test_a_worker_of_a_node_that_stops(harness: GatewayHarness) -> None:
    line = await polling(harness)
    await line.take(0)
    closing = asyncio.create_task(harness.gateway.close())
    read, told = await end_of(line)
    assert wire.Leave() in read
    assert told == "1012 leaving"
    await closing
