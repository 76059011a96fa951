"""From node to node: whom a worker of its own is connected to, and whom it tries next."""

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
    """Who goes from node to node."""

    def token(self) -> str:
        """Raises NotTaken where there is none to be had."""

    def hello(self) -> wire.Hello: ...

    async def welcome(self, node: NodeAddress, said: wire.Welcome, sent: float) -> None:
        """Taken, by a Hello sent at that time (``boottime``). Raises Lost for the wrong node."""

    def parted(self) -> None:
        """The connection is gone."""


class Complaints:
    """Each thing once, then about once a minute how it stands: an outage fills no log, and none
    goes on in silence."""

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
    """``run`` goes on for ever. A node at random; where it goes, the next, spread by chance."""

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
        """Waits for a node; raises StoreAway where it goes before it has answered."""
        async with self._linked() as link:
            await link.say(sentence)

    async def fix(self, found: Finding) -> str | None:
        """As ``say``: what the node answers. A node of an earlier version fixes no commits: there
        the job runs what it found."""
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
        """What is being said to a node has a moment to be answered."""
        if self._link is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.flush):
                    await self._quiet.wait()

    async def run(self) -> None:
        """Raises NotTaken where none has taken this worker yet and one will not."""
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
        """Seconds; anywhere below the pause ("full jitter"), so that a herd spreads out."""
        return self._chance.uniform(0.0, self._backoff.next())

    async def _rest(self, seconds: float) -> None:
        """So long, or until there is another token than the one that was not taken."""
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
        """One connection, to its end; seconds to wait before another. Raises Lost, NotTaken."""
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
