"""The proxy of these tests does what its methods say, before an echo server and a PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.errors import StoreAway
from boxsched.store import open_store
from tests.faults.postgres import Postgres
from tests.faults.proxy import BOTH, DOWN, UP, Direction, Proxy, proxied
from tests.faults.waiting import until_true

SOON = 5.0  # the longest time for an operation that should take no time
NEVER = 0.1  # data that has not arrived by then will not arrive


class Echo:
    """Sends everything back, including an end."""

    def __init__(self) -> None:
        self.heard = b""
        self.chunks: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(1 << 16):
                self.heard += said
                self.chunks.append(said)
                writer.write(said)
                await writer.drain()
        self.ended.set()
        writer.close()


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, said: bytes) -> None:
        self.writer.write(said)

    async def hears(self, expected: bytes) -> None:
        async with asyncio.timeout(SOON):
            assert await self._reader.readexactly(len(expected)) == expected

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(NEVER):
                await self._reader.read(1)

    async def is_reset(self) -> None:
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(SOON):
                await self._reader.read(1)

    async def hears_the_end(self) -> None:
        async with asyncio.timeout(SOON):
            assert await self._reader.read() == b""


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with proxied(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def call(proxy: Proxy) -> Caller:
    return Caller(*await asyncio.open_connection("127.0.0.1", proxy.port))


@pytest.fixture
async def caller(proxy: Proxy) -> AsyncIterator[Caller]:
    caller = await call(proxy)
    caller.say(b"begin")
    await caller.hears(b"begin")
    yield caller
    caller.writer.close()


async def test_bytes_and_ends_are_passed_on(proxy: Proxy, caller: Caller, echo: Echo) -> None:
    much = bytes(range(256)) * 4096
    caller.say(much)
    await caller.hears(much)
    caller.writer.write_eof()
    await caller.hears_the_end()
    assert echo.heard == b"begin" + much


async def test_delay_and_jitter_keep_the_order(proxy: Proxy, caller: Caller) -> None:
    loop = asyncio.get_running_loop()
    await proxy.delay(0.05, jitter=0.05)
    began = loop.time()
    for number in range(20):
        caller.say(b"%02d" % number)
        await asyncio.sleep(0.001)
    await caller.hears(b"".join(b"%02d" % number for number in range(20)))
    assert loop.time() - began >= 0.1  # there and back


async def test_the_rate_is_limited(proxy: Proxy, caller: Caller) -> None:
    loop = asyncio.get_running_loop()
    await proxy.limit(100_000, UP)
    began = loop.time()
    caller.say(b"x" * 20_000)
    await caller.hears(b"x" * 20_000)
    assert loop.time() - began >= 0.15


async def test_data_is_sliced(proxy: Proxy, caller: Caller, echo: Echo) -> None:
    await proxy.slice(1, UP)
    caller.say(b"sliced")
    await caller.hears(b"sliced")
    assert len(echo.chunks) > 2


@pytest.mark.parametrize("way", [UP, DOWN, BOTH])
async def test_held_data_arrives_late(
    proxy: Proxy, caller: Caller, way: Direction, echo: Echo
) -> None:
    await proxy.hold(way)
    caller.say(b"late")
    await caller.hears_nothing()
    assert (b"late" in echo.heard) == (way is DOWN)
    await proxy.release()
    await caller.hears(b"late")


async def test_held_data_arrives_even_after_its_sender_closed(
    proxy: Proxy, caller: Caller, echo: Echo
) -> None:
    await proxy.hold(UP)
    caller.say(b"from the grave")
    await caller.writer.drain()
    caller.writer.close()
    await caller.writer.wait_closed()
    assert not echo.ended.is_set()
    await proxy.release()
    async with asyncio.timeout(SOON):
        await echo.ended.wait()
    assert echo.heard.endswith(b"from the grave")


async def test_a_trap_holds_one_connection_from_its_keyword_on(
    proxy: Proxy, caller: Caller
) -> None:
    other = await call(proxy)
    await proxy.trap(b"COMMIT")
    caller.say(b"BEGIN;")
    await caller.hears(b"BEGIN;")
    caller.say(b"UPDATE;COMMIT")
    async with asyncio.timeout(SOON):
        await proxy.trapped.wait()
    other.say(b"COMMIT")
    await other.hears(b"COMMIT")
    await caller.hears_nothing()
    await proxy.release()
    await caller.hears(b"UPDATE;COMMIT")
    other.writer.close()


@pytest.mark.parametrize("way", [UP, DOWN, BOTH])
async def test_a_blackhole_swallows_and_its_connections_are_reset_when_it_heals(
    proxy: Proxy, caller: Caller, way: Direction, echo: Echo
) -> None:
    await proxy.blackhole(way)
    caller.say(b"lost")
    await caller.hears_nothing()
    assert (b"lost" in echo.heard) == (way is DOWN)
    await proxy.heal()
    await caller.is_reset()
    after = await call(proxy)
    after.say(b"well")
    await after.hears(b"well")
    after.writer.close()


async def test_in_a_cut_no_connections_are_made(proxy: Proxy, echo: Echo) -> None:
    await proxy.blackhole()
    gave_up, waits = await call(proxy), await call(proxy)
    gave_up.say(b"gave up")
    waits.say(b"waits")
    await gave_up.hears_nothing()
    gave_up.writer.close()
    await gave_up.writer.wait_closed()
    await until_true(lambda: proxy.connections == 1, "the proxy knows who gave up")
    await proxy.heal()
    await waits.hears(b"waits")
    assert echo.heard == b"waits"
    waits.writer.close()


async def test_connections_are_reset_and_refused(proxy: Proxy, caller: Caller) -> None:
    await proxy.refuse()
    await caller.is_reset()
    refused = await call(proxy)
    await refused.is_reset()
    await proxy.heal()
    again = await call(proxy)
    again.say(b"again")
    await again.hears(b"again")
    await proxy.reset()
    await again.is_reset()


async def test_one_direction_is_closed(proxy: Proxy, caller: Caller, echo: Echo) -> None:
    await proxy.half_close(DOWN)
    await caller.hears_the_end()
    caller.say(b"still heard")
    await until_true(lambda: b"still heard" in echo.heard, "the other way goes on")


async def test_the_proxy_works_before_a_postgres(postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as url:
        async with proxied(postgres.port) as proxy:
            store = open_store(url.replace(f":{postgres.port}/", f":{proxy.port}/"), tmp_path)
            await store.open()
            await proxy.slice(7)
            await store.ping()
            await proxy.delay(0.02, jitter=0.02)
            await store.ping()
            await proxy.blackhole()
            with pytest.raises(StoreAway):
                await store.ping()
            await proxy.heal()
            await store.ping()
            await store.close()
