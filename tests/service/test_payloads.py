"""Bodies of webhooks from anonymous clients: limits of size and memory, and which body is
dropped."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.api.http import payloads
from boxsched.api.http.arriving import ArrivingBodies
from boxsched.api.http.payloads import MAX_PAYLOAD_BYTES, MEDIUM_AT_ONCE, unpacked
from boxsched.errors import Malformed, StoreAway, TooLarge
from tests.service.code_hosts import push, secured, send
from tests.service.running_service import RunningService


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=0) as opened:
        await secured(opened)
        yield opened


class StallingClient:
    """A client that announces a body, sends some of it, and stops."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = asyncio.create_task(reader.readline())

    @classmethod
    async def at(cls, service: RunningService, announced: int, sent: int) -> "StallingClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = (
            f"POST /webhooks/github/web HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n"
        )
        writer.write(head.encode() + b"{" * sent)
        await writer.drain()
        return cls(reader, writer)

    @property
    def waits(self) -> bool:
        return not self._answer.done()

    async def status(self) -> bytes:
        return (await self._answer).split()[1]

    def leave(self) -> None:
        self._answer.cancel()
        self._writer.close()


def large(size: int) -> bytes:
    return json.dumps(push(filling="x" * size)).encode()


async def test_stalling_clients_keep_no_large_delivery_out(service: RunningService) -> None:
    strangers = [
        await StallingClient.at(service, 2 << 20, 70_000) for _ in range(2 * MEDIUM_AT_ONCE)
    ]
    for size in (100_000, 1_500_000):
        answer = await send(service, large(size))
        assert (answer.status, answer.json["result"]) == (200, "created")
    assert all(stranger.waits for stranger in strangers)
    for stranger in strangers:
        stranger.leave()


async def test_at_the_limit_the_body_that_held_most_for_longest_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "ARRIVING_BYTES", 500_000)
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await secured(service)
        first = await StallingClient.at(service, 900_000, 300_000)
        answer = await send(service, large(300_000))
        assert (answer.status, answer.json["result"]) == (200, "created")
        assert await first.status() == b"503"
        alone = await send(service, large(600_000))
        assert (alone.status, alone.error["code"]) == (503, "store_away")
        first.leave()


class Request:
    """A fake request with what is needed to drop its body."""

    def __init__(self) -> None:
        self.content = self
        self.protocol = self
        self.told: list[object] = []

    def set_exception(self, error: Exception) -> None:
        self.told.append(error)

    def feed_eof(self) -> None:
        self.told.append("eof")

    def close(self) -> None:
        self.told.append("close")


def test_bytes_are_counted_until_the_end_of_each_body() -> None:
    now = [0.0]
    arriving = ArrivingBodies(100, lambda: now[0])
    old, new, whole = Request(), Request(), Request()
    with arriving.body(whole) as third:  # type: ignore[arg-type]
        arriving.grow(third, 30)
        third.whole = True
        with arriving.body(old) as first:  # type: ignore[arg-type]
            arriving.grow(first, 30)
            now[0] += 1
            with arriving.body(new) as second:  # type: ignore[arg-type]
                arriving.grow(second, 40)
                assert (arriving.size, old.told) == (100, [])
                arriving.grow(second, 20)
                assert arriving.size == 90
                assert isinstance(old.told[0], StoreAway)
                assert old.told[1:] == ["eof", "close"]
                with pytest.raises(StoreAway):
                    arriving.grow(second, 20)
                assert (new.told, whole.told) == ([], [])
        assert arriving.size == 30
    assert arriving.size == 0


# --- Compressed ------------------------------------------------------------------------------


def test_gzip_data_is_unpacked() -> None:
    assert unpacked(gzip.compress(b"{}")) == b"{}"
    most = gzip.compress(b" " * MAX_PAYLOAD_BYTES)
    assert len(unpacked(most)) == MAX_PAYLOAD_BYTES


def test_a_compression_bomb_is_too_large() -> None:
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b" " * (MAX_PAYLOAD_BYTES + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"{}") + gzip.compress(b""),
        gzip.compress(b"") * 500_000,  # one after the other, this took minutes
    ],
    ids=["nothing", "plain", "cut", "more behind", "two members", "very many members"],
)
def test_anything_but_one_gzip_member_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        unpacked(body)
