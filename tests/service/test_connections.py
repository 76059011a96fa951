"""Connections: data that is not HTTP, slow or silent clients, internal errors, clients that hang
up."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from pathlib import Path

import pytest
from aiohttp import web

from activity_monitor import SECURITY_HEADERS
from boxsched.api.http import deadlines
from boxsched.api.http.serving import HttpConnection
from boxsched.listening import bound
from boxsched.store.records import NewWorkload, SubmitOutcome
from tests.service.running_service import API, RunningService

BUILDS = f"{API}/projects/web/builds"
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")  # the kernel's limit of waiting connections
BODY = b'{"branch":"main"}'


async def say(service: RunningService, *pieces: bytes) -> bytes:
    """Return everything that the service answers to these bytes until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for piece in pieces:
        writer.write(piece)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def post(service: RunningService, *headers: str, version: str = "HTTP/1.1") -> bytes:
    lines = [f"POST {BUILDS} {version}", "Host: x", f"Authorization: Bearer {service.token}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,  # TLS
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X%d: y\r\n" % n for n in range(200))
        + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n  folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    ],
)
async def test_data_that_is_not_http_gets_400_in_our_format(
    service: RunningService, wire: bytes
) -> None:
    answer = await say(service, wire)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400", answer
    assert b'{"error":{"code":"malformed"' in body
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}".encode() in head
    assert (await service.call("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nx\r\n0\r\n\r\n", b"5;x=\n\r\nabcde\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"],
)
async def test_broken_chunks_get_400(service: RunningService, chunks: bytes) -> None:
    await service.project("web")
    wire = post(service, "Transfer-Encoding: chunked", "Connection: close")
    answer = await say(service, wire, chunks)
    assert answer.split()[1] == b"400", answer
    assert (await service.get("/workloads"))["workloads"] == []


async def test_pipelined_requests_are_answered_in_order(service: RunningService) -> None:
    await service.project("web")
    one = post(service, f"Content-Length: {len(BODY)}") + BODY
    last = post(service, f"Content-Length: {len(BODY)}", "Connection: close") + BODY
    answer = await say(service, one * 4 + last)
    assert answer.count(b"HTTP/1.1 201") == 5
    assert [answer.index(b'"number":%d,' % n) for n in range(1, 6)] == sorted(
        answer.index(b'"number":%d,' % n) for n in range(1, 6)
    )


async def test_a_connection_without_headers_is_closed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 0.1)
    began = asyncio.get_running_loop().time()
    for wire in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "):
        assert await say(service, wire) == b""
    assert asyncio.get_running_loop().time() - began < 10


async def test_a_slow_request_within_the_deadline_is_served(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is for headers; between two requests the longer keep-alive time applies."""
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    wire = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for _ in range(2):
        writer.write(wire)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        await reader.readexactly(len(b'{"status":"ok"}'))
        await asyncio.sleep(0.1)  # longer than the deadline for headers, on purpose
    writer.close()


async def test_the_answer_to_an_internal_error_has_only_its_id(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("SELECT secret FROM /etc/passwd")

    monkeypatch.setattr(service.node.store, "workload", broken)
    monkeypatch.setattr(service.node.store, "boxes", broken)
    monkeypatch.setattr(service.node.store, "projects", broken)
    for path in ("/workloads/w1", "/boxes", "/projects"):
        caplog.clear()
        answer = await service.call("GET", API + path)
        assert (answer.status, answer.error["code"]) == (500, "internal")
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
        id_ = answer.headers["X-Request-Id"]
        assert id_ in answer.error["message"]
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        [logged] = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert id_ in logged.getMessage()
        assert logged.exc_info


async def test_closing_the_connection_leaves_nothing_half_done(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submission continues without its caller: complete, and once."""
    await service.project("web")
    begun, go_on = asyncio.Event(), asyncio.Event()
    submit = service.node.store.submit

    async def held(group: list[NewWorkload]) -> list[SubmitOutcome]:
        begun.set()
        await go_on.wait()
        return await submit(group)

    monkeypatch.setattr(service.node.store, "submit", held)
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    key = "Idempotency-Key: k"
    writer.write(post(service, f"Content-Length: {len(BODY)}", key) + BODY)
    await begun.wait()
    writer.transport.abort()
    go_on.set()
    again = await service.call("POST", BUILDS, data=BODY, headers={"Idempotency-Key": "k"})
    assert again.status == 201
    assert [one["id"] for one in (await service.get("/workloads"))["workloads"]] == [
        again.json["id"]
    ]


async def test_many_idle_connections_delay_no_request(service: RunningService) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(200)]
    assert (await service.call("GET", "/healthz")).status == 200
    assert all(type(one) is HttpConnection for one in service.runner.server.connections)
    for _, writer in idle:
        writer.close()


OK = b"HTTP/1.1 200 OK\r\n"


async def healthz(
    service: RunningService, address: str = "127.0.0.1"
) -> tuple[asyncio.StreamWriter, bytes]:
    """Open a connection from that address; return it and its first answer."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", service.port, local_addr=(address, 0)
    )
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return writer, await reader.readline()
    except ConnectionError:
        return writer, b""


@pytest.mark.parametrize("trusted", [False, True])
async def test_no_address_has_more_than_its_share_except_our_own_proxies(
    tmp_path: Path, trusted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    proxies = (ipaddress.ip_network("127.0.0.1"),) if trusted else ()
    async with RunningService.open(
        tmp_path / "data", connections_per_address=2, trusted_proxies=proxies
    ) as service:
        held = [await healthz(service), await healthz(service)]
        assert [line for _, line in held] == [OK, OK]
        for _ in range(3):
            assert (await healthz(service))[1] == (OK if trusted else b"")
        assert (await healthz(service, "127.0.0.2"))[1] == OK
        said = [one for one in caplog.records if "--trusted-proxy" in one.getMessage()]
        assert len(said) == (0 if trusted else 1)
        held[0][0].close()
        async with asyncio.timeout(20):
            while (await healthz(service))[1] != OK:  # the server has to see the end first
                pass


@pytest.mark.skipif(not SOMAXCONN.exists(), reason="how many may wait is not known here")
async def test_a_burst_of_connections_waits_until_the_loop_accepts_it() -> None:
    """The kernel drops what exceeds the queue, and the client tries again only after a second."""
    count = min(600, int(SOMAXCONN.read_text()))
    wire = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    runner = web.AppRunner(web.Application())
    await runner.setup()
    loop = asyncio.get_running_loop()
    with bound("127.0.0.1", 0) as sockets, contextlib.ExitStack() as opened:
        await sockets.serve(runner)
        port = int(sockets.url.rpartition(":")[2])
        burst = []
        for _ in range(count):  # without a pause, so the service accepts none of them meanwhile
            one = opened.enter_context(socket.create_connection(("127.0.0.1", port), 0.5))
            one.sendall(wire)
            one.setblocking(False)
            burst.append(one)
        async with asyncio.timeout(60):
            answers = [await loop.sock_recv(one, 4096) for one in burst]
    await runner.cleanup()
    assert all(answer.startswith(b"HTTP/1.1 404") for answer in answers)
