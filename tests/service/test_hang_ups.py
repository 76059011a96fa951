"""Clients that hang up, Expect, and the headers of every answer."""

import asyncio
import socket

import pytest

from activity_monitor import SECURITY_HEADERS
from boxsched.api.auth.known_tokens import Holder, KnownTokens
from tests.service.running_service import API, RunningService
from tests.service.test_connections import BODY, BUILDS, post, say

PATIENCE_SECONDS = 20.0


SIGN_IN = (
    b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n"
)


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def ended(service: RunningService) -> None:
    """Only the harness's own client is still connected."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(service.runner.server.connections) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- Hang-ups ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        (b"",),
        (b"GET / HT",),
        (SIGN_IN,),
        (SIGN_IN + b"\r\n", b"token="),
        (b"POST /sign-in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nto",),
        (b"GET /static/x/app.js HTTP/1.1\r\nHost: x\r\n\r\n",),
    ],
)
async def test_an_anonymous_client_that_closes_the_connection_is_not_an_error(
    service: RunningService, pieces: tuple[bytes, ...]
) -> None:
    await hang_up(service, *pieces)
    await ended(service)


@pytest.mark.parametrize(
    "head",
    [
        ("Content-Length: 100",),
        ("Transfer-Encoding: chunked",),
        ("Content-Length: 100", "Expect: 100-continue"),
        (f"Content-Length: {len(BODY)}",),
    ],
)
async def test_closing_the_connection_in_a_body_is_not_an_error(
    service: RunningService, head: tuple[str, ...]
) -> None:
    await service.project("web")
    await hang_up(service, post(service, *head), BODY if "chunked" not in head[0] else b"5\r\nab")
    await ended(service)


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
async def test_closing_the_connection_before_the_body_is_read_is_not_an_error(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, expect: tuple[str, ...]
) -> None:
    find, asked, go_on = KnownTokens.find, asyncio.Event(), asyncio.Event()

    async def held(self: KnownTokens, text: str) -> Holder | None:
        asked.set()
        await go_on.wait()
        return await find(self, text)

    monkeypatch.setattr(KnownTokens, "find", held)
    await hang_up(service, post(service, "Content-Length: 100", *expect))
    await asked.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while service.runner.server.connections[0].transport is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    go_on.set()
    counted = 'route="POST /api/v1/projects/{project}/builds",status="499"'
    async with asyncio.timeout(PATIENCE_SECONDS):
        while counted not in (await service.call("GET", "/metrics")).body.decode():
            pass


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("sign_in", [False, True])
async def test_closing_the_connection_after_the_headers_is_not_an_error(
    service: RunningService, sign_in: bool, turns: int
) -> None:
    """The connection ends with the headers, before the handler has started."""
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (made := service.runner.server.connections) or not made[0].idle:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    [connection] = made
    task = connection._task_handler
    wire = SIGN_IN + b"\r\n" if sign_in else post(service, "Content-Length: 100")
    connection.data_received(wire)
    for _ in range(turns):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.wait({task})
    assert task.cancelled() or task.exception() is None
    counted = 'sign-in",status="499"' if sign_in else 'builds",status="499"'
    if turns:  # otherwise it would never be accepted
        assert counted in (await service.call("GET", "/metrics")).body.decode()
    writer.close()


async def test_closing_the_connection_in_a_stream_is_not_an_error(service: RunningService) -> None:
    for path in ("/events", "/activity", "/workloads"):
        await hang_up(
            service,
            f"GET {API}{path} HTTP/1.1\r\nHost: x\r\n".encode(),
            f"Authorization: Bearer {service.token}\r\n\r\n".encode(),
        )
    await ended(service)


async def hang_up(service: RunningService, *pieces: bytes) -> None:
    """Reset the connection, as a killed client does."""
    raw = socket.socket()
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", service.port))
    for piece in pieces:
        await loop.sock_sendall(raw, piece)
        await asyncio.sleep(0.01)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.close()


# --- Expect, and the headers of every answer --------------------------------------------------


async def test_an_authorized_client_gets_100_continue(service: RunningService) -> None:
    await service.project("web")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(post(service, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def test_an_unauthorized_client_is_refused_at_once(service: RunningService) -> None:
    lines = [f"POST {BUILDS} HTTP/1.1", "Host: x", "Content-Length: 9", "Expect: 100-continue"]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


@pytest.mark.parametrize("path", [BUILDS, "/sign-in", "/nowhere"])
async def test_an_unknown_expectation_gets_417(service: RunningService, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
    answer = await say(service, head.encode() + b"Expect: the unexpected\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert b'{"error":{"code":"expectation_failed"' in answer
    assert_headers(answer)


def assert_headers(answer: bytes) -> None:
    head = answer.partition(b"\r\n\r\n")[0].decode()
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}" in head
    assert "\r\nServer: boxsched\r\n" in head + "\r\n"
    assert "aiohttp" not in head


@pytest.mark.parametrize(
    "wire",
    [
        HEALTHZ,
        b"HEAD /healthz HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /sign-in HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /static/x/nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        SIGN_IN + b"Expect: 100-continue\r\n\r\n" + b"x" * 100,
        b"GET /api/v1/boxes HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_every_answer_has_the_security_headers(service: RunningService, wire: bytes) -> None:
    head, separator, body = wire.partition(b"\r\n\r\n")
    if b"Upgrade" not in head:
        head += b"\r\nConnection: close"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head + separator + body)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 100 "):
            answer = await reader.readuntil(b"\r\n\r\n")
    assert_headers(answer)
    writer.close()
