"""An external worker: an agent, and a connection to one node at a time.

``run`` owns the data folder and three tasks:

* The connection loop keeps the worker connected to a random node. When the connection ends, it
  connects to another node.
* The follower owns the agent and passes the newest level to it. The agent starts with the first
  Welcome. After a restart it starts at once, because the worker has stored the name of its
  installation. So it adopts jobs even if no node can be reached.
* Discovery queries the DNS repeatedly.

Reports and output wait for a connection and for the node's Ack. If the connection ends before the
Ack, they are sent again on the next connection; lease tokens and offsets make that harmless. Nodes
send levels. When a connection ends, a level that the follower has not begun is dropped, because the
next connection begins with a newer one.

A worker belongs to the installation that accepted it last. Another installation can accept it only
with the first connection after a start. The folders of the former installation are then set aside.
Later, a node of another installation is a mistake in the list of URLs; the worker does not use it.
"""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from boxsched import __version__
from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.fingerprint import of_worker
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.protocol.timing import LOST_AFTER_SECONDS
from boxsched.worker.agent import images, limiting
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.agent.outbox import LogChunk, Report
from boxsched.worker.agent.site import boot_id
from boxsched.worker.remote import identity as keeping
from boxsched.worker.remote.connecting import ConnectionLoop
from boxsched.worker.remote.discovery import Discovery, NodeAddress
from boxsched.worker.remote.files import NodeFiles
from boxsched.worker.remote.link import Lost
from boxsched.worker.remote.messages import (
    log_messages,
    report_messages,
    short_problem,
)
from boxsched.worker.remote.opening import tunnel_connection
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.tls import BadTlsFile, TlsFiles
from boxsched.worker.remote.tunnels import Tunnels
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits

ENDING_SECONDS = 0.2  # between two looks at whether anything still runs here

_log = logging.getLogger(__name__)


@attrs.frozen
class WorkerOptions:
    """The options of ``boxsched worker``; see its ``--help``."""

    token: Callable[[], str] = attrs.field(repr=False)  # called for each connection; RefusedByNode
    data: Path
    name: str
    boxes: int
    box_type: str
    box_driver: str
    log_limit: int
    stop_grace: float
    isolation: Isolation | None = None  # for the driver bubblewrap
    tls: TlsFiles = attrs.field(factory=TlsFiles)
    limits: Limits = NO_LIMITS
    ssh_address: str | None = None  # where SSH sessions listen for direct connections
    cache_size: int = 0  # bytes; 0: no cache
    images: Images = NO_IMAGES


def first_hello(options: WorkerOptions, identity: str) -> wire.Hello:
    """Return the Hello of a worker that holds no attempts."""
    return wire.Hello(
        version=wire.VERSION,
        identity=identity,
        name=options.name,
        box_types=(options.box_type,) * options.boxes,
        fingerprint=of_worker(
            protocol=wire.VERSION,
            version=__version__,
            box_driver=options.box_driver,
            log_limit=options.log_limit,
            stop_grace=options.stop_grace,
            further={**limiting.parts(options.limits), **images.parts(options.images)},
        ),
        boot=boot_id(),
        stop_grace=options.stop_grace,
        takes_secrets=True,
        ends_when_drained=True,
        keeps_ghosts=True,
        keeps_artifacts=True,
        knows_images=True,
        start=secrets.token_hex(16),
    )


