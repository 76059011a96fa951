"""Which node an external worker is connected to, and which one it tries next."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Protocol

from boxsched.backoff import Backoff
from boxsched.protocol import wire
from boxsched.worker.agent.outbox import Finding
from boxsched.worker.remote.discovery import Choice, Discovery, NodeAddress
from boxsched.worker.remote.link import Link, Lost, NodeListener, NotTaken, connection
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.saying import Sentence, found_in_sentence
from boxsched.worker.supervisor.heard import boottime

COMPLAIN_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Visitor(NodeListener, Protocol):
    """The worker that is connected to one node after another."""

    def token(self) -> str:
        """Return the token. Raises NotTaken if there is none."""

    def hello(self) -> wire.Hello: ...

    async def welcome(self, node: NodeAddress, said: wire.Welcome, sent: float) -> None:
        """The node took the worker; its Hello was sent at ``sent`` (``boottime``).

        Raises Lost if the node is of another installation.
        """

    def parted(self) -> None:
        """The connection has ended."""


class Complaints:
    """Logs each complaint once, and then about once a minute that the worker is not connected.

    So an outage does not fill the log, and does not go on in silence.
    """

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
        elif now - self._last >= COMPLAIN_AGAIN_SECONDS:
            _log.warning("%s (try %d in %.0f s)", what, self._tries, now - self._began)
        else:
            return
        self._last = now

    def end(self) -> None:
        """It is connected."""
        self._said.clear()
        self._tries = 0


class Tour:
    """``run`` keeps the worker connected, for ever: to a node at random, and then to another one.

    The pauses are random, so that many workers do not connect at the same moment.
    """

    def __init__(
        self, visitor: Visitor, discovery: Discovery, *, chance: random.Random, pace: Pace
    ) -> None:
        self._visitor = visitor
        self._discovery = discovery
        self._chance = chance
        self._pace = pace
        self._choice = Choice(chance)
        self._backoff = Backoff(pace.first_wait, pace.longest_wait)
        self._taken = False  # by any node, so far
        self._token: str | None = None  # the last that was given; None: none was to be had
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._saying = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._complaints = Complaints()

    async def say(self, sentence: Sentence) -> None:
        """Wait for a node and send it the message; return when it is durable.

        Raises StoreAway if the connection ends before the Ack.
        """
        async with self._linked() as link:
            await link.say(sentence)

    async def fix(self, found: Finding) -> str | None:
        """Report a commit and return the one to run; otherwise as ``say``.

        A node of an earlier version does not fix commits: then the job runs what it found.
        """
        async with self._linked() as link:
            if not link.fixes_commits:
                return found[2]
            return (await link.say(found_in_sentence(found))).commit

    @contextlib.asynccontextmanager
    async def _linked(self) -> AsyncIterator[Link]:
        self._saying += 1
        self._quiet.clear()
        try:
            while self._link is None:
                await self._up.wait()
            yield self._link
        finally:
            self._saying -= 1
            if not self._saying:
                self._quiet.set()

    async def flush(self) -> None:
        """Give the node a moment to acknowledge what was sent."""
        if self._link is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.flush):
                    await self._quiet.wait()

    async def run(self) -> None:
        """Connect for ever. Raises NotTaken if a node refuses the worker before one took it."""
        node: NodeAddress | None = None
        while True:
            node = self._choice.next(await self._known(), node)
            try:
                wait = await self._visit(node)
            except NotTaken as refusal:
                if not self._taken:
                    raise NotTaken(f"{node}: {refusal}") from None
                self._complaints.add(f"{node}: {refusal}; jobs go on, trying again")
                await self._rest(self._chance.uniform(self._pace.refused / 2, self._pace.refused))
                continue
            except Lost as lost:
                self._complaints.add(f"cannot connect to {node}: {lost}; {self._next()}")
                wait = self._tries_again_in()
            await asyncio.sleep(wait)

    def _tries_again_in(self) -> float:
        """Return a random time below the pause, in seconds ("full jitter")."""
        return self._chance.uniform(0.0, self._backoff.next())

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the token is another one than the one that was refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, self._pace.look))
            with contextlib.suppress(NotTaken):
                if self._visitor.token() != self._token:
                    return

    def _next(self) -> str:
        return "trying another" if len(self._discovery.nodes) > 1 else "trying again"

    async def _known(self) -> tuple[NodeAddress, ...]:
        while not self._discovery.nodes:
            await self._discovery.refresh()
            if not self._discovery.nodes:
                await asyncio.sleep(self._tries_again_in())
        return self._discovery.nodes

    async def _visit(self, node: NodeAddress) -> float:
        """Run one connection to its end; return the seconds to wait before the next one.

        Raises Lost, NotTaken.
        """
        async with contextlib.AsyncExitStack() as opened:
            try:
                async with asyncio.timeout(self._pace.connect):
                    link, welcome, sent = await self._enter(node, opened)
            except TimeoutError:
                raise Lost(f"no answer within {self._pace.connect:g} s") from None
            await self._visitor.welcome(node, welcome, sent)
            self._taken = True
            self._choice.settled()
            self._complaints.end()
            try:
                await self._stay(link)
            except Lost as lost:
                self._complaints.add(f"lost the connection to {node}: {lost}; {self._next()}")
                return self._tries_again_in()
            _log.info("%s is leaving; %s", node, self._next())
            return self._chance.uniform(0.0, self._pace.leave)

    async def _enter(
        self, node: NodeAddress, opened: contextlib.AsyncExitStack
    ) -> tuple[Link, wire.Welcome, float]:
        self._token = None
        self._token = self._visitor.token()
        socket = await opened.enter_async_context(connection(node, self._token))
        link = Link(socket, self._pace, self._chance)
        sent = boottime()
        return link, await link.greet(self._visitor.hello()), sent

    async def _stay(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._link = link
        self._up.set()
        try:
            await link.serve(self._visitor)
        finally:
            self._link = None
            self._up.clear()
            self._visitor.parted()
            if loop.time() - began >= self._pace.steady:
                self._backoff.reset()
