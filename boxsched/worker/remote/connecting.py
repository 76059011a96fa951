"""Keep an external worker connected to one node, and choose the next node when that ends."""

import asyncio
import contextlib
import logging
import math
import random
import ssl
from collections.abc import AsyncIterator
from typing import Protocol

from boxsched.backoff import Backoff
from boxsched.protocol import wire
from boxsched.worker.agent.outbox import Finding, Opening
from boxsched.worker.remote.discovery import Choice, Discovery, NodeAddress
from boxsched.worker.remote.link import Link, Lost, NodeListener, NothingListens, RefusedByNode
from boxsched.worker.remote.messages import NumberedMessage, found_message, opened_message
from boxsched.worker.remote.opening import connection
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.polled_socket import PolledSocket
from boxsched.worker.supervisor.last_heartbeat import boottime

REPEAT_PROBLEM_SECONDS = 60.0

_log = logging.getLogger(__name__)


class ConnectedWorker(NodeListener, Protocol):
    """The worker that ``ConnectionLoop`` keeps connected."""

    def token(self) -> str:
        """Return the token. Raises RefusedByNode if there is none."""

    def tls(self) -> ssl.SSLContext | None:
        """Return how to check nodes' certificates; None: as this machine does. Raises Lost."""

    def hello(self) -> wire.Hello: ...

    async def welcome(self, node: NodeAddress, said: wire.Welcome, sent: float) -> None:
        """The node accepted the worker; its Hello was sent at ``sent`` (``boottime``).

        Raises Lost if the node belongs to another installation.
        """

    def disconnected(self) -> None:
        """The connection has ended."""


