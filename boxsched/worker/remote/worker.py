"""An external worker: an agent, and a connection to one node at a time.

``run`` owns the data folder and three tasks:

* The tour keeps a connection to a node, chosen at random. When the connection ends, it goes to
  another node.
* The follower owns the agent and brings it the newest level. The agent starts with the very first
  Welcome. After a restart it starts at once, because the worker has kept the name of its
  installation: so jobs are adopted while no node can be reached.
* Discovery asks the DNS again and again.

Reports and output wait for a connection and for the node's Ack. If the connection ends before the
Ack, they are sent again on the next connection; lease tokens and offsets make that harmless. Nodes
send levels. A level that the follower has not begun when its connection ends is dropped, because
the next connection begins with a newer one.

A worker belongs to the installation that took it last. Another installation can take it only with
the first connection after a start; the folders of the former one are then set aside. Later a node
of another installation is a mistake in the list of URLs, and the worker does not use it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.timing import LOST_AFTER_SECONDS
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.outbox import LogChunk, Report
from boxsched.worker.agent.site import boot_id
from boxsched.worker.remote import identity as keeping
from boxsched.worker.remote.discovery import Discovery, NodeAddress
from boxsched.worker.remote.link import Lost
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.saying import (
    chunks_in_sentences,
    problem_in_short,
    reports_in_sentences,
)
from boxsched.worker.remote.tour import Tour

_log = logging.getLogger(__name__)


@attrs.frozen
class WorkerOptions:
    """The options of ``boxsched worker``; see its ``--help``."""

    token: Callable[[], str] = attrs.field(repr=False)  # at each connect; raises NotTaken
    data: Path
    name: str
    boxes: int
    box_type: str
    box_driver: str
    log_limit: int
    stop_grace: float


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
        self._tour = Tour(self, discovery, chance=chance, pace=pace)
        self._identity = ""
        self._cluster: str | None = None  # the installation that it belongs to
        self._agent: Agent | None = None
        self._heard_at: float | None = None  # None: not in this life
        self._lost_after = LOST_AFTER_SECONDS
        self._level: wire.Level | None = None  # the newest, if it was not begun yet
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Make ``run`` return soon. Jobs go on under their supervisors."""
        self._stopping.set()

    @property
    def jobs(self) -> int:
        """The number of jobs that run here or have yet to be reported."""
        return 0 if self._agent is None else len(self._agent.holds)

    async def run(self) -> None:
        """Run until ``stop``. Raises NotTaken, FolderInUse, JobsLeftBehind, Unusable, OSError."""
        data = self._options.data
        with keeping.owned(data):
            self._identity, self._cluster = keeping.identity(data), keeping.cluster(data)
            try:
                if self._cluster is not None:
                    await self._awake()
                await self._work()
            finally:
                await self._sleep()

    async def _work(self) -> None:
        works: dict[str, Coroutine[Any, Any, object]] = {
            "stopping": self._stopping.wait(),
            "tour": self._tour.run(),
            "follower": self._follow(),
            "discovery": self._discovery.run(),
        }
        tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await self._tour.flush()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()  # raises what ended it

    # --- The level, and the agent -----------------------------------------------------------

    async def _follow(self) -> None:
        """Calls of the agent never overlap; of the levels that came meanwhile the newest counts."""
        while True:
            await self._news.wait()
            self._news.clear()
            level, self._level = self._level, None
            if level is not None:
                agent = await self._awake()
                await agent.reconcile([assignment_of(task) for task in level.tasks])

    async def _awake(self) -> Agent:
        """The agent, with the jobs of its installation adopted and those of others set aside."""
        if self._agent is None:
            assert self._cluster is not None
            options = self._options
            agent = Agent(
                folder=options.data / keeping.JOBS,
                driver=options.box_driver,
                report=self._report,
                log=self._output,
                say_problem=self._say_problem,
                fix=self._tour.fix,
                log_limit=options.log_limit,
                stop_grace=options.stop_grace,
                cluster=self._cluster,
                lost_after=self._lost_after,
            )
            await agent.start()
            if self._heard_at is not None:
                agent.heard(self._heard_at, self._lost_after)
            self._agent = agent
        return self._agent

    async def _sleep(self) -> None:
        if self._agent is not None:
            agent, self._agent = self._agent, None
            await agent.close()

    async def _report(self, reports: Sequence[Report]) -> None:
        for sentence in reports_in_sentences(reports):
            await self._tour.say(sentence)

    async def _output(self, chunks: Sequence[LogChunk]) -> None:
        for sentence in chunks_in_sentences(chunks):
            await self._tour.say(sentence)

    async def _say_problem(self, problem: str | None) -> None:
        said = problem_in_short(problem)
        await self._tour.say(lambda number: wire.Beat(number, said))

    # --- A visitor of nodes (``tour.Visitor``) --------------------------------------------------

    def token(self) -> str:
        return self._options.token()

    def hello(self) -> wire.Hello:
        options = self._options
        return wire.Hello(
            version=wire.VERSION,
            identity=self._identity,
            name=options.name,
            box_types=(options.box_type,) * options.boxes,
            fingerprint=wire.fingerprint(),
            boot=boot_id(),
            holds=self._agent.holds if self._agent is not None else (),
            problem=self.problem,
            stop_grace=options.stop_grace,
            takes_secrets=True,
        )

    async def welcome(self, node: NodeAddress, said: wire.Welcome, sent: float) -> None:
        first = self._heard_at is None
        if said.cluster != self._cluster:
            if not first:
                raise Lost("it is of another installation: see the list of URLs")
            await self._change(node, said.cluster)
        self._lost_after = said.lost_after
        self.heard(sent)
        _log.info("connected to %s as worker %s (%d)", node, self._options.name, said.worker)
        if first:
            self._connected(node)

    async def _change(self, node: NodeAddress, cluster: str) -> None:
        """It belongs to another installation from now, or to its first."""
        if self._cluster is not None:
            _log.warning("%s is of another installation than before: its jobs are ended", node)
        await self._sleep()  # what it has to say is not for this node
        keeping.keep_cluster(self._options.data, cluster)
        self._cluster = cluster

    def told(self, level: wire.Level) -> None:
        self._level = level
        self._news.set()

    @property
    def problem(self) -> str | None:
        return None if self._agent is None else problem_in_short(self._agent.problem)

    def heard(self, at: float) -> None:
        self._heard_at = max(at, self._heard_at or at)
        if self._agent is not None:
            self._agent.heard(at, self._lost_after)

    def dropped(self, stale: Sequence[tuple[int, int]]) -> None:
        if self._agent is not None:
            self._agent.drop([(JobId(job), token) for job, token in stale])

    def parted(self) -> None:
        self._level = None


def assignment_of(task: wire.Task) -> Assignment:
    """The assignment that a node has sent; its fields go by name, as it has more than the task."""
    return Assignment(**msgspec.structs.asdict(task))
