"""The in-process worker: an agent in the node's process, which reports to its shard's inbox."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import attrs

from boxsched.clock import Clock
from boxsched.engine.stages import Stages
from boxsched.errors import StoreAway
from boxsched.model import JobId, WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import Haunted
from boxsched.protocol.timing import heartbeat_seconds
from boxsched.protocol.workers import Connected, NewWorker, WorkerConnection
from boxsched.secrets.assignment_secrets import AssignmentSecrets
from boxsched.store.records import SshPlace
from boxsched.store.store import Store
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.agent.outbox import Finding, Opening
from boxsched.worker.agent.transfers import Transfers
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.last_heartbeat import boottime
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits

log = logging.getLogger(__name__)

LEVEL_LOOK_SECONDS = 5.0  # between two look-ups without a notification
POLL_SECONDS = 0.2  # the same if notifications do not work
RETRY_SECONDS = 1.0


class LocalWorker:
    """The worker in this node. It looks up its assignments after each notification, and at least
    every LEVEL_LOOK_SECONDS.

    ``is_notified``: whether notifications about new work reach this node. ``deadline``: whether
    builds end when the node is away for ``lost_after`` seconds; not if it is the only node.
    """

    def __init__(
        self,
        new: NewWorker,
        store: Store,
        giving: AssignmentSecrets,
        ask: Callable[[int, inbox.Command], Awaitable[None]],
        report: Callable[[int, inbox.Reports], Awaitable[None]],
        clock: Clock,
        *,
        folder: Path,
        driver: str,
        isolation: Isolation | None = None,
        limits: Limits = NO_LIMITS,
        images: Images = NO_IMAGES,
        log_limit: int,
        stop_grace: float,
        cluster: str,
        lost_after: float,
        deadline: bool,
        stages: Stages,
        is_notified: Callable[[], bool],
        ssh_address: str | None = None,
        transfers: Transfers | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self._new = new
        self._store = store
        self._giving = giving
        self._ask = ask
        self._send_report = report
        self._lost_after = lost_after
        self._deadline = deadline
        self._is_notified = is_notified
        self._notified = asyncio.Event()
        self._level: Sequence[Assignment] | None = None  # received, but not applied
        self._reads = False
        self._stages = stages
        self._notified_at: float | None = None  # the first notification that is not processed
        self._connected: Connected | None = None
        self._answered_at = 0.0
        self._noted: object = None  # the ghosts and notes that the store knows
        self.agent = Agent(
            folder=folder,
            driver=driver,
            isolation=isolation,
            limits=limits,
            images=images,
            report=self._report,
            log=store.append_log,
            report_problem=self._report_problem,
            fix=self._fix,
            open_session=self._open_session,
            ssh_address=ssh_address,
            clock=clock.now,
            log_limit=log_limit,
            stop_grace=stop_grace,
            cluster=cluster,
            lost_after=lost_after if deadline else None,
            expects_jobs=bool(new.box_types),
            transfers=transfers,
            cache_bytes=cache_bytes,
        )

    @property
    def id(self) -> WorkerId | None:
        """The worker's id, None before it has connected."""
        return None if self._connected is None else self._connected.connection.worker

    def look(self, level: Sequence[Assignment] | None = None) -> None:
        """Notify the worker of changes. ``level``: all assignments that it should run.

        Levels arrive in the order of their batches. A level that arrives while the worker reads the
        database may be older than the result, so the worker reads again.
        """
        self._level = None if self._reads else level
        if self._notified_at is None:
            self._notified_at = self._stages.clock()
        self._notified.set()

    async def connect(self) -> None:
        """Register the worker. The shard's next turn adds its Boxes."""
        self._answered_at = boottime()
        problem = self.agent.problem
        connected = await self._store.connect_worker(attrs.evolve(self._new, problem=problem))
        worker, number = connected.connection.worker, connected.connection.number
        boxes = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        new = self._new
        said = inbox.BoxesSet(worker, boxes, new.node, number, problem, new.name, new.fingerprint)
        await self._ask(connected.shard, said)
        self._connected = connected  # only now: otherwise the next heartbeat connects again

    async def start(self) -> None:
        """Start the agent; call ``connect`` first, which is also a heartbeat."""
        await self.agent.start()
        self._heartbeat_answered(self._answered_at)

    async def run(self) -> None:
        """Apply changes until cancelled. Each look-up reads all assignments of this worker."""
        assert self.id is not None
        while True:
            self._notified.clear()
            try:
                await self.agent.reconcile(await self._desired(self.id))
            except StoreAway:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                # Not wait_for: Python 3.11 loses a cancellation that arrives with the event.
                async with asyncio.timeout(
                    LEVEL_LOOK_SECONDS if self._is_notified() else POLL_SECONDS
                ):
                    await self._notified.wait()
            except TimeoutError:
                pass

    async def _desired(self, me: WorkerId) -> Sequence[Assignment]:
        notified_at, self._notified_at = self._notified_at, None
        level, self._level = self._level, None
        if level is None:
            self._reads = True
            try:
                level = (await self._giving.assignments([me]))[me]
            finally:
                self._reads = False
        else:
            level = (await self._giving.fill({me: level}))[me]
        if notified_at is not None:
            fresh = sum(not one.started for one in level)
            self._stages.add("tell", (self._stages.clock() - notified_at) * fresh)
        return level

    async def beat(self) -> None:
        """Write heartbeats until cancelled."""
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
            await self._note_ghosts(connection)
        else:
            await self.connect()  # it counted as lost: register its Boxes again
            self._heartbeat_answered(self._answered_at)
            self.look()

    async def _write_beat(
        self, connection: WorkerConnection, problem: str | None
    ) -> Collection[WorkerId]:
        problems = {} if problem is None else {connection.worker: problem}
        return await self._store.beat([connection], self._new.lost_after, problems)

    async def _note_ghosts(self, connection: WorkerConnection) -> None:
        """Store what runs here and is not this worker's any more; end what a person decided."""
        held, notes = self.agent.ghosts, self.agent.notes
        if held is None or not (held or self._noted != (held, notes)):
            return
        ends = await self._store.note_ghosts([Haunted(connection, held, notes)])
        self._noted = held, notes
        decided = ends.get(connection.worker, ())
        self.agent.end_ghosts([(JobId(job), token) for job, token in decided])

    async def _report_problem(self, problem: str | None) -> None:
        assert self._connected is not None
        await self._write_beat(self._connected.connection, problem)

    def _heartbeat_answered(self, sent: float) -> None:
        if self._deadline:
            self.agent.heartbeat_answered(sent, self._lost_after)

    async def close(self) -> None:
        """Close the agent. Jobs continue under their supervisors; the next start adopts them."""
        await self.agent.close()
        if self._connected is None:
            return
        try:
            await self._store.disconnect_workers([self._connected.connection])
        except StoreAway as error:
            log.warning("worker %s: not marked as disconnected: %s", self.id, error.message)

    async def _fix(self, found: Finding) -> str | None:
        return await self._store.fix_commit(*found)

    async def _open_session(self, opening: Opening) -> bool:
        job, token, host, port, host_key = opening
        return await self._store.open_ssh_session(job, token, SshPlace(host, port, host_key))

    async def _report(self, reports: Sequence[inbox.JobStarted | inbox.JobFinished]) -> None:
        assert self._connected is not None
        await self._send_report(
            self._connected.shard,
            inbox.Reports(self._connected.connection.worker, tuple(reports)),
        )