class RemoteWorker:
    """``run`` runs it until ``stop``. ``connected`` is called once, with the first node."""

    def __init__(
        self,
        options: WorkerOptions,
        discovery: Discovery,
        *,
        connected: Callable[[NodeAddress], None],
        chance: random.Random,
        pace: Pace,
    ) -> None:
        self._options = options
        self._discovery = discovery
        self._connected = connected
        self._connection = ConnectionLoop(self, discovery, chance=chance, pace=pace)
        self._files = NodeFiles(self.token, self.tls)
        self._identity = ""
        self._start = secrets.token_hex(16)  # of this process
        self._cluster: str | None = None  # the installation that it belongs to
        self._agent: Agent | None = None
        self._tunnels = Tunnels()
        # when the last answered heartbeat was sent; None: no answer since the start
        self._answered_at: float | None = None
        self._lost_after = LOST_AFTER_SECONDS
        self._level: wire.Level | None = None  # the newest, unless the agent has it already
        self._news = asyncio.Event()
        self.new_ghosts = asyncio.Event()  # ``ghosts`` has changed
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()

    def stop(self) -> None:
        """Make ``run`` return soon. Jobs continue under their supervisors."""
        self._stopping.set()

    @property
    def jobs(self) -> int:
        """The number of jobs that run here or have yet to be reported; without ended ghosts."""
        if self._agent is None:
            return 0
        return len(self._agent.holds) - self._agent.ended_ghosts

    async def run(self) -> None:
        """Run until ``stop``.

        Raises RefusedByNode, FolderInUse, JobsLeftBehind, Unusable, OSError.
        """
        data = self._options.data
        with keeping.owned(data):
            self._identity, self._cluster = keeping.identity(data), keeping.cluster(data)
            try:
                if self._cluster is not None:
                    await self._started_agent()
                await self._work()
            finally:
                await self._tunnels.close()
                await self._close_agent()
                await self._files.close()

    async def _work(self) -> None:
        works: dict[str, Coroutine[Any, Any, object]] = {
            "stopping": self._stopping.wait(),
            "connection": self._connection.run(),
            "follower": self._follow(),
            "discovery": self._discovery.run(),
            "drained": self._end_drained(),
        }
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._connection.flush()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()  # raises the error that ended the task

    async def _end_drained(self) -> None:
        """Return when the worker is drained and nothing runs here any more."""
        await self._drained.wait()
        while self.jobs:  # noqa: ASYNC110 (attempts whose leases have ended; rare and short)
            await asyncio.sleep(ENDING_SECONDS)
        _log.info("drained: no job is left, and the worker ends")

    # --- The level, and the agent -----------------------------------------------------------

    async def _follow(self) -> None:
        """Pass levels to the agent, one at a time; skip all but the newest."""
        while True:
            await self._news.wait()
            self._news.clear()
            level, self._level = self._level, None
            if level is not None:
                agent = await self._started_agent()
                before = agent.ghosts
                await agent.reconcile([assignment_of(task) for task in level.tasks])
                if agent.ghosts != before:
                    self.new_ghosts.set()

    async def _started_agent(self) -> Agent:
        """Return the agent; start it if necessary, which adopts the jobs in its folder."""
        if self._agent is None:
            assert self._cluster is not None
            options = self._options
            agent = Agent(
                folder=options.data / keeping.JOBS,
                driver=options.box_driver,
                report=self._report,
                log=self._output,
                report_problem=self._report_problem,
                fix=self._connection.fix,
                open_session=self._connection.open_session,
                log_limit=options.log_limit,
                stop_grace=options.stop_grace,
                cluster=self._cluster,
                lost_after=self._lost_after,
                isolation=options.isolation,
                limits=options.limits,
                ssh_address=options.ssh_address,
                transfers=self._files,
                cache_bytes=options.cache_size,
                images=attrs.evolve(options.images, worker=options.name),
            )
            await agent.start()
            if self._answered_at is not None:
                agent.heartbeat_answered(self._answered_at, self._lost_after)
            self._agent = agent
        return self._agent

    async def _close_agent(self) -> None:
        if self._agent is not None:
            agent, self._agent = self._agent, None
            await agent.close()

    async def _report(self, reports: Sequence[Report]) -> None:
        for message in report_messages(reports):
            await self._connection.send(message)

    async def _output(self, chunks: Sequence[LogChunk]) -> None:
        for message in log_messages(chunks):
            await self._connection.send(message)

    async def _report_problem(self, problem: str | None) -> None:
        said = short_problem(problem)
        await self._connection.send(lambda number: wire.Beat(number, said))

    # --- The methods of ``connecting.ConnectedWorker`` ------------------------------------------

    def token(self) -> str:
        return self._options.token()

    def tls(self) -> ssl.SSLContext | None:
        try:
            return self._options.tls.context()
        except BadTlsFile as error:  # perhaps it is just being renewed
            raise Lost(str(error)) from None

    def hello(self) -> wire.Hello:
        return msgspec.structs.replace(
            first_hello(self._options, self._identity),
            holds=self._agent.holds if self._agent is not None else (),
            problem=self.problem,
            cache=self.cache_counts or wire.CacheCounts(),
            start=self._start,
        )

    async def welcome(self, node: NodeAddress, said: wire.Welcome, sent: float) -> None:
        first = self._answered_at is None
        if said.cluster != self._cluster:
            if not first:
                raise Lost("the node belongs to another installation: check the list of URLs")
            await self._change_cluster(node, said.cluster)
        self._lost_after = said.lost_after
        self._files.node = node
        self.heartbeat_answered(sent)
        name, driver = self._options.name, self._options.box_driver
        _log.info(
            "connected to %s as worker %s (%d), Box driver %s", node, name, said.worker, driver
        )
        if said.differs:
            _log.warning("%s gives this worker no new jobs: %s", node, "; ".join(said.differs))
        if first:
            self._connected(node)

    async def _change_cluster(self, node: NodeAddress, cluster: str) -> None:
        """Change to another installation, or to the first one."""
        if self._cluster is not None:
            _log.warning("%s belongs to another installation; the earlier jobs are ended", node)
        await self._close_agent()  # its reports are not for this node
        keeping.keep_cluster(self._options.data, cluster)
        self._cluster = cluster

    def receive_level(self, level: wire.Level) -> None:
        self._level = level
        self._news.set()

    def receive_drained(self) -> None:
        self._drained.set()

    @property
    def problem(self) -> str | None:
        return None if self._agent is None else short_problem(self._agent.problem)

    @property
    def cache_counts(self) -> wire.CacheCounts | None:
        if self._agent is None:
            return None
        return wire.CacheCounts(*attrs.astuple(self._agent.cache_figures))

    def heartbeat_answered(self, at: float) -> None:
        self._answered_at = max(at, self._answered_at or at)
        if self._agent is not None:
            self._agent.heartbeat_answered(at, self._lost_after)

    def drop(self, stale: Sequence[tuple[int, int]]) -> None:
        if self._agent is not None:
            self._agent.drop([(JobId(job), token) for job, token in stale])

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...] | None:
        return None if self._agent is None else self._agent.ghosts

    @property
    def notes(self) -> tuple[str, ...]:
        if self._agent is None:
            return ()
        return tuple(note for one in self._agent.notes if (note := short_problem(one)))

    def end_ghosts(self, decided: Sequence[tuple[int, int]]) -> None:
        if self._agent is not None:
            self._agent.end_ghosts([(JobId(job), token) for job, token in decided])

    def dial(self, asked: wire.Dial) -> None:
        node = self._connection.node
        if self._agent is not None and node is not None:
            polls, token = self._connection.polls, self._connection.token
            way = tunnel_connection(node, token, asked.tunnel, polls=polls, tls=self.tls())
            self._tunnels.open(node, way, asked, self._agent)

    def disconnected(self) -> None:
        self._level = None
        self._files.node = None


def assignment_of(task: wire.Task) -> Assignment:
    """Return the assignment that a node sent. It has all fields of the task, and more."""
    return Assignment(**msgspec.structs.asdict(task))
