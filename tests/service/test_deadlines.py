"""Deadlines of connections, limits for anonymous clients, and clients that hang up."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from boxsched.api.http import connection_limits, deadlines, large, replies
from boxsched.api.http.connection_limits import ConnectionLimits
from boxsched.api.http.peers import Peers
from tests.service.running_service import API, RunningService
from tests.service.test_connections import BODY, post, say

SHORT = 0.2
PATIENCE_SECONDS = 20.0
SIGN_IN = (
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n"
)
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
SMALL_BUFFER_BYTES = 4_096


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADER_SECONDS", "BODY_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(deadlines, name, SHORT)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Check that nothing a client did was logged as our error."""
    caplog.set_level(logging.ERROR)
    yield
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


async def ended(service: RunningService) -> None:
    """Only the harness's own client is still connected."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(service.runner.server.connections) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_request_never_outlives_its_deadline() -> None:
    """Whenever the looks are, one ends it before the deadline or at it."""
    for seconds in (deadlines.HEADER_SECONDS, deadlines.BODY_SECONDS):
        for began in (0.0, 0.25, 0.999):
            looks = [n * deadlines.look_seconds() for n in range(1, 60)]
            end = next(now for now in looks if deadlines.is_due(began, seconds, now))
            assert seconds - 2 * deadlines.look_seconds() < end - began <= seconds


async def test_a_sign_in_whose_body_never_arrives_is_given_up(
    service: RunningService, short: None
) -> None:
    answer = await say(service, SIGN_IN + b"\r\ntoken=")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer


async def test_sign_ins_without_bodies_delay_no_large_body(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "PATIENCE_SECONDS", SHORT)
    await service.project("web")
    sign_in = SIGN_IN.replace(
        b"Content-Length: 100\r\n",
        b"Transfer-Encoding: chunked\r\nSec-Fetch-Site: same-origin\r\n",
    )
    writers = []
    for _ in range(large.AT_ONCE):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writers.append(writer)
        writer.write(sign_in + b"\r\n1\r\nt\r\n")
        await writer.drain()
    # their headers have been read
    assert (await service.call("GET", f"{API}/workloads")).status == 200
    body = msgspec.json.encode({"branch": "main", "message": "x" * large.LARGE_BYTES})
    answer = await service.call("POST", f"{API}/projects/web/builds", data=body)
    assert answer.status != 503
    for writer in writers:
        writer.close()


async def test_a_body_that_arrives_slowly_has_one_deadline(
    service: RunningService, short: None
) -> None:
    """Each byte arrives in time, but the whole body does not."""
    await service.project("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(post(service, "Content-Length: 100000"))

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(SHORT / 10)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()


@pytest.mark.parametrize("begins_with", ["a packet of its own", "the first request"])
async def test_the_headers_of_a_second_request_have_a_deadline(
    service: RunningService, short: None, begins_with: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    part = b"GET /healthz HTTP/1.1\r\nX-Half: "
    writer.write(HEALTHZ + (part if begins_with == "the first request" else b""))
    await reader.readuntil(b'{"status":"ok"}')
    if begins_with != "the first request":
        writer.write(part)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_between_two_requests_may_be_idle(service: RunningService) -> None:
    await service.project("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for _ in range(2):
        writer.write(post(service, f"Content-Length: {len(BODY)}"))
        await writer.drain()
        writer.write(BODY)  # in its own packet
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 ")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        mine = writer.get_extra_info("sockname")
        [connection] = [one for one in service.runner.server.connections if one.peername == mine]
        far = asyncio.get_running_loop().time() + 1_000
        assert not connection.look(far)  # there is no data to wait for
    writer.close()


async def deaf(service: RunningService, request: bytes) -> socket.socket:
    """Send a request and never read the answer."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", service.port))
    await asyncio.get_running_loop().sock_sendall(raw, request)
    return raw


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_is_not_read_is_cut(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, version: bytes, at_once: bool
) -> None:
    """Of 30 MB, nothing is kept afterwards, neither the answer nor the connection. The service
    closes after an answer in HTTP/1.0."""
    if at_once:
        monkeypatch.setattr(replies, "SLICE_BYTES", 40_000_000)
    large = b'"' + b"x" * 30_000_000 + b'"'

    async def much(_: object) -> object:
        return replies.json_bytes(large)

    for route in service.runner.app.router.routes():
        if route.resource is not None and route.resource.canonical == "/healthz":
            monkeypatch.setattr(route, "_handler", much)
    whole = await service.call("GET", "/healthz")  # a client that reads gets all of it
    assert whole.body == large
    monkeypatch.setattr(deadlines, "WRITE_SECONDS", SHORT)
    asked = [await deaf(service, HEALTHZ.replace(b"1.1", version)) for _ in range(5)]
    await ended(service)
    for one in asked:
        one.close()


