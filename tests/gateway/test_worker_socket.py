"""A worker's WebSocket by itself: what each frame means, and that nothing waits forever."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType

from boxsched.gateway.figures import Times
from boxsched.gateway.received import ProtocolViolation
from boxsched.gateway.worker_socket import (
    BUFFER_BYTES,
    KERNEL_BUFFER_BYTES,
    Slow,
    WorkerSocket,
)

TIMES = Times(write=0.01, hang_up=0.01)


class Transport:
    def __init__(self) -> None:
        self.limits: list[int] = []
        self.socket: socket.socket | None = None
        self.closing = False
        self.aborted = 0

    def set_write_buffer_limits(self, *, high: int) -> None:
        self.limits.append(high)

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self.socket

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted += 1


class Response:
    """In place of aiohttp's; ``stuck``: no call of it ever ends."""

    def __init__(self, *messages: WSMessage) -> None:
        self.messages = list(messages)
        self.sent: list[tuple[bytes, WSMsgType]] = []
        self.closed: list[tuple[int, bytes]] = []
        self.prepared: list[Any] = []
        self.stuck = False

    async def _waits(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()

    async def prepare(self, request: Any) -> None:
        self.prepared.append(request)

    async def receive(self) -> WSMessage:
        return self.messages.pop(0)

    async def send_frame(self, text: bytes, kind: WSMsgType) -> None:
        await self._waits()
        self.sent.append((text, kind))

    async def close(self, *, code: int, message: bytes) -> None:
        await self._waits()
        self.closed.append((code, message))


@pytest.fixture
def transport() -> Transport:
    return Transport()


def made(
    transport: Transport | None, *messages: WSMessage, remote: str | None = "192.0.2.7"
) -> Any:
    request: Any = SimpleNamespace(remote=remote, transport=transport)
    one: Any = WorkerSocket(request, TIMES)
    one.response = Response(*messages)
    return one


def test_its_address_is_that_of_the_request() -> None:
    assert made(None).address == "192.0.2.7"
    assert made(None, remote=None).address == "", "it came through a local socket"


async def test_buffers_are_small_for_a_worker_that_reads_nothing(transport: Transport) -> None:
    with socket.socket() as raw:
        transport.socket = raw
        one = made(transport)
        await one.open()
        assert transport.limits == [BUFFER_BYTES]
        kept = raw.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert KERNEL_BUFFER_BYTES <= kept <= 2 * KERNEL_BUFFER_BYTES
    assert one.response.prepared == [one._request]


@pytest.mark.parametrize("there", [True, False])
async def test_a_connection_without_a_socket_is_opened_too(
    transport: Transport, there: bool
) -> None:
    one = made(transport if there else None)
    await one.open()
    assert len(one.response.prepared) == 1


def test_it_is_gone_when_its_transport_closes(transport: Transport) -> None:
    assert made(None).gone
    assert not made(transport).gone
    transport.closing = True
    assert made(transport).gone


def message(kind: WSMsgType, data: Any = None) -> WSMessage:
    return WSMessage(kind, data, None)


async def test_a_text_is_a_message_and_the_end_is_none(transport: Transport) -> None:
    ends = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
    one = made(transport, message(WSMsgType.TEXT, "hello"), *map(message, ends))
    assert await one.receive() == "hello"
    assert [await one.receive() for _ in ends] == [None] * len(ends)


@pytest.mark.parametrize(
    ("received", "code"),
    [
        (message(WSMsgType.BINARY, b"x"), "binary"),
        (
            message(WSMsgType.ERROR, WebSocketError(WSCloseCode.MESSAGE_TOO_BIG, "too big")),
            "too_large",
        ),
        (message(WSMsgType.ERROR, WebSocketError(WSCloseCode.INVALID_TEXT, "odd")), "broken"),
    ],
)
async def test_what_is_no_message_violates_the_protocol(
    transport: Transport, received: WSMessage, code: str
) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        await made(transport, received).receive()
    assert caught.value.reason == code


async def test_texts_are_sent_in_order_unless_the_worker_reads_nothing(
    transport: Transport,
) -> None:
    one = made(transport)
    await one.send([b"a", b"b"])
    assert one.response.sent == [(b"a", WSMsgType.TEXT), (b"b", WSMsgType.TEXT)]
    one.response.stuck = True
    with pytest.raises(Slow, match=r"read nothing for 0\.01 s"):
        await one.send([b"c"])


async def test_it_is_closed_or_cut(transport: Transport) -> None:
    one = made(transport)
    await one.hang_up(WSCloseCode.GOING_AWAY, "bye")
    assert (one.response.closed, transport.aborted) == ([(WSCloseCode.GOING_AWAY, b"bye")], 0)
    one.response.stuck = True
    await one.hang_up(WSCloseCode.GOING_AWAY, "bye")
    assert transport.aborted == 1
    made(None).cut()
