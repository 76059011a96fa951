"""Enter an SSH session through this node, wherever its worker is.

A request may come to any node. The session's worker is in this node's process, or connected to this
node, or it belongs to another node: then this node relays the request to that one, with the
client's own token. So nodes need no rights of their own. A worker opens its tunnel at the address
of its node. Behind a load balancer that may be another node, which relays the tunnel in the same
way.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
from aiohttp import web
from yarl import URL

from boxsched import tunnelling
from boxsched.errors import Conflict, NotFound
from boxsched.gateway import Gateway
from boxsched.gateway.dialling import CannotEnter, Dialling
from boxsched.gateway.link import WorkerLink
from boxsched.gateway.long_polls import PolledLine
from boxsched.model import MAX_TUNNELS, WorkloadId, workload_text
from boxsched.node.in_process import LocalWorker
from boxsched.protocol.timing import UNKNOWN_AFTER_SECONDS
from boxsched.reaching import why_not
from boxsched.store.records import SshWorker
from boxsched.store.store import Store
from boxsched.worker.agent.sessions import NoSession

RELAYED = "X-Boxsched-Relayed"  # a request with this header is not relayed again
LOOKS, LOOK_SECONDS = 10, 0.5  # a worker may just be connecting to another node
CONNECT_SECONDS = 15.0  # with the time that the other node takes to reach the worker
STOPS = "the node stops"


class TooManyTunnels(Conflict):
    """This token has its maximum number of tunnels."""

    code = "too_many_tunnels"


class Entering:
    """``node``: this node's number and name. ``per_token``: the limit of a token's tunnels."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        worker: LocalWorker,
        node: tuple[int, str],
        *,
        per_token: int,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._worker = worker
        self._name = node[1]
        self._dialling = Dialling(node[0], gateway.times)
        self._open: set[asyncio.Task[object]] = set()
        self._per_token = per_token
        self._of_token: Counter[str] = Counter()  # the tunnels of users, by the id of their token

    @property
    def open(self) -> int:
        """The number of open tunnels."""
        return len(self._open)

    def close(self) -> None:
        """End all tunnels: the node stops."""
        for task in self._open:
            task.cancel()

    # --- The client's side --------------------------------------------------------------------

    def require_room(self, token: str) -> None:
        """Raise TooManyTunnels if this token must not open another tunnel here."""
        if self._of_token[token] >= self._per_token:
            raise TooManyTunnels(
                f"this token has {self._per_token} connections into SSH sessions through this "
                "node, its limit: end some, use another token, or start the nodes with a higher "
                "--tunnels-per-token"
            )

    async def enter(
        self, request: web.Request, session: WorkloadId, token: str
    ) -> web.StreamResponse:
        """Serve a tunnel to the session until it ends. ``token``: the id of the user's token.

        Raises Conflict, TooManyTunnels, CannotEnter.
        """
        may_relay = RELAYED not in request.headers
        with self._counted(), self._counted_for(token):
            for _ in range(LOOKS):
                found = await self._store.ssh_worker(session)
                if found is None:
                    raise Conflict(f"the session {workload_text(session)} is not open")
                if found.worker == self._worker.id:
                    return await self._in_process(request, found)
                link = self._gateway.link(found.worker)
                if link is not None:
                    async with self._dialling.dialled(link, found.job, found.lease_token) as tunnel:
                        return await _joined(request, tunnel, link)
                if may_relay and found.is_connected and found.node != self._name and found.url:
                    return await self._relayed(request, found.url)
                await asyncio.sleep(LOOK_SECONDS)
            raise CannotEnter("the worker of this session is not connected")

    async def _in_process(self, request: web.Request, found: SshWorker) -> web.StreamResponse:
        try:
            plain = await self._worker.agent.enter_session(found.job, found.lease_token)
        except NoSession as error:
            raise CannotEnter(str(error)) from None
        try:
            response = await _prepared(request)
            await tunnelling.join_socket(response, plain, cancelled=STOPS)
        finally:
            plain.close()
        return response

    async def _relayed(self, request: web.Request, node: str) -> web.StreamResponse:
        """Pass the request on to the node at this URL. Raises CannotEnter."""
        headers = {RELAYED: self._name, "Authorization": request.headers.get("Authorization", "")}
        async with _connected(node, request.path, headers) as tunnel:
            return await _joined(request, tunnel)

    # --- For workers ------------------------------------------------------------------------

    async def arrive(self, request: web.Request, name: str, token: str) -> web.StreamResponse:
        """Serve the tunnel ``name`` that a worker opened, until it ends. Raises NotFound."""
        with self._counted():
            if self._dialling.is_ours(name):
                return await self._dialling.arrive(request, name, token)
            number = name.partition(".")[0]
            urls = {str(node.id): node.url for node in await self._store.nodes()}
            if RELAYED in request.headers or number not in urls:
                raise NotFound("there is no such tunnel")
            return await self._relayed(request, urls[number])

    def polled(self, name: str, token: str, address: str) -> PolledLine[bytes]:
        """Return the tunnel ``name`` of a worker that uses long polling. Raises Elsewhere,
        NotFound.
        """
        return self._dialling.polled(name, token, address)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count this tunnel, and end it with the node. Raises CannotEnter."""
        if len(self._open) >= MAX_TUNNELS:
            raise CannotEnter(f"this node has its maximum number of {MAX_TUNNELS} tunnels")
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield
        finally:
            self._open.discard(task)

    @contextlib.contextmanager
    def _counted_for(self, token: str) -> Iterator[None]:
        """Count this tunnel for the user's token. Raises TooManyTunnels."""
        self.require_room(token)
        self._of_token[token] += 1
        try:
            yield
        finally:
            self._of_token[token] -= 1
            if not self._of_token[token]:
                del self._of_token[token]


