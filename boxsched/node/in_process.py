"""The in-process worker: an agent beside the node, told by it, reporting to its shard's inbox."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import attrs

from boxsched.clock import Clock
from boxsched.engine.stages import Stages
from boxsched.errors import StoreAway
from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.timing import heartbeat_seconds
from boxsched.protocol.workers import Connected, NewWorker, WorkerConnection
from boxsched.secrets.giving import Giving
from boxsched.store.store import Store
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.outbox import Finding
from boxsched.worker.supervisor.last_heartbeat import boottime

log = logging.getLogger(__name__)

LEVEL_LOOK_SECONDS = 5.0  # told or not
POLL_SECONDS = 0.2  # where nobody can tell
RETRY_SECONDS = 1.0


class LocalWorker:
    """Looks up what should run on it, whenever it is told to and every LEVEL_LOOK_SECONDS.

    ``told_of``: whether whoever gives it work can tell it so. ``deadline``: whether builds end by
    themselves where the node is away for ``lost_after``; not where it is the only node.
    """

    def __init__(
        self,
        new: NewWorker,
        store: Store,
        giving: Giving,
        ask: Callable[[int, inbox.Command], Awaitable[None]],
        report: Callable[[int, inbox.Reports], Awaitable[None]],
        clock: Clock,
        *,
        folder: Path,
        driver: str,
        log_limit: int,
        stop_grace: float,
        cluster: str,
        lost_after: float,
        deadline: bool,
        stages: Stages,
        told_of: Callable[[], bool],
    ) -> None:
        self._new = new
        self._store = store
        self._giving = giving
        self._ask = ask
        self._send_report = report
        self._lost_after = lost_after
        self._deadline = deadline
        self._told_of = told_of
        self._told = asyncio.Event()
        self._level: Sequence[Assignment] | None = None  # told, and not taken up yet
        self._reads = False
        self._stages = stages
        self._told_at: float | None = None  # since then it knows that there is something
        self._connected: Connected | None = None
        self._answered_at = 0.0
        self.agent = Agent(
            folder=folder,
            driver=driver,
            report=self._report,
            log=store.append_log,
            report_problem=self._report_problem,
            fix=self._fix,
            clock=clock.now,
            log_limit=log_limit,
            stop_grace=stop_grace,
            cluster=cluster,
            lost_after=lost_after if deadline else None,
            expects_jobs=bool(new.box_types),
        )

    @property
    def id(self) -> WorkerId | None:
        """None before it has connected."""
        return None if self._connected is None else self._connected.connection.worker

    def look(self, level: Sequence[Assignment] | None = None) -> None:
        """There may be something to start or to end. ``level``: all that it should be running.

        Levels come in the order of their batches. One that comes while another is being read may be
        older than that one: it is read anew.
        """
        self._level = None if self._reads else level
        if self._told_at is None:
            self._told_at = self._stages.clock()
        self._told.set()

    async def connect(self) -> None:
        """Its Boxes come into being with the shard's next turn."""
        self._answered_at = boottime()
        problem = self.agent.problem
        connected = await self._store.connect_worker(attrs.evolve(self._new, problem=problem))
        worker, number = connected.connection.worker, connected.connection.number
        boxes = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        said = inbox.BoxesSet(worker, boxes, self._new.node, number, problem)
        await self._ask(connected.shard, said)
        self._connected = connected  # else the next heartbeat is refused, and it connects anew

    async def start(self) -> None:
        """Once connected: that was a heartbeat, too."""
        await self.agent.start()
        self._heartbeat_answered(self._answered_at)

    async def run(self) -> None:
        """Level before edge: each look-up takes all that this worker should run."""
        assert self.id is not None
        while True:
            self._told.clear()
            try:
                await self.agent.reconcile(await self._desired(self.id))
            except StoreAway:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes with the news.
                async with asyncio.timeout(LEVEL_LOOK_SECONDS if self._told_of() else POLL_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                pass

    async def _desired(self, me: WorkerId) -> Sequence[Assignment]:
        told_at, self._told_at = self._told_at, None
        level, self._level = self._level, None
        if level is None:
            self._reads = True
            try:
                level = (await self._giving.assignments([me]))[me]
            finally:
                self._reads = False
        else:
            level = (await self._giving.fill({me: level}))[me]
        if told_at is not None:
            fresh = sum(not one.started for one in level)
            self._stages.add("tell", (self._stages.clock() - told_at) * fresh)
        return level

    async def beat(self) -> None:
        """Say that it is alive, again and again."""
        pause = heartbeat_seconds(self._lost_after)
        while True:
            sent, began = boottime(), time.monotonic()
            try:
                await self._beat(sent)
            except StoreAway:
                await asyncio.sleep(min(RETRY_SECONDS, pause))
                continue
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    async def _beat(self, sent: float) -> None:
        assert self._connected is not None
        connection = self._connected.connection
        if connection.worker in await self._write_beat(connection, self.agent.problem):
            self._heartbeat_answered(sent)
        else:
            await self.connect()  # it was taken for lost: its Boxes are here again
            self._heartbeat_answered(self._answered_at)
            self.look()

    async def _write_beat(
        self, connection: WorkerConnection, problem: str | None
    ) -> Collection[WorkerId]:
        problems = {} if problem is None else {connection.worker: problem}
        return await self._store.beat([connection], self._new.lost_after, problems)

    async def _report_problem(self, problem: str | None) -> None:
        assert self._connected is not None
        await self._write_beat(self._connected.connection, problem)

    def _heartbeat_answered(self, sent: float) -> None:
        if self._deadline:
            self.agent.heartbeat_answered(sent, self._lost_after)

    async def close(self) -> None:
        """Jobs go on under their supervisors, for the next life to adopt."""
        await self.agent.close()
        if self._connected is None:
            return
        try:
            await self._store.disconnect_workers([self._connected.connection])
        except StoreAway as error:
            log.warning("worker %s: not marked as disconnected: %s", self.id, error.message)

    async def _fix(self, found: Finding) -> str | None:
        return await self._store.fix_commit(*found)

    async def _report(self, reports: Sequence[inbox.JobStarted | inbox.JobFinished]) -> None:
        assert self._connected is not None
        await self._send_report(
            self._connected.shard,
            inbox.Reports(self._connected.connection.worker, tuple(reports)),
        )
