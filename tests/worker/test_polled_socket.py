"""The requests that a worker makes for long polling."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from boxsched.protocol import wire
from boxsched.worker.remote.polled_socket import PolledSocket


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
