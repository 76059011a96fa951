"""A node, put together: store, group commit, engine, feed, and the in-process worker.

Who owns what: ``service.serve`` owns the node's life; the node owns its tasks (engine, worker's
look-ups). A task that ends with an error ends the node: without its engine it only looks alive.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import attrs

from boxsched import inbox
from boxsched.clock import Clock
from boxsched.engine.engine import Engine
from boxsched.errors import BoxschedError
from boxsched.feed import EventFeed
from boxsched.folders import DATABASE
from boxsched.gather import Gather
from boxsched.model import Policy, WorkerId
from boxsched.store.contract import SHARD, Store
from boxsched.store.values import NewWorkload, SubmitOutcome
from boxsched.worker.local import LocalWorker
from boxsched.worker.site import FolderInUse, JobsLeftBehind

log = logging.getLogger(__name__)

GROUP_AT_MOST = 256  # submissions or commands in one transaction
DEFAULT_BOX_TYPE = "default"


@attrs.frozen
class Options:
    """What ``boxsched serve`` was asked for; see its ``--help``."""

    data: Path
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    boxes: int | None = None  # None = as many as cores
    box_driver: str = "process"
    policy: Policy = Policy.BACKFILL
    max_boxes: int | None = None
    priority_aging: float | None = None
    log_limit: int = 16 * 1024 * 1024
    stop_grace: float = 10.0
    shutdown_grace: float = 8.0

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / DATABASE}"

    @property
    def box_count(self) -> int:
        return self.boxes if self.boxes is not None else os.cpu_count() or 1


class NodeFailed(BoxschedError):
    """A part of the node could not start, or ended that never should: see its log."""

    code = "node_failed"


class Node:
    """What the API works with. ``start`` and ``stop`` bracket its life."""

    def __init__(self, options: Options, store: Store, clock: Clock) -> None:
        self.options = options
        self.store = store
        self.clock = clock
        self.feed = EventFeed(store, SHARD)
        self.engine = Engine(
            store,
            clock,
            shard=SHARD,
            node=f"{socket.gethostname()}:{os.getpid()}",
            published=self.feed.publish,
            reloaded=self.feed.recheck,
            told=self._tell,
        )
        self.stopping = False
        self.worker: LocalWorker | None = None
        self._submissions: Gather[NewWorkload, SubmitOutcome] = Gather(
            self._store_submissions, at_most=GROUP_AT_MOST
        )
        self._commands: Gather[inbox.Command, None] = Gather(
            self._store_commands, at_most=GROUP_AT_MOST
        )
        self._tasks: list[asyncio.Task[None]] = []

    # --- What the API calls -----------------------------------------------------------------

    async def submit(self, workload: NewWorkload) -> SubmitOutcome:
        """Durable when it returns. A caller that goes away leaves the submission going."""
        return await asyncio.shield(self._submissions.add(workload))

    async def ask(self, command: inbox.Command) -> None:
        """Durable when it returns: the engine will see to it."""
        await asyncio.shield(self._commands.add(command))

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.engine.leads and not self.stopping

    # --- Its life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything but the listening: queue settings, Boxes, the engine's and worker's tasks."""
        options = self.options
        organization = await self.store.organization()
        await self.store.set_organization(
            attrs.evolve(
                organization,
                policy=options.policy,
                max_boxes=options.max_boxes,
                priority_aging=options.priority_aging,
            )
        )
        box_types = [DEFAULT_BOX_TYPE] * options.box_count
        id_, rows = await self.store.register_worker("in-process", "in-process", box_types)
        boxes = tuple((row.id, row.ordinal, row.box_type) for row in rows)
        await self.store.ask([inbox.written(inbox.BoxesSet(id_, boxes))])
        self.worker = LocalWorker(
            id_,
            self.store,
            self.ask,
            self.clock,
            folder=options.data / "worker",
            driver=options.box_driver,
            log_limit=options.log_limit,
            stop_grace=options.stop_grace,
            cluster=await self.store.cluster(),
        )
        await self.engine.load()
        await self.engine.turn()  # the Boxes are in being before anybody asks for them
        try:
            await self.worker.start()
        except (FolderInUse, JobsLeftBehind) as error:
            raise NodeFailed(str(error)) from error
        for name, work in (("engine", self.engine.run()), ("worker", self.worker.run())):
            self._tasks.append(asyncio.create_task(work, name=name))

    async def failed(self) -> None:
        """Raises NodeFailed when a task ended that never should."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            log.critical("the node's %s ended", task.get_name(), exc_info=error)
            raise NodeFailed(f"the node's {task.get_name()} ended: {error!r}") from error

    async def stop(self) -> None:
        """Jobs go on under their supervisors; what was answered is stored; then all ends."""
        self.stopping = True
        self.feed.close()
        await self._submissions.drain()
        await self._commands.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self.worker is not None:
                await self.worker.close()
        finally:
            await self.store.close()

    # --- Between the parts ------------------------------------------------------------------

    async def _store_submissions(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        outcomes = await self.store.submit(group)
        self.engine.wake()
        return outcomes

    async def _store_commands(self, group: Sequence[inbox.Command]) -> list[None]:
        await self.store.ask([inbox.written(command) for command in group])
        self.engine.wake()
        return [None] * len(group)

    def _tell(self, workers: set[WorkerId]) -> None:
        if self.worker is not None and self.worker.id in workers:
            self.worker.look()