async def _prepared(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse(
        compress=False,
        max_msg_size=tunnelling.MAX_MESSAGE_BYTES,
        heartbeat=tunnelling.HEARTBEAT_SECONDS,
        timeout=1.0,
    )
    await response.prepare(request)
    tunnelling.bound_silence(request.get_extra_info("socket"))
    return response


async def _joined(
    request: web.Request,
    tunnel: tunnelling.TunnelSocket,
    link: WorkerLink | None = None,
) -> web.WebSocketResponse:
    """``link``: the connection of the worker that has opened the tunnel; None: a node has."""
    response = await _prepared(request)
    to = "its worker" if link is not None else "the node of its worker"
    works = () if link is None else (_silent(link),)
    await tunnelling.join_tunnels(response, tunnel, *works, to=to, cancelled=STOPS)
    return response


async def _silent(link: WorkerLink) -> None:
    """Raise Broken when the worker falls silent."""
    await link.fell_silent.wait()
    raise tunnelling.Broken(f"its worker has been silent for {UNKNOWN_AFTER_SECONDS:g} s")


@contextlib.asynccontextmanager
async def _connected(
    node: str, path: str, headers: Mapping[str, str]
) -> AsyncIterator[tunnelling.TunnelSocket]:
    """Open a tunnel to another node. Raises CannotEnter."""
    url = URL(node)
    url = url.with_path(url.path.rstrip("/") + path)
    async with aiohttp.ClientSession(headers=headers) as session:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                tunnel = await session.ws_connect(
                    url,
                    max_msg_size=tunnelling.MAX_MESSAGE_BYTES,
                    compress=0,
                    heartbeat=tunnelling.HEARTBEAT_SECONDS,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status == TooManyTunnels.status:
                raise TooManyTunnels(
                    "the node of this session accepts no more connections of this token: end some, "
                    "or use another token"
                ) from None
            raise CannotEnter(f"the node of this session answers {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CannotEnter(
                f"cannot reach the node of this session: {why_not(error, url)}"
            ) from None
        tunnelling.bound_silence(tunnel.get_extra_info("socket"))
        yield tunnel
