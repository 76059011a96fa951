"""Tunnels from this worker to its node, for users who enter SSH sessions through the node."""

import asyncio
import contextlib
import logging
from contextlib import AbstractAsyncContextManager

from boxsched import tunnelling
from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.sessions import NoSession
from boxsched.worker.remote.discovery import NodeAddress
from boxsched.worker.remote.link import Lost

MAX_TUNNELS = 64

OpeningTunnel = AbstractAsyncContextManager[tunnelling.TunnelSocket]

_log = logging.getLogger(__name__)


class Tunnels:
    """The open tunnels; each has a connection of its own, so it delays no heartbeat."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()

    def open(self, node: NodeAddress, way: OpeningTunnel, asked: wire.Dial, agent: Agent) -> None:
        """Open a tunnel to the node in the background, by this way. Beyond the limit, let the node
        wait in vain.
        """
        if len(self._open) >= MAX_TUNNELS:
            _log.warning("an SSH session is not entered: there are %d tunnels", MAX_TUNNELS)
            return
        task = asyncio.create_task(_carry(node, way, asked, agent))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(node: NodeAddress, way: OpeningTunnel, asked: wire.Dial, agent: Agent) -> None:
    try:
        async with way as tunnel:
            try:
                plain = await agent.enter_session(JobId(asked.job), asked.lease_token)
            except NoSession as error:
                await tunnel.send_bytes(str(error).encode())
                return
            with contextlib.closing(plain):
                await tunnel.send_bytes(wire.OPEN)
                await tunnelling.join_socket(tunnel, plain)
    except (Lost, OSError) as error:
        _log.warning("an SSH session is not entered through %s: %s", node, error)
