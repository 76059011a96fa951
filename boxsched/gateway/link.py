"""The connection of an accepted worker."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, NamedTuple

import attrs
from aiohttp import WSCloseCode

from boxsched.gateway.figures import Figures, Times
from boxsched.gateway.message_queue import MessageQueue
from boxsched.gateway.older_workers import fitting
from boxsched.gateway.outputs import within
from boxsched.gateway.received import ProtocolViolation, Report, read
from boxsched.gateway.worker_line import Slow, WorkerLine
from boxsched.gateway.worker_sender import WorkerSender
from boxsched.model import JobId, WorkerId
from boxsched.protocol import ghosts, inbox, wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import Connected
from boxsched.store.records import SshPlace

# Of one worker, before other tasks have a turn:
MESSAGES_AT_ONCE = 32
REPORTS_AT_ONCE = 1_000

LogChunk = tuple[JobId, int, int, bytes]  # job, attempt, offset, bytes

SILENT = "silent"  # the reason why a connection ends whose worker sends nothing

_log = logging.getLogger(__name__)


@attrs.frozen
class NodeSide:
    """The functions of the node that links use. The async ones may raise StoreAway."""

    report: Callable[[int, inbox.Reports], Awaitable[None]]
    append_log: Callable[[Sequence[LogChunk]], Awaitable[None]]
    fix_commit: Callable[[JobId, int, str], Awaitable[str | None]]
    open_session: Callable[[JobId, int, SshPlace], Awaitable[bool]]
    looked: Callable[[Collection[WorkerId]], Awaitable[bool]]
    settle: Callable[[], Awaitable[None]]  # waits until the looked-up state is durable
    beaten: Callable[["WorkerLink", int], None]
    log_limit: int  # limit of an attempt's stored output, in bytes
    figures: Figures
    times: Times


class Held(NamedTuple):
    """The parts of an assignment whose change causes a new level.

    ``started`` is not one of them, because the worker itself reported it.
    """

    lease_token: int
    attempt: int
    stop: bool


class WorkerLink:
    """Reads, stores and answers the messages of one worker, and sends its levels."""

    def __init__(
        self,
        line: WorkerLine,
        connected: Connected,
        node: NodeSide,
        hello: wire.Hello,
        token: str = "",
    ) -> None:
        self.connection = connected.connection
        self.hello = hello
        self.token = token  # the id of its token
        self.problem = hello.problem  # why it cannot begin jobs, from its last heartbeat
        self.worker = connected.connection.worker
        self._shard = connected.shard
        self._cache = hello.cache
        self._line = line
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._held: dict[JobId, Held] = {}  # the jobs that the last look-up found
        self._looked = False  # whether there was a look-up
        # What it holds that is not its own; None: it has not said so yet. ``noted``: these and the
        # notes that are in the store.
        self.ghosts: tuple[ghosts.HeldAttempt, ...] | None = None
        self.notes: tuple[str, ...] = ()
        self.noted: tuple[object, object] | None = None
        self._level_sent_at = self._loop.time()
        self._listens_since: float | None = None
        self._sending = WorkerSender(line)
        self._reports: MessageQueue[wire.Said] = MessageQueue(self._store_reports, node.times)
        self._output: MessageQueue[wire.Logged] = MessageQueue(self._store_output, node.times)
        self._found: MessageQueue[wire.Found] = MessageQueue(self._store_found, node.times)
        self._opened: MessageQueue[wire.Opened] = MessageQueue(self._store_opened, node.times)
        self._over: asyncio.Future[tuple[WSCloseCode, str]] = self._loop.create_future()
        self._may_leave = False  # the node told it to go
        self.fell_silent = asyncio.Event()  # the tunnels that were asked for over it end, too

    @property
    def address(self) -> str:
        """The worker's IP address."""
        return self._line.address

    # --- Levels -----------------------------------------------------------------------------

    def give(self, assignments: Sequence[Assignment], *, anyway: bool) -> bool:
        """Take the result of a look-up; send it if it is new, or ``anyway``. Return whether it is
        new."""
        held = {a.job: Held(a.lease_token, a.attempt, a.stop) for a in assignments}
        news = held != self._held
        self._held = held
        self._looked = True
        if news or anyway:
            self._level_sent_at = self._loop.time()
            self._sending.level(fitting(assignments, self.hello))
            self._node.figures.levels += 1
        return news

    def ack(
        self,
        number: int,
        stale: tuple[tuple[int, int], ...] = (),
        commit: str | None = None,
        end: tuple[ghosts.Lease, ...] = (),
    ) -> None:
        self._sending.ack(wire.Ack(number, stale, commit, end))

    def say(self, message: wire.Welcome | wire.Leave | wire.Drained | wire.Dial) -> None:
        self._may_leave = self._may_leave or isinstance(message, wire.Leave | wire.Drained)
        self._sending.text(wire.encode(message))

    def drained(self) -> None:
        """The worker is drained and has no jobs: tell it to end, if it knows that message."""
        if self.hello.ends_when_drained:
            self.say(wire.Drained())

    def end(self, code: WSCloseCode, reason: str) -> None:
        """End the connection from our side. ``reason``: the label of its metric."""
        if not self._over.done():
            self._over.set_result((code, reason))
        if reason == SILENT:
            self.fell_silent.set()

    # --- Silence ----------------------------------------------------------------------------

    def level_sent_before(self, time: float) -> bool:
        return self._level_sent_at < time

    def silent_since(self, time: float) -> bool:
        """Whether nothing has arrived since ``time`` (the loop's clock, seconds) while we were
        reading.
        """
        return self._listens_since is not None and self._listens_since < time

    # --- Its life ---------------------------------------------------------------------------

    async def live(self) -> None:
        """Serve the connection until either side ends it."""
        works: dict[str, Coroutine[Any, Any, None]] = {
            "read": self._read(),
            "send": self._sending.run(),
            "reports": self._reports.run(),
            "output": self._output.run(),
            "found": self._found.run(),
            "opened": self._opened.run(),
        }
        tasks: list[asyncio.Future[Any]] = [
            asyncio.create_task(work, name=f"worker {self.worker}: {name}")
            for name, work in works.items()
        ]
        try:
            await asyncio.wait([*tasks, self._over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            self._end_by(error)

    async def hang_up(self) -> None:
        """Close the socket after ``live``, and count why the connection ended."""
        if not self._over.done():
            self._log_end("it has disconnected", is_planned=self._may_leave)
            await self._line.hang_up(WSCloseCode.OK, "gone")
            return
        code, reason = self._over.result()
        self._node.figures.ended[reason] += 1
        if reason == SILENT:
            self._log_end(f"it was silent for {self._node.times.silence:g} s", is_planned=False)
        else:
            self._log_end(f"its connection ends here: {reason}", is_planned=True)
        if code is WSCloseCode.ABNORMAL_CLOSURE:
            self._line.cut()
        else:
            await self._line.hang_up(code, reason)

    def _log_end(self, how: str, *, is_planned: bool) -> None:
        level = logging.INFO if is_planned else logging.WARNING
        _log.log(level, "worker %s (%d) at %s: %s", self.hello.name, self.worker, self.address, how)

    def _end_by(self, error: BaseException | None) -> None:
        match error:
            case ProtocolViolation():
                _log.warning("worker %s: %s", self.worker, error)
                self.end(WSCloseCode.POLICY_VIOLATION, error.reason)
            case Slow():
                self.end(WSCloseCode.ABNORMAL_CLOSURE, "slow")
            case None | asyncio.CancelledError() | ConnectionError():
                pass  # the connection is closed already, or nothing is left to do
            case _:
                raise error

    # --- Messages from the worker -----------------------------------------------------------

    async def _read(self) -> None:
        """Read until the worker closes the connection. Raises ProtocolViolation.

        Messages that have arrived already are read without waiting, so other tasks get a turn here.
        """
        for count in itertools.count(1):
            if count % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            await self._sending.room()
            self._listens_since = self._loop.time()
            text = await self._line.receive()
            self._listens_since = None
            if text is None:
                return
            said = read(text)
            self._node.figures.messages += 1
            match said:
                case wire.Beat():
                    self.problem = said.problem
                    self._note_ghosts(said)
                    self._count_cache(said.cache)
                    self._node.beaten(self, said.number)
                case wire.Said():
                    await self._reports.put(said, len(text))
                case wire.Logged():
                    await self._output.put(said, len(text))
                case wire.Found():
                    await self._found.put(said, len(text))
                case wire.Opened():
                    await self._opened.put(said, len(text))

    def _note_ghosts(self, said: wire.Beat) -> None:
        """Remember what the worker holds and what is not in its level, and its notes, if it has
        named them. Its level may be older than the last look-up.
        """
        if said.ghosts is None or not self._looked:
            return
        own = {(job, held.lease_token) for job, held in self._held.items()}
        self.ghosts = tuple(one for one in said.ghosts if one.lease not in own)
        self.notes = said.notes

    def _count_cache(self, now: wire.CacheCounts | None) -> None:
        """Count what the worker's cache has done since its last message about it."""
        if now is None:
            return
        for name in wire.CacheCounts.__struct_fields__:
            grown = getattr(now, name) - getattr(self._cache, name)
            self._node.figures.cache[name] += max(0, grown)
        self._cache = now

    def _holds(self, report: Report | wire.Found | wire.Opened) -> bool:
        held = self._held.get(JobId(report.job))
        return held is not None and held.lease_token == report.lease_token

    async def _store_reports(self, group: list[wire.Said]) -> None:
        """Store the reports. After StoreAway, call it again: a repeated report changes nothing."""
        taken, stale = await self._sorted_out(group)
        if any(stale):
            await self._node.looked((self.worker,))
            taken, stale = await self._sorted_out(group)
        if any(stale):
            await self._node.settle()
        if taken:
            await self._node.report(self._shard, inbox.Reports(self.worker, taken))
        self._node.figures.reports += len(taken)
        for said, jobs in zip(group, stale, strict=True):
            self._node.figures.stale_reports += len(jobs)
            self.ack(said.number, jobs)

    async def _sorted_out(
        self, group: list[wire.Said]
    ) -> tuple[tuple[Report, ...], list[tuple[ghosts.Lease, ...]]]:
        """Return the reports on attempts that the worker holds, and for each message the leases of
        the others. What a message repeats counts once.
        """
        taken: list[Report] = []
        stale: list[tuple[ghosts.Lease, ...]] = []
        count = 0
        for said in group:
            held: dict[tuple[type[Report], int, int], Report] = {}
            refused: list[ghosts.Lease] = []
            for report in said.reports:
                count += 1
                if count % REPORTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if self._holds(report):
                    held.setdefault((type(report), report.job, report.lease_token), report)
                else:
                    refused.append((report.job, report.lease_token))
            taken += held.values()
            stale.append(tuple(refused))
        return tuple(taken), stale

    async def _store_found(self, group: list[wire.Found]) -> None:
        """Answer each with the commit of its workload, or as stale if its lease has ended."""
        if not all(self._holds(found) for found in group):
            await self._node.looked((self.worker,))
        for found in group:
            commit = None
            if self._holds(found):
                job = JobId(found.job)
                commit = await self._node.fix_commit(job, found.lease_token, found.commit)
            else:
                await self._node.settle()
            stale = ((found.job, found.lease_token),) if commit is None else ()
            self.ack(found.number, stale, commit)

    async def _store_opened(self, group: list[wire.Opened]) -> None:
        """Store how sessions are reached; answer as stale where the lease has ended."""
        if not all(self._holds(opened) for opened in group):
            await self._node.looked((self.worker,))
        for one in group:
            place = SshPlace(one.host, one.port, one.host_key)
            holds = self._holds(one)
            if not holds:
                await self._node.settle()
            elif not await self._node.open_session(JobId(one.job), one.lease_token, place):
                holds = False
            self.ack(one.number, () if holds else ((one.job, one.lease_token),))

    def _is_current(self, chunk: wire.Chunk) -> bool:
        held = self._held.get(JobId(chunk.job))
        return held is not None and held.attempt == chunk.attempt

    async def _store_output(self, group: list[wire.Logged]) -> None:
        """Store the output, except of jobs that the worker no longer has, and up to this node's
        limit.
        """
        if not all(self._is_current(chunk) for logged in group for chunk in logged.chunks):
            await self._node.looked((self.worker,))
            await self._node.settle()
        limit = self._node.log_limit
        chunks = [
            (JobId(chunk.job), chunk.attempt, chunk.offset, data)
            for logged in group
            for chunk in logged.chunks
            if self._is_current(chunk) and (data := within(chunk.offset, chunk.data, limit))
        ]
        if chunks:
            await self._node.append_log(chunks)
        for logged in group:
            self.ack(logged.number)
