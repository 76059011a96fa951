"""The requests that a worker makes for long polling."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from yarl import URL

from boxsched.protocol import wire
from boxsched.worker.remote.polled_socket import MISSES, REPEATS, PolledSocket


@pytest.mark.parametrize(
    ("count", "size"),
    [(wire.MAX_POLL_MESSAGES + 2, 1), (3, wire.MAX_WORKER_MESSAGE_BYTES // 2)],
)
async def test_messages_that_wait_are_sent_in_requests_that_a_node_takes(
    count: int, size: int
) -> None:
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=204)

    app = web.Application(client_max_size=wire.MAX_POLL_BYTES)
    app.router.add_post("/polls/one", take)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        socket = PolledSocket(session, server.make_url("/polls/one"))
        sent: list[Any] = [b"%d" % (n % 10) * size for n in range(count)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(socket.send_frame(one, WSMsgType.TEXT) for one in sent))
    assert len(bodies) == 3, "the first message goes alone"
    assert b"\n".join(bodies).split(b"\n") == sent, "in order, each once"
    assert all(len(body.split(b"\n")) <= wire.MAX_POLL_MESSAGES for body in bodies)


class Answer:
    """An answer of a node or of a load balancer; ``error``: there is none."""

    def __init__(self, status: int, body: bytes = b"", error: Exception | None = None) -> None:
        self.status = status
        self.content = self
        self._body, self._error = body, error

    async def __aenter__(self) -> "Answer":
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(self, *raised: object) -> None:
        pass

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


GOOD, EMPTY = Answer(200, b"text"), Answer(204)
NONE = Answer(0, error=aiohttp.ClientError("cut"))
ELSEWHERE, BUSY = Answer(421), Answer(429)


def refused(code: str, message: str) -> Answer:
    return Answer(409, json.dumps({"error": {"code": code, "message": message}}).encode())


class Asking:
    """A socket whose requests get these answers; ``pauses`` between the requests, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
        self.left = list(answers)
        self.pauses: list[float] = []
        self.socket = PolledSocket(cast(Any, None), URL("http://node.test/polls/one"))
        monkeypatch.setattr("boxsched.worker.remote.polled_socket.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def body(self) -> bytes:
        return await self.socket._asked(lambda: cast(Any, self.left.pop(0)))


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ([], []),
        ([NONE] * REPEATS, [0.05, 0.1, 0.15]),
        ([NONE, BUSY, NONE], [0.05, 0.5, 0.05]),
        ([BUSY] * 20, [0.5] * 20),
        ([ELSEWHERE] * 12, [0] * 10 + [0.05] * 2),
        ([ELSEWHERE] * MISSES, [0] * 10 + [0.05] * (MISSES - 10)),
    ],
    ids=["at once", "none", "anew", "busy", "elsewhere", "often elsewhere"],
)
async def test_a_request_is_repeated_until_the_connections_node_answers(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], pauses: list[float]
) -> None:
    for last, body in ((GOOD, b"text"), (EMPTY, b"")):
        asking = Asking(monkeypatch, *answers, last)
        assert await asking.body() == body
        assert asking.pauses == pytest.approx(pauses)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([NONE] * (REPEATS + 1), "no answer: cut"),
        ([ELSEWHERE] * (MISSES + 1), "the node answered with status 421: "),
        ([refused("not_found", "no such\nconnection")], "status 409: no such?connection"),
        ([refused("odd", "x" * 300)], f"status 409: {'x' * 200}$"),
        ([Answer(502, b"<html>nginx</html>")], "status 502: $"),
        ([Answer(502, b"\xff")], "status 502: $"),
    ],
)
async def test_a_connection_is_lost_when_no_repetition_helps(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], said: str
) -> None:
    asking = Asking(monkeypatch, *answers, GOOD)
    with pytest.raises(ConnectionError, match=said.replace("?", r"\?")):
        await asking.body()
    assert asking.left == [GOOD], "nothing more was asked"
    assert asking.socket.close_code is None, "the node did not end it"


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [("1013 silent", 1013, "silent"), ("1000 ", 1000, ""), ("odd end", 1006, "end")],
)
async def test_a_node_says_why_it_has_ended_the_connection(
    monkeypatch: pytest.MonkeyPatch, said: str, code: int, reason: str
) -> None:
    asking = Asking(monkeypatch, refused("ended", said), GOOD)
    monkeypatch.setattr(asking.socket, "_ask", asking.body)
    assert await asking.socket.receive() == (WSMsgType.CLOSED, code, reason)
    assert asking.socket.close_code == code
    with pytest.raises(ConnectionError, match="closed"):
        await asking.body()
    assert asking.left == [GOOD]


async def test_a_worker_that_lost_its_node_reads_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(monkeypatch, Answer(502))
    monkeypatch.setattr(asking.socket, "_ask", asking.body)
    read = await asking.socket.receive()
    assert read.type is WSMsgType.ERROR
    assert "status 502" in str(read.data)
