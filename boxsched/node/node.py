"""A node: it connects store, group commit, leadership with its engines, bus, feed and workers.

``service.serve`` starts and stops the node; the node owns its tasks. A task that ends with an error
ends the node, because a node without, for example, its leadership only seems to be alive.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence

import attrs

from boxsched import __version__, discarding
from boxsched.blobs.artifacts import LocalTransfers
from boxsched.clock import Clock
from boxsched.cluster.bus import Bus, NoBus
from boxsched.cluster.elected import ElectedLeadership
from boxsched.cluster.leadership import Leadership, SoleLeadership
from boxsched.cluster.names import node_name
from boxsched.cluster.standing import NodeStanding, standing
from boxsched.engine.books import Books
from boxsched.engine.engine import Engine
from boxsched.engine.reason_text import Sees, sees_all
from boxsched.engine.stages import Stages
from boxsched.engine.tally import Counters
from boxsched.engine.why import Sentences, WhyReport, explain_now, sentences
from boxsched.errors import BoxschedError, NodeFailed
from boxsched.feed import EventFeed
from boxsched.gateway import Gateway
from boxsched.model import (
    DEFAULT_BOX_TYPE,
    DEFAULT_ORGANIZATION,
    OrganizationId,
    WorkerId,
    WorkloadId,
    lane_project,
)
from boxsched.node.contents import NodeContents
from boxsched.node.entering import Entering
from boxsched.node.group_commit import GroupCommit
from boxsched.node.hints import Hints
from boxsched.node.in_process import LocalWorker
from boxsched.node.loop_holds import LoopHolds
from boxsched.node.mixing import Mixing
from boxsched.node.options import Options
from boxsched.node.organizations import Homes, KnownOrganizations
from boxsched.node.polling import Polling
from boxsched.node.pruning import Pruning
from boxsched.node.retention import Retention
from boxsched.node.sealing import Sealing
from boxsched.node.stored_logs import LogMoving, StoredLogs
from boxsched.node.sweeping import Sweeping
from boxsched.outgoing.composing import Composer
from boxsched.outgoing.guard import AddressGuard
from boxsched.outgoing.sender import Sender
from boxsched.pace import LoopPace
from boxsched.protocol import fingerprint, inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Event
from boxsched.protocol.lock_keys import LockKeys, node_number
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import IN_PROCESS, NewWorker
from boxsched.secrets.assignment_secrets import AssignmentSecrets
from boxsched.secrets.ring import UnusableKeys, find_ring
from boxsched.secrets.vault import NO_KEY, Vault
from boxsched.store import is_postgres
from boxsched.store.delivery_records import Delivered, NewDelivery, RepeatedDelivery
from boxsched.store.records import (
    NewWorkload,
    NodeInfo,
    ProjectChanged,
    SubmitOutcome,
    Workload,
)
from boxsched.store.store import Store
from boxsched.worker.agent.site import FolderInUse, JobsLeftBehind

log = logging.getLogger(__name__)


class Node:
    """A running node, for the API. Call ``start`` first and ``stop`` last; ``store`` is open."""

    bus: Bus
    entering: Entering
    gateway: Gateway
    leadership: Leadership
    sender: Sender
    worker: LocalWorker
    info: NodeInfo

    def __init__(
        self,
        options: Options,
        store: Store,
        clock: Clock,
        shape: Callable[[Workload], object],
    ) -> None:
        """``shape``: converts a workload into the API's JSON value, for notifications."""
        self._shape = shape
        self.options = options
        self.store = store
        self.clock = clock
        self.name = node_name(options.name, options.data)
        self.elected = is_postgres(options.database_url)
        self.vault = _vault(options, makes_key=not self.elected)
        self._giving = AssignmentSecrets(store, self.vault)
        self.files = NodeContents(options, store, clock, shared=self.elected)
        self.artifacts = self.files.artifacts
        self.logs = StoredLogs(store, self.files.log_store)
        self.feed = EventFeed(store)
        self.bus = NoBus()
        self.counters = Counters()
        self.stages = Stages(clock.monotonic)
        self.stopping = False
        self.hanging_up = False
        self.organizations = KnownOrganizations(store, clock.monotonic)
        self._homes = Homes(store, clock, self._is_alive, self.books)
        self._group = GroupCommit(store, self.stages, self.wake)
        self.retention = Retention(
            store, clock, lambda: SHARD in self.leadership.led, self._may_be_back
        )
        self.pruning = Pruning(
            store,
            clock,
            lambda: SHARD in self.leadership.led,
            keep_history=options.keep_history,
            keep_logs=options.keep_logs,
            idle=self._lanes_idle,
        )
        self.sweeping = Sweeping(store, self.files, clock, lambda: SHARD in self.leadership.led)
        self.holds = LoopHolds(asyncio.get_running_loop().time)
        self.pace = LoopPace()
        self.deploys_due = asyncio.Event()  # set when a build passed and servers follow its branch
        self.plans_due = asyncio.Event()  # set when a build was registered whose jobs must be read
        self.schedules_due = asyncio.Event()  # set when settings changed, perhaps schedules
        self._tasks: list[asyncio.Task[None]] = []

    # --- What the API calls -----------------------------------------------------------------

    async def submit(self, workload: NewWorkload) -> SubmitOutcome:
        """Store a workload; it is durable when this returns, even if the caller is cancelled."""
        began = self.clock.monotonic()
        outcome = await self._group.submit(workload)
        self.stages.add("submit", self.clock.monotonic() - began)
        return outcome

    async def deliver(self, new: NewDelivery) -> Delivered | ProjectChanged:
        """Store a code host's delivery with its results; durable when this returns."""
        began = self.clock.monotonic()
        outcome = await self._group.deliver(new)
        if new.builds:
            self.stages.add("submit", (self.clock.monotonic() - began) * len(new.builds))
        return outcome

    async def repeat_delivery(self, one: RepeatedDelivery) -> Delivered | None:
        """Store a delivery as a duplicate, if it is one; durable when this returns."""
        return await self._group.repeat_delivery(one)

    async def ask(self, shard: int, command: inbox.Command) -> None:
        """Put a command into the shard's inbox; durable when this returns."""
        await self._group.ask(shard, command)

    async def report(self, shard: int, command: inbox.Reports) -> None:
        """Deliver a worker's reports; durable when this returns.

        This node's engine takes them in memory; for a shard that another node leads they go into
        the inbox. Raises StoreAway if the worker must send them again.
        """
        engine = self.leadership.engines.get(shard)
        taken = None if engine is None else engine.report(command)
        if taken is None:
            began = self.clock.monotonic()
            await self.ask(shard, command)
            ends = sum(isinstance(one, inbox.JobFinished) for one in command.reports)
            self.stages.add("report", (self.clock.monotonic() - began) * ends)
        else:
            await asyncio.shield(taken)

    def _lanes_idle(self, lanes: Sequence[str]) -> None:
        for engine in self.leadership.engines.values():
            if engine.books is not None:
                its = engine.books.projects
                engine.lanes_idle([lane for lane in lanes if lane_project(lane) in its])

    def wake(self, shard: int) -> None:
        """Wake the shard's engine, here or on another node: its inbox has new entries."""
        engine = self.leadership.engines.get(shard)
        if engine is not None:
            engine.wake()
        else:
            self.bus.wake(shard)

    async def wake_for(self, organization: OrganizationId) -> None:
        """Wake the engine of an organization's shard, here or on another node."""
        found = await self.organizations.find(organization)
        if found is not None:
            self.wake(found.shard)

    async def books(self, shard: int = SHARD) -> Books:
        """Return the books of a shard: its engine's, or a copy from the store."""
        engine = self.leadership.engines.get(shard)
        if engine is not None and engine.books is not None and not engine.in_doubt:
            return engine.books
        return await self._homes.of(shard).mirror.books()

    async def why(
        self, workload: WorkloadId, sees: Sees = sees_all, shard: int = SHARD
    ) -> WhyReport | None:
        """Explain why a workload of this shard waits; None if it is not registered or has finished.

        ``sees``: leaves out workloads that the reader does not see.
        """
        books = await self.books(shard)
        now = max(self.clock.now(), books.latest)
        report = explain_now(books, workload, now, sees)
        if report is None or books.core.workloads[workload].run is not None:
            return report
        return attrs.evolve(
            report, expected_start=await self._homes.of(shard).forecasts.start(workload)
        )

    def reasons(self, books: Books, sees: Sees = sees_all) -> Sentences:
        """Return the sentences that say why each waiting workload waits, as ``why``."""
        return sentences(books, max(self.clock.now(), books.latest), sees)

    async def standing(self) -> list[NodeStanding]:
        """Return every node's state, as this node sees it."""
        return standing(await self.store.nodes(), self.leadership.view, self.name)

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here. A node that does not lead can be ready."""
        return not self.stopping

    # --- Start and stop ---------------------------------------------------------------------

    async def start(self, url: str) -> None:
        """Start everything except listening. ``url``: where the node will listen."""
        options = self.options
        cluster = await self.store.cluster()
        await self.files.open(cluster)
        self.leadership = self._leadership(cluster)
        await self.leadership.claim()
        self.info = await self.store.put_node(
            self.name, options.advertise or url, __version__, fingerprint.text(options.required)
        )
        self.clock.set_to(self.info.started_at)
        await self._settings()
        mixing = Mixing(self.store, self.clock, options)
        await mixing.refuse()
        await self.organizations.all()
        self.gateway = Gateway(
            self.store,
            self.ask,
            self.report,
            source=self._giving,
            node=self.name,
            cluster=cluster,
            lost_after=options.lost_after,
            required=options.required,
            log_limit=options.log_limit,
            hints_reach=self._hints_reach,
            objects=mixing.objects,
        )
        self.worker = self._worker(cluster)
        self.entering = Entering(
            self.store,
            self.gateway,
            self.worker,
            (self.info.id, self.name),
            per_token=options.tunnels_per_token,
        )
        await self.worker.connect()
        await self.leadership.start()
        if options.redis is not None:
            await self._open_bus(options.redis, cluster)
        try:
            await self.worker.start()
        except (FolderInUse, JobsLeftBehind) as error:
            raise NodeFailed(str(error)) from error
        self._begin("watch of the loop", self.holds.run())
        self._begin("discarding", discarding.run())
        self._begin("leadership", self.leadership.run())
        self._begin("polling", Polling(self.store, self.leadership).run())
        self._begin("worker", self.worker.run())
        self._begin("heartbeat", self.worker.beat())
        self._begin("gateway", self.gateway.run())
        self._begin("retention", self.retention.run())
        self._begin("pruning", self.pruning.run())
        self._begin("sweeping", self.sweeping.run())
        if options.log_store is not None and self.files.log_store is not None:
            moving = LogMoving(
                self.store, self.files.log_store, self.clock, lambda: SHARD in self.leadership.led
            )
            self._begin("moving of logs", moving.run())
        self._begin("sealing", Sealing(self.store, self.vault).run())
        composer = Composer(cluster, options.external_url or self.info.url, self.vault, self._shape)
        self.sender = Sender(self.store, self.clock, AddressGuard(options.allow_outgoing), composer)
        self._begin("notifications", self.sender.run())
        self._begin("organizations", self.organizations.run())
        self._begin("feed", self.feed.run(lambda: self.bus.up))

    async def failed(self) -> None:
        """Wait until one of the node's tasks ends, and raise NodeFailed."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, BoxschedError):
                raise NodeFailed(error.message) from error
            log.critical("the node's %s ended", task.get_name(), exc_info=error)
            raise NodeFailed(f"the node's {task.get_name()} ended: {error!r}") from error

    async def leave(self) -> None:
        """Give up leadership. Requests are still answered, but ``ready`` is false."""
        self.stopping = True
        await self.leadership.close()

    async def hang_up(self) -> None:
        """Close long connections (event and log readers, workers); they connect to another node."""
        self.stopping = self.hanging_up = True
        self.feed.close()
        if self._tasks:
            self.entering.close()
            await self.gateway.close()

    async def stop(self) -> None:
        """Store what was accepted, then end all tasks. Jobs continue under their supervisors."""
        self.stopping = self.hanging_up = True
        try:
            await self._group.drain()
            if hasattr(self, "leadership"):
                await self.leadership.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.bus.close()
            if hasattr(self, "worker"):
                await self.worker.close()
        finally:
            await self.files.close()
            await self.store.close()

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _settings(self) -> None:
        options = self.options
        await self.store.open_shards(options.shards)
        known = await self.store.organization(DEFAULT_ORGANIZATION)
        assert known is not None, "it cannot be deleted"
        wanted = attrs.evolve(
            known,
            policy=known.policy if options.policy is None else options.policy,
            max_boxes=known.max_boxes if options.max_boxes is None else options.max_boxes,
            priority_aging=options.priority_aging or known.priority_aging,
        )
        if wanted != known:
            await self.store.set_organization(wanted)
            self.wake(known.shard)

    def _leadership(self, cluster: str) -> Leadership:
        if not self.elected:
            return SoleLeadership(self._engine, self.store, self.name)
        return ElectedLeadership(
            self.options.database_url,
            self.store,
            keys=LockKeys.of(self.options.lock_key, cluster),
            node=self.name,
            retry_interval=self.options.retry_interval,
            engine_of=self._engine,
            servers=self.store.servers,
        )

    def _engine(self, shard: int, may_lead: Callable[[], bool]) -> Engine:
        return Engine(
            self.store,
            self.clock,
            shard=shard,
            node=self.name,
            may_lead=may_lead,
            published=functools.partial(self._published, shard),
            reloaded=self._reloaded,
            due=self._due,
            notify=self._notify_workers,
            local=lambda: self.worker.id,
            alive=self._is_alive,
            lost_after=self.options.lost_after,
            stop_grace=self.options.stop_grace,
            required=self.options.required,
            counters=self.counters,
            stages=self.stages,
        )

    def _worker(self, cluster: str) -> LocalWorker:
        options = self.options
        name = f"{IN_PROCESS}@{self.name}" if self.elected else IN_PROCESS
        types = (DEFAULT_BOX_TYPE,) * options.box_count
        promised = options.lost_after if self.elected else None
        return LocalWorker(
            NewWorker(
                name,
                name,
                IN_PROCESS,
                self.name,
                types,
                lost_after=promised,
                token=IN_PROCESS,
                stop_grace=options.stop_grace,
                fingerprint=options.fingerprint,
            ),
            self.store,
            self._giving,
            self.ask,
            self.report,
            self.clock,
            folder=options.data / "worker",
            driver=options.box_driver,
            isolation=options.isolation,
            limits=options.limits,
            images=attrs.evolve(options.images, worker=name),
            log_limit=options.log_limit,
            stop_grace=options.stop_grace,
            cluster=cluster,
            lost_after=options.lost_after,
            deadline=self.elected,
            stages=self.stages,
            is_notified=self._hints_reach,
            ssh_address=options.ssh_address,
            transfers=LocalTransfers(self.artifacts, IN_PROCESS),
            cache_bytes=options.cache_size,
        )

    async def _open_bus(self, url: str, cluster: str) -> None:
        from boxsched.cluster.redis_bus import RedisBus  # imports the library only when it is used

        self.bus = RedisBus(url, prefix=f"boxsched:{cluster}", node=self.name)
        await self.bus.open(
            Hints(self.store, self.feed, self.leadership, self.gateway, self.worker)
        )

    # --- Between the parts ------------------------------------------------------------------

    def _hints_reach(self) -> bool:
        """Whether hints for its workers reach this node: it leads all shards, or the bus works."""
        if self.bus.up or not self.elected:
            return True
        view = self.leadership.view
        leads = self.leadership.led
        return view is not None and SHARD in leads and leads >= view.leaders.keys()

    def _is_alive(self, node: str) -> bool:
        """Whether the node is alive, according to the locks. "": the worker of an older version."""
        view = self.leadership.view
        return not node or view is None or node_number(node) in view.nodes

    def _may_be_back(self, node: str) -> bool:
        """Whether a node may be alive. With SQLite there is only this node."""
        return self._is_alive(node) if self.elected else node == self.name

    def _reloaded(self) -> None:
        """After an engine loaded its shard: it may have missed commits, so notify all parts."""
        self.feed.recheck()
        self._due()

    def _due(self) -> None:
        """Wake ``automation``: there may be builds to deploy, to plan or to schedule."""
        self.deploys_due.set()
        self.plans_due.set()
        self.schedules_due.set()

    def _published(self, shard: int, batch: int, events: Sequence[Event]) -> None:
        self.feed.publish(shard, batch, events)
        self.bus.publish(shard, batch)

    def _notify_workers(
        self, places: Mapping[WorkerId, str], level: Sequence[Assignment] | None
    ) -> None:
        """Notify workers, through the node of each one, to look up what they should run.

        ``level``: the assignments of the in-process worker, if they are known.
        """
        mine = self.gateway.connected
        elsewhere: dict[str, set[WorkerId]] = {}
        for worker, node in places.items():
            if worker == self.worker.id:
                self.worker.look(level)
            elif worker not in mine and node and node != self.name:
                elsewhere.setdefault(node, set()).add(worker)
        self.gateway.look([worker for worker in places if worker in mine])
        for node, workers in elsewhere.items():
            self.bus.hint(node, workers)


def _vault(options: Options, *, makes_key: bool) -> Vault:
    """Return the vault with the node's keys. Raises NodeFailed if the keys cannot be used."""
    try:
        ring = find_ring(options.secrets_key_file, options.data, makes=makes_key)
    except UnusableKeys as error:
        raise NodeFailed(str(error)) from None
    if ring is None:
        log.info("secrets cannot be set or used here: %s", NO_KEY)
    return Vault(ring)