# --- Anonymous clients --------------------------------------------------------------------------


async def test_sign_ins_that_never_end_do_not_block_others(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data", connections_per_address=50) as service:
        slow = []
        for _ in range(80):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(SIGN_IN + b"\r\ntoken=")
            slow.append((reader, writer))
        answer = await service.call("GET", f"{API}/workloads")
        assert answer.status == 200
        _, line = await first_line(service)
        assert line == b"HTTP/1.1 200 OK\r\n"
        assert len(service.runner.server.connections) <= 50
        for _, writer in slow:
            writer.close()


async def test_a_connection_with_a_valid_token_is_not_closed(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data", connections_per_address=50) as service:
        known = []
        for _ in range(30):  # more than anonymous clients may have
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(
                b"GET /api/v1/boxes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                + service.token.encode()
                + b"\r\n\r\n"
            )
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            known.append((reader, writer))
        slow = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(40)]
        _, line = await first_line(service)
        assert line == b"HTTP/1.1 200 OK\r\n"
        assert not any(reader.at_eof() for reader, _ in known)
        for _, writer in (*known, *slow):
            writer.close()


async def first_line(service: RunningService) -> tuple[asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(HEALTHZ)
    line = await reader.readline()
    writer.close()
    return writer, line


class FakeConnection:
    """An anonymous connection; ``waited``: at how many checks it kept us waiting; -1: never."""

    def __init__(self, waited: int = -1, *, idle: bool = False) -> None:
        self.waited = waited
        self.idle = idle
        self.out = False

    def keeps_waiting(self, looks: int) -> bool:
        return self.waited >= looks

    def close_for_limit(self) -> None:
        self.out = True


def test_at_the_limit_the_right_connection_is_closed() -> None:
    kept = ConnectionLimits(Peers(), 200)
    assert kept.anonymous_limit == connection_limits.ANONYMOUS_AT_LEAST == 20
    served = [FakeConnection() for _ in range(18)]
    fresh, slow = FakeConnection(1), FakeConnection(connection_limits.PATIENCE_LOOKS)
    for one in (*served, fresh, slow):
        assert kept.take("192.0.2.1", one) == "192.0.2.1"
    assert kept.take("192.0.2.1", FakeConnection(1)) is not None
    assert (slow.out, fresh.out) == (True, False)
    herd = [FakeConnection(1) for _ in range(180)]
    for one in herd:  # beyond their share, but their requests are on their way
        assert kept.take("192.0.2.1", one) is not None
    assert not any(one.out for one in (*served, fresh, *herd))
    assert kept.take("192.0.2.1", FakeConnection()) is not None  # all connections are in use
    assert fresh.out
    assert kept.take("192.0.2.2", FakeConnection()) == "192.0.2.2"


def test_idle_anonymous_connections_beyond_their_share_are_closed() -> None:
    kept = ConnectionLimits(Peers(), 30)
    idle = [FakeConnection(idle=True) for _ in range(30)]
    for one in idle:
        assert kept.take("192.0.2.1", one) is not None
    assert not any(one.out for one in idle)
    assert kept.take("192.0.2.1", FakeConnection()) is not None
    assert [one.out for one in idle] == [True] + [False] * 29
    for one in idle[1:]:
        one.idle = False
    assert kept.take("192.0.2.1", FakeConnection()) is None


def test_a_connection_that_is_being_served_is_not_closed() -> None:
    kept = ConnectionLimits(Peers(), 2)
    served, known = FakeConnection(), FakeConnection(60)
    for one in (served, known):
        assert kept.take("::1", one) == "::/64"
    kept.recognize("::/64", known)
    assert kept.take("::1", FakeConnection()) is None
    kept.give_back("::/64", known, known=True)
    late = FakeConnection()
    assert kept.take("::1", late) == "::/64"
    for one in (served, late):
        kept.give_back("::/64", one, known=False)
    assert kept._addresses == {}
