"""The gateway: accepts workers' connections and keeps track of those of this node."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence

from aiohttp import WSCloseCode, web

from boxsched.backoff import Backoff
from boxsched.errors import StoreAway
from boxsched.gateway.entry import Entry, Gone, WorkerRefused, refuse
from boxsched.gateway.figures import Figures, Times
from boxsched.gateway.link import SILENT, LogChunk, NodeSide, WorkerLink
from boxsched.gateway.long_polls import LongPolls
from boxsched.gateway.lookups import LevelSource, LookUps
from boxsched.gateway.presence import Beating, Beats, Ends
from boxsched.gateway.received import ProtocolViolation
from boxsched.gateway.refusals import RefusalLog
from boxsched.gateway.worker_line import Slow, WorkerLine
from boxsched.gateway.worker_socket import WorkerSocket
from boxsched.gather import Gather
from boxsched.model import WorkerId
from boxsched.protocol import inbox, wire
from boxsched.protocol.fingerprint import Parts, differences, parts
from boxsched.store.errors import InUse, in_use
from boxsched.store.records import Token
from boxsched.store.store import Store

MAX_CONNECTIONS = 2_000
# Of one token: for each of its workers, and in addition.
CONNECTIONS_PER_WORKER, SPARE_CONNECTIONS = 2, 8
OUTPUT_AT_ONCE = 8  # groups of 2 MiB at most, in one transaction

_log = logging.getLogger(__name__)


def _differ(one: str, other: str) -> bool:
    """Whether both have said it, and said different things."""
    return bool(one and other and one != other)


async def _no_objection() -> None:
    """Allow every worker with a valid token."""


class Gateway:
    """The gateway of a node; see the package. ``ask`` and ``report``: store a command, durable when
    they return. ``hints_reach``: whether hints reach this node. ``source``: finds the levels of
    workers. ``objects``: why no external worker may connect, or None. The node must run ``run`` as
    a task.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[int, inbox.Command], Awaitable[None]],
        report: Callable[[int, inbox.Reports], Awaitable[None]],
        *,
        node: str,
        cluster: str,
        lost_after: float,
        required: Parts,
        log_limit: int,
        hints_reach: Callable[[], bool],
        source: LevelSource,
        objects: Callable[[], Awaitable[str | None]] = _no_objection,
        times: Times = Times(),  # noqa: B008 (a frozen value)
    ) -> None:
        self.figures = Figures()
        self._store = store
        self._cluster = cluster
        self._node = node
        self._lost_after = lost_after
        self._required = required
        self._hints_reach = hints_reach
        self.times = times
        self._links: dict[WorkerId, WorkerLink] = {}
        self._lines: dict[WorkerLine, str] = {}  # with the id of each one's token
        self._of_token: Counter[str] = Counter()  # the number of lines of a token
        self._left = asyncio.Event()  # set while no connection is open
        self._left.set()
        self._leaving = False
        self._entry = Entry(
            store,
            ask,
            node=node,
            lost_after=lost_after,
            leaves=lambda: self._leaving,
            objects=objects,
            times=times,
        )
        self.polls = LongPolls(node, self._serve, times)
        self._refusals = RefusalLog(store, ask)
        self._look_ups = LookUps(source, self._links, self.figures, times)
        every = min(times.beats, lost_after / 10)
        self._beats = Beats(store, every, self._is_here, lost_after)
        self._ends = Ends(store, times)
        self._output: Gather[Sequence[LogChunk], None] = Gather(
            self._append_logs, at_most=OUTPUT_AT_ONCE
        )
        self._side = NodeSide(
            report=report,
            append_log=lambda chunks: asyncio.shield(self._output.add(chunks)),
            fix_commit=store.fix_commit,
            open_session=store.open_ssh_session,
            looked=self._look_ups.looked,
            settle=store.settle,
            beaten=self._beats.add,
            log_limit=log_limit,
            figures=self.figures,
            times=times,
        )

    # --- What the node calls ----------------------------------------------------------------

    @property
    def connected(self) -> Collection[WorkerId]:
        return self._links.keys()

    def link(self, worker: WorkerId) -> WorkerLink | None:
        """Return the connection of a worker to this node, if there is one."""
        return self._links.get(worker)

    def look(self, workers: Collection[WorkerId]) -> None:
        """Look up soon what these workers should run, if they are connected here."""
        self._look_ups.look(workers)

    async def looked(self, workers: Collection[WorkerId]) -> None:
        """Like ``look``, but return when the levels are queued to be sent. Raises StoreAway."""
        await self._look_ups.looked(workers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for work in (
                self._look_ups.run(),
                self._beats.run(),
                self._ends.run(),
                self._watch(),
                self._poll(),
            ):
                tasks.create_task(work)

    async def serve(self, request: web.Request, token: Token) -> web.WebSocketResponse:
        """Serve a worker's WebSocket until it ends; ``token`` is its token, already checked.

        ``polls`` has the connections of workers without WebSockets.
        """
        line = WorkerSocket(request, self.times)
        await line.open()
        await self._serve(line, token)
        return line.response

    async def close(self) -> None:
        """Send Leave to all workers, and close the remaining connections after a short time.

        The workers are not marked as disconnected, because each connects again at once, to another
        node or to this one after a restart. If one does not, its silence or the absence of its node
        shows it.
        """
        self._leaving = True
        for link in self._links.values():
            link.say(wire.Leave())
        await self._all_left(self.times.leave)
        for link in self._links.values():
            link.end(WSCloseCode.SERVICE_RESTART, "leaving")
        if not await self._all_left(2 * self.times.hang_up):
            for line in self._lines:
                line.cut()
            await self._all_left(self.times.hang_up)
        try:
            async with asyncio.timeout(self.times.hang_up):
                await self._output.drain()
                await self._ends.write()
        except (StoreAway, TimeoutError) as error:
            _log.warning("workers could not be marked as disconnected: %r", error)

    async def _all_left(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._left.wait()
        except TimeoutError:
            pass
        return not self._lines

    # --- A connection -----------------------------------------------------------------------

    async def _serve(self, line: WorkerLine, token: Token) -> None:
        self._lines[line] = token.id
        self._of_token[token.id] += 1
        self._left.clear()
        try:
            await self._serve_accepted(line, token)
        finally:
            del self._lines[line]
            self._of_token[token.id] -= 1
            if not self._of_token[token.id]:
                del self._of_token[token.id]
            if not self._lines:
                self._left.set()

    async def _serve_accepted(self, line: WorkerLine, token: Token) -> None:
        try:
            if len(self._lines) > MAX_CONNECTIONS:
                raise WorkerRefused(
                    "full",
                    "this node has its maximum number of workers: connect to another node",
                    again=True,
                )
            self._refuse_flood(token)
            hello = await self._entry.hello(line)
            if isinstance(hello, wire.Check):
                await self._answer_check(line, hello.hello, token)
                return
            try:
                self._refuse_copy(hello, token)
                connected = await self._entry.connect(line, hello, token)
            except WorkerRefused as refusal:
                answer = refusal.answer
                await self._refusals.note(
                    inbox.RefusedWorker(
                        hello.name, token.id, line.address, answer.code, answer.message
                    ),
                    token.organization,
                )
                raise
            try:
                await self._entry.announce(line, connected, hello)
                link = WorkerLink(line, connected, self._side, hello, token.id)
                await self._attend(link)
            finally:
                self._entry.forget(connected.connection)
                if not self._leaving:  # otherwise the worker is already moving to another node
                    self._ends.add(connected.connection)
            await link.hang_up()
        except WorkerRefused as refusal:
            self.figures.refused[refusal.answer.code] += 1
            await refuse(line, refusal)
        except ProtocolViolation as violation:
            self.figures.ended[violation.reason] += 1
            _log.warning("a connection from %s: %s", line.address, violation)
            await line.hang_up(WSCloseCode.POLICY_VIOLATION, violation.reason)
        except Slow:
            line.cut()
        except Gone:
            await line.hang_up(WSCloseCode.OK, "gone")

    async def _answer_check(self, line: WorkerLine, hello: wire.Hello, token: Token) -> None:
        """Say whether the worker would be accepted. Raises Slow, Gone."""
        answer: wire.WouldAccept | wire.Refused
        try:
            self._refuse_copy(hello, token)
            await self._entry.check(line, hello, token)
            answer = wire.WouldAccept(differences(parts(hello.fingerprint), self._required))
        except WorkerRefused as refusal:
            answer = refusal.answer
        try:
            await line.send([wire.encode(answer)])
        except ConnectionError:
            raise Gone from None
        await line.hang_up(WSCloseCode.OK, "checked")

    def _refuse_flood(self, token: Token) -> None:
        """Refuse a connection of a token that has too many here, also of those without a Hello.

        A worker has one connection, and for a short time those that it has lost.
        """
        most = CONNECTIONS_PER_WORKER * token.max_workers + SPARE_CONNECTIONS
        if self._of_token[token.id] > most:
            raise WorkerRefused(
                "too_many",
                f"this token has {most} connections to this node, its limit: find the program that "
                "opens so many and stop it, or revoke the token; for more workers, create another "
                "token with `boxsched token create --role worker --fleet N`",
                again=True,
            )

    def _refuse_copy(self, hello: wire.Hello, token: Token) -> None:
        """Refuse a worker whose other process is connected here: one is a copy of the other.

        Each would begin the jobs of the other. After a restart of its machine, a worker waits here
        until the old connection is known to be dead. The store refuses copies at other nodes.
        """
        for link in self._links.values():
            other = link.hello
            if (other.identity, link.token) != (hello.identity, token.id):
                continue
            if _differ(other.start, hello.start) or _differ(other.boot, hello.boot):
                raise WorkerRefused(InUse.code, in_use(link.address, self._node), again=True)

    async def _attend(self, link: WorkerLink) -> None:
        """Serve the link as this node's connection of its worker."""
        other = self._links.get(link.worker)
        if other is not None:
            if other.connection.number > link.connection.number:
                raise Gone
            other.end(WSCloseCode.OK, "replaced")
        differs = differences(parts(link.hello.fingerprint), self._required)
        link.say(
            wire.Welcome(
                link.worker,
                self._cluster,
                self._lost_after,
                fixes_commits=True,
                differs=differs,
                opens_sessions=True,
            )
        )
        self._links[link.worker] = link
        self.figures.connects += 1
        self.figures.connected = len(self._links)
        self._look_ups.look((link.worker,), anyway=True)
        try:
            await link.live()
        finally:
            if self._is_here(link):
                del self._links[link.worker]
            self.figures.connected = len(self._links)

    def _is_here(self, link: Beating) -> bool:
        return self._links.get(link.connection.worker) is link

    async def _append_logs(self, group: Sequence[Sequence[LogChunk]]) -> list[None]:
        await self._store.append_log([chunk for chunks in group for chunk in chunks])
        return [None] * len(group)

    # --- At intervals -----------------------------------------------------------------------

    async def _watch(self) -> None:
        """Close silent connections, and send levels again after ``Times.level`` seconds."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self.times.silence, self.times.level) / 10)
            now = loop.time()
            for link in self._links.values():
                if link.silent_since(now - self.times.silence):
                    link.end(WSCloseCode.TRY_AGAIN_LATER, SILENT)
            due = [
                worker
                for worker, link in self._links.items()
                if link.level_sent_before(now - self.times.level)
            ]
            self._look_ups.look(due, anyway=True)

    async def _poll(self) -> None:
        """Look up all workers repeatedly while hints do not reach this node: more often after
        changes.
        """
        loop = asyncio.get_running_loop()
        backoff, spent = Backoff(self.times.poll_fastest, self.times.poll), 0.0
        while True:
            # Use at most half of the time for this.
            await asyncio.sleep(max(backoff.next(), spent))
            spent = 0.0
            if self._hints_reach() or not self._links:
                continue
            began = loop.time()
            try:
                if await self._look_ups.looked(list(self._links)):
                    backoff.reset()
            except StoreAway:
                pass  # look-ups pause by themselves
            spent = loop.time() - began
