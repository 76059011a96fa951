"""The in-process worker: an agent beside the engine, told by the node, reporting to its inbox."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from boxsched import inbox
from boxsched.clock import Clock
from boxsched.errors import StoreAway
from boxsched.model import WorkerId
from boxsched.store.contract import Store
from boxsched.worker.agent import Agent

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # told or not
RETRY_SECONDS = 1.0


class LocalWorker:
    """Looks up what should run on it, whenever it is told to and every LOOK_SECONDS."""

    def __init__(
        self,
        id_: WorkerId,
        store: Store,
        ask: Callable[[inbox.Command], Awaitable[None]],
        clock: Clock,
        *,
        folder: Path,
        driver: str,
        log_limit: int,
        stop_grace: float,
        cluster: str,
    ) -> None:
        self.id = id_
        self._store = store
        self._ask = ask
        self._told = asyncio.Event()
        self.agent = Agent(
            folder=folder,
            driver=driver,
            report=self._report,
            log=store.append_log,
            clock=clock.now,
            log_limit=log_limit,
            stop_grace=stop_grace,
            cluster=cluster,
        )

    def look(self) -> None:
        """There may be something to start or to end."""
        self._told.set()

    async def start(self) -> None:
        await self.agent.start()

    async def run(self) -> None:
        """Level before edge: each look-up takes all that this worker should run."""
        while True:
            self._told.clear()
            try:
                assignments = await self._store.assignments(self.id)
                await self.agent.reconcile(assignments)
            except StoreAway as error:
                log.warning("worker %s: %s; looking again", self.id, error.message)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes with the news.
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                pass

    async def close(self) -> None:
        await self.agent.close()

    async def _report(self, reports: Sequence[inbox.JobStarted | inbox.JobFinished]) -> None:
        await self._ask(inbox.Reports(self.id, tuple(reports)))