class ProblemLog:
    """Logs each problem once, and then repeats one about once a minute during an outage."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._tries = 0
        self._began = self._last = 0.0

    def add(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        self._tries += 1
        if self._tries == 1:
            self._began = self._last = now
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s", what)
        elif now - self._last >= REPEAT_PROBLEM_SECONDS:
            _log.warning("%s (try %d in %.0f s)", what, self._tries, now - self._began)
        else:
            return
        self._last = now

    def end(self) -> None:
        """Forget all problems: the worker is connected."""
        self._said.clear()
        self._tries = 0


class ConnectionLoop:
    """``run`` keeps the worker connected to a random node, and to another one when that ends.

    The pauses are random, so that many workers do not connect at the same moment.
    """

    def __init__(
        self, worker: ConnectedWorker, discovery: Discovery, *, chance: random.Random, pace: Pace
    ) -> None:
        self._worker = worker
        self._discovery = discovery
        self._chance = chance
        self._pace = pace
        self._choice = Choice(chance)
        self._backoff = Backoff(pace.first_wait, pace.longest_wait)
        self._accepted = False  # a node has accepted the worker since the start
        self._token: str | None = None  # the last token; None: there was none
        self._link: Link | None = None
        self.node: NodeAddress | None = None  # the node of the connection
        self.polls = False  # whether the connection uses long polling
        self._up = asyncio.Event()
        self._sending = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._problems = ProblemLog()
        self._hanging: set[NodeAddress] = set()  # whose last connection got no answer

    @property
    def token(self) -> str:
        """The token of the connection."""
        return self._token or ""

    async def send(self, message: NumberedMessage) -> None:
        """Wait for a node and send it the message; return when it is durable.

        Raises StoreAway if the connection ends before the Ack.
        """
        async with self._linked() as link:
            await link.send(message)

    async def fix(self, found: Finding) -> str | None:
        """Report a commit and return the one to run; otherwise like ``send``.

        A node of an earlier version does not fix commits: then the job runs the one it found.
        """
        async with self._linked() as link:
            if not link.fixes_commits:
                return found[2]
            return (await link.send(found_message(found))).commit

    async def open_session(self, opening: Opening) -> bool:
        """Report how a session is reached; False if the lease has ended; otherwise like ``send``.

        A node of an earlier version gives no sessions, but one may run when it takes over.
        """
        async with self._linked() as link:
            if not link.opens_sessions:
                return True
            job, token = opening[:2]
            return (job, token) not in (await link.send(opened_message(opening))).stale

    @contextlib.asynccontextmanager
    async def _linked(self) -> AsyncIterator[Link]:
        self._sending += 1
        self._quiet.clear()
        try:
            while self._link is None:
                await self._up.wait()
            yield self._link
        finally:
            self._sending -= 1
            if not self._sending:
                self._quiet.set()

    async def flush(self) -> None:
        """Wait a short time for the node to acknowledge sent messages."""
        if self._link is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.flush):
                    await self._quiet.wait()

    async def run(self) -> None:
        """Connect forever. Raises RefusedByNode if no node has accepted the worker before."""
        node: NodeAddress | None = None
        while True:
            node = self._choice.next(await self._known(), node)
            try:
                wait = await self._connect_once(node)
            except RefusedByNode as refusal:
                if not self._accepted:
                    raise RefusedByNode(f"{node}: {refusal}") from None
                self._problems.add(f"{node}: {refusal}; jobs continue, trying again")
                await self._wait_for_token(
                    self._chance.uniform(self._pace.refused / 2, self._pace.refused)
                )
                continue
            except Lost as lost:
                self._problems.add(f"cannot connect to {node}: {lost}; {self._next()}")
                longest = self._pace.longest_wait
                if isinstance(lost, NothingListens):
                    longest = self._pace.longest_wait_unheard
                wait = self._tries_again_in(longest)
            await asyncio.sleep(wait)

    def _tries_again_in(self, longest: float = math.inf) -> float:
        """Return a random time below the pause and ``longest``, in seconds ("full jitter")."""
        return self._chance.uniform(0.0, min(self._backoff.next(), longest))

    async def _wait_for_token(self, seconds: float) -> None:
        """Wait for that many seconds, or until the token differs from the refused one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, self._pace.look))
            with contextlib.suppress(RefusedByNode):
                if self._worker.token() != self._token:
                    return

    def _next(self) -> str:
        return "trying another" if len(self._discovery.nodes) > 1 else "trying again"

    async def _known(self) -> tuple[NodeAddress, ...]:
        while not self._discovery.nodes:
            await self._discovery.refresh()
            if not self._discovery.nodes:
                await asyncio.sleep(self._tries_again_in())
        return self._discovery.nodes

    async def _connect_once(self, node: NodeAddress) -> float:
        """Run one connection to its end; return the seconds to wait before the next one.

        Raises Lost, RefusedByNode.
        """
        async with contextlib.AsyncExitStack() as opened:
            try:
                async with asyncio.timeout(self._pace.connect):
                    link, welcome, sent = await self._open_link(node, opened)
            except TimeoutError:
                self._hanging ^= {node}  # a proxy may swallow WebSockets, or long polling
                raise Lost(f"no answer within {self._pace.connect:g} s") from None
            await self._worker.welcome(node, welcome, sent)
            self._accepted = True
            self._choice.settled()
            self._problems.end()
            try:
                await self._serve(link, node)
            except Lost as lost:
                self._problems.add(f"lost the connection to {node}: {lost}; {self._next()}")
                return self._tries_again_in()
            _log.info("%s is leaving; %s", node, self._next())
            return self._chance.uniform(0.0, self._pace.leave)

    async def _open_link(
        self, node: NodeAddress, opened: contextlib.AsyncExitStack
    ) -> tuple[Link, wire.Welcome, float]:
        self._token = None
        self._token = self._worker.token()
        socket = await opened.enter_async_context(
            connection(
                node,
                self._token,
                polls_first=node in self._hanging,
                tls=self._worker.tls(),
            )
        )
        self.polls = isinstance(socket, PolledSocket)
        link = Link(socket, self._pace, self._chance)
        sent = boottime()
        return link, await link.greet(self._worker.hello()), sent

    async def _serve(self, link: Link, node: NodeAddress) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._link, self.node = link, node
        self._up.set()
        try:
            await link.serve(self._worker)
        finally:
            self._link = self.node = None
            self._up.clear()
            self._worker.disconnected()
            if loop.time() - began >= self._pace.steady:
                self._backoff.reset()
