"""Tunnels from workers: asked for over a worker's connection, opened by the worker itself.

The worker opens a WebSocket, or, if its own connection uses long polling, a ``PolledTunnel``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs
from aiohttp import web

from boxsched import tunnelling
from boxsched.errors import BoxschedError, NotFound
from boxsched.gateway.figures import Times
from boxsched.gateway.link import WorkerLink
from boxsched.gateway.long_polls import Elsewhere, PolledLine, is_of_another, new_id
from boxsched.gateway.polled_tunnels import PolledTunnel
from boxsched.model import JobId
from boxsched.protocol import wire

DIAL_SECONDS = 10.0
MAX_REASON_CHARACTERS = 200
NO_TUNNEL = "there is no such tunnel, or it was given up"


class CannotEnter(BoxschedError):
    """The session cannot be entered now; the message says why."""

    code, status = "cannot_enter", 503


@attrs.define(eq=False)
class _Dialled:
    """A tunnel that a worker was asked for. ``arrived``: it, once the worker has opened it.
    ``over``: it is unused.
    """

    token: str  # the id of the worker's token
    arrived: "asyncio.Future[tunnelling.TunnelSocket]"
    over: asyncio.Event = attrs.field(factory=asyncio.Event)
    polled: PolledTunnel | None = None  # without a WebSocket


class Dialling:
    """``node``: this node's number, with which the names of its tunnels begin."""

    def __init__(self, node: int, times: Times) -> None:
        self._node = str(node)
        self._times = times
        self._tunnels: dict[str, _Dialled] = {}

    @contextlib.asynccontextmanager
    async def dialled(
        self, link: WorkerLink, job: JobId, lease_token: int
    ) -> AsyncIterator[tunnelling.TunnelSocket]:
        """Ask the worker for a tunnel to a session, and wait for it. Raises CannotEnter."""
        name = new_id(self._node)
        arrived = asyncio.get_running_loop().create_future()
        dialled = self._tunnels[name] = _Dialled(link.token, arrived)
        try:
            link.say(wire.Dial(name, job, lease_token))
            async with asyncio.timeout(DIAL_SECONDS):
                tunnel = await dialled.arrived
                await _agreed(tunnel)
            yield tunnel
        except TimeoutError:
            raise CannotEnter("the worker opened no tunnel") from None
        except tunnelling.Broken as error:
            raise CannotEnter(f"the worker's tunnel was lost: {error}") from None
        finally:
            del self._tunnels[name]
            dialled.over.set()
            if dialled.polled is not None:
                dialled.polled.release()

    def is_ours(self, name: str) -> bool:
        return name.partition(".")[0] == self._node

    async def arrive(self, request: web.Request, name: str, token: str) -> web.StreamResponse:
        """Serve the tunnel that a worker opened, until it ends. Raises NotFound."""
        dialled = self._tunnels.get(name)
        if dialled is None or dialled.arrived.done() or dialled.token != token:
            raise NotFound(NO_TUNNEL)
        response = web.WebSocketResponse(
            compress=False,
            max_msg_size=tunnelling.MAX_MESSAGE_BYTES,
            heartbeat=tunnelling.HEARTBEAT_SECONDS,
            timeout=1.0,
        )
        await response.prepare(request)
        tunnelling.bound_silence(request.get_extra_info("socket"))
        if not dialled.arrived.done():
            dialled.arrived.set_result(response)
            await dialled.over.wait()
        await tunnelling.close(response)
        return response

    def polled(self, name: str, token: str, address: str) -> PolledLine[bytes]:
        """Return the line of a tunnel for a request of long polling; the first one opens it.

        Raises Elsewhere if it is another node's, NotFound.
        """
        if is_of_another(name, self._node):
            raise Elsewhere("this tunnel belongs to another node: send the request again")
        dialled = self._tunnels.get(name)
        if dialled is None or dialled.token != token:
            raise NotFound(NO_TUNNEL)
        if dialled.polled is None:
            if dialled.arrived.done():
                raise NotFound(NO_TUNNEL)
            dialled.polled = PolledTunnel(address, token, self._times)
            dialled.arrived.set_result(dialled.polled)
        return dialled.polled.line


async def _agreed(tunnel: tunnelling.TunnelSocket) -> None:
    """Read the worker's first message: OPEN, or why the session cannot be entered there."""
    first = await tunnelling.received(tunnel)
    if first is None:
        raise CannotEnter("the worker closed the tunnel")
    if first != wire.OPEN:
        reason = first[:MAX_REASON_CHARACTERS].decode(errors="replace")
        raise CannotEnter("".join(char if char.isprintable() else "?" for char in reason))
