"""Tunnels that workers open when they are asked: whose they are, when they end, what is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, web
from aiohttp.test_utils import TestClient, TestServer

from boxsched.errors import NotFound
from boxsched.gateway import dialling as module
from boxsched.gateway.dialling import CannotEnter, Dialling
from boxsched.model import JobId
from boxsched.protocol import wire
from tests.gateway.fakes import AT_ONCE
from tests.gateway.harness import PATIENCE_SECONDS

JOB = JobId(7)
OURS = "token-1"


class Link:
    """A connection of a worker: what it was told, and its token."""

    token = OURS

    def __init__(self) -> None:
        self.told: asyncio.Queue[wire.FromNode] = asyncio.Queue()

    def say(self, message: wire.FromNode) -> None:
        self.told.put_nowait(message)

    async def dial(self) -> wire.Dial:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self.told.get()
        assert isinstance(message, wire.Dial)
        return message


class Node:
    """A node's dialling over real WebSockets: requests name the tunnel and the token."""

    def __init__(self, client: "TestClient[Any, Any]", dialling: Dialling) -> None:
        self.client = client
        self.dialling = dialling
        self.link: Any = Link()
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.leave = asyncio.Event()

    async def enter(self) -> None:
        async with self.dialling.dialled(self.link, JOB, 3) as tunnel:
            await tunnel.send_bytes(b"hello")
            self.entered.put_nowait("entered")
            await self.leave.wait()

    @contextlib.asynccontextmanager
    async def entering(self) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(self.enter())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert not self.dialling._tunnels, "nothing is kept of a tunnel"

    async def opened(self, name: str, token: str = OURS) -> ClientWebSocketResponse:
        return await self.client.ws_connect("/tunnel", params={"name": name, "token": token})

    async def refused(self, name: str, token: str = OURS) -> bool:
        answer = await self.client.get("/tunnel", params={"name": name, "token": token})
        return answer.status == 404


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    dialling = Dialling(5, AT_ONCE)

    async def arrive(request: web.Request) -> web.StreamResponse:
        try:
            return await dialling.arrive(request, request.query["name"], request.query["token"])
        except NotFound as error:
            raise web.HTTPNotFound from error

    app = web.Application()
    app.router.add_get("/tunnel", arrive)
    async with TestClient(TestServer(app)) as client:
        yield Node(client, dialling)


async def test_the_tunnel_that_a_worker_opens_is_used_and_closed_afterwards(node: Node) -> None:
    async with node.entering() as entering:
        dial = await node.link.dial()
        assert (dial.job, dial.lease_token) == (JOB, 3)
        assert node.dialling.is_ours(dial.tunnel)
        assert not Dialling(6, AT_ONCE).is_ours(dial.tunnel)
        tunnel = await node.opened(dial.tunnel)
        await tunnel.send_bytes(wire.OPEN)
        assert await tunnel.receive_bytes() == b"hello"
        assert not tunnel.closed
        node.leave.set()
        await entering
        assert (await tunnel.receive()).type in (web.WSMsgType.CLOSE, web.WSMsgType.CLOSED)
        assert await node.refused(dial.tunnel), "it is forgotten"


async def test_a_tunnel_is_only_for_the_worker_that_was_asked_and_only_once(node: Node) -> None:
    async with node.entering():
        dial = await node.link.dial()
        assert await node.refused("5.unknown")
        assert await node.refused(dial.tunnel, "token-2")
        tunnel = await node.opened(dial.tunnel)
        await tunnel.send_bytes(wire.OPEN)
        assert await node.entered.get()
        assert await node.refused(dial.tunnel)
        assert await tunnel.receive_bytes() == b"hello", "the first one is still in use"
        assert not tunnel.closed


async def test_of_two_tunnels_that_arrive_at_once_one_is_used_and_one_is_closed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are accepted before either has sent its answer."""
    prepare, both = web.WebSocketResponse.prepare, asyncio.Barrier(2)

    async def prepared(self: web.WebSocketResponse, request: web.BaseRequest) -> Any:
        await both.wait()
        return await prepare(self, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", prepared)
    async with node.entering() as entering:
        dial = await node.link.dial()
        tunnels = await asyncio.gather(node.opened(dial.tunnel), node.opened(dial.tunnel))
        received = [asyncio.create_task(tunnel.receive()) for tunnel in tunnels]
        done, _ = await asyncio.wait(received, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().type for task in done] == [web.WSMsgType.CLOSE]
        for tunnel, task in zip(tunnels, received, strict=True):
            if task not in done:
                await tunnel.send_bytes(wire.OPEN)
                assert (await task).data == b"hello"
        node.leave.set()
        await entering


async def test_a_session_that_cannot_be_entered_says_why_in_one_short_line(node: Node) -> None:
    async with node.entering() as entering:
        tunnel = await node.opened((await node.link.dial()).tunnel)
        await tunnel.send_bytes(b"it has\nended \xff" + b"x" * 999)
        with pytest.raises(CannotEnter) as refused:
            await entering
        said = str(refused.value)
        assert said.startswith("it has?ended \N{REPLACEMENT CHARACTER}x")
        assert (len(said), refused.value.status) == (200, 503)
        assert (await tunnel.receive()).type is web.WSMsgType.CLOSE


async def test_a_tunnel_that_closes_before_its_first_message_cannot_be_entered(node: Node) -> None:
    async with node.entering() as entering:
        tunnel = await node.opened((await node.link.dial()).tunnel)
        await tunnel.close()
        with pytest.raises(CannotEnter, match=r"^the worker closed the tunnel$"):
            await entering


async def test_a_worker_that_opens_no_tunnel_is_not_waited_for_longer(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.DIAL_SECONDS == 10.0
    monkeypatch.setattr(module, "DIAL_SECONDS", 0.0)
    with pytest.raises(CannotEnter, match="opened no tunnel"):
        await node.enter()
    assert await node.refused((await node.link.dial()).tunnel), "it came too late"
