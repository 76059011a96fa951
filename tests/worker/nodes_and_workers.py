"""Fake nodes and external workers that connect to them, in one event loop."""

import asyncio
import random
from pathlib import Path
from typing import Any

from boxsched.model import JobId
from boxsched.worker.agent.agent import Agent
from boxsched.worker.remote.discovery import (
    Discovery,
    Names,
    NodeAddress,
    SystemNames,
    parse_source,
)
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.worker import RemoteWorker, WorkerOptions
from tests.worker.fake_node import TOKEN, FakeNode
from tests.worker.harness import LIMIT_SECONDS, eventually

QUICK = Pace(first_wait=0.01, longest_wait=0.05, leave=0.01, refused=0.05)


class TaskWorker:
    """A worker that runs as a task; ``first`` is where it was first connected."""

    def __init__(self, data: Path, urls: list[str], names: Names, **options: Any) -> None:
        self.data = data
        self.first: list[NodeAddress] = []
        pace = options.pop("pace", QUICK)
        values: dict[str, Any] = {
            "token": lambda: TOKEN,
            "data": data,
            "name": "builder",
            "boxes": 2,
            "box_type": "default",
            "box_driver": "process",
            "log_limit": 1 << 20,
            "stop_grace": 10.0,
        }
        self.remote = RemoteWorker(
            WorkerOptions(**(values | options)),
            Discovery(map(parse_source, urls), names),
            connected=self.first.append,
            chance=random.Random(1),
            pace=pace,
        )
        self.task = asyncio.create_task(self.remote.run())

    async def end(self) -> None:
        """Stop it; raise the error that it ended with."""
        self.remote.stop()
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await self.task


class NodesAndWorkers:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[FakeNode] = []
        self.workers: list[TaskWorker] = []

    async def node(self, **options: Any) -> FakeNode:
        node = await FakeNode(**options).start()
        self.nodes.append(node)
        return node

    def worker(self, *at: FakeNode | str, data: str = "data", **options: Any) -> TaskWorker:
        urls = [each.url if isinstance(each, FakeNode) else each for each in at]
        names = options.pop("names", SystemNames())
        worker = TaskWorker(self.folder / data, urls, names, **options)
        self.workers.append(worker)
        return worker

    async def close(self) -> None:
        """End everything that the test started."""
        for worker in self.workers:
            worker.task.cancel()
        await asyncio.gather(*(worker.task for worker in self.workers), return_exceptions=True)
        for node in self.nodes:
            await node.stop()
        for data in {worker.data for worker in self.workers}:
            await end_jobs(data)


async def end_jobs(data: Path) -> None:
    """End the jobs of a worker that is gone."""
    folder = data / "worker"
    if not list(folder.glob("w*-*-*")):
        return
    cluster = (data / "cluster").read_text().strip()

    async def taken(said: object) -> None:
        """Accept anything."""

    agent = Agent(
        folder=folder,
        driver="process",
        report=taken,
        log=taken,
        report_problem=taken,
        fix=taken,
        open_session=taken,
        stop_grace=0.0,
        cluster=cluster,
    )
    await agent.start()
    await agent.reconcile([])
    agent.end_ghosts([(JobId(one.job), one.lease_token) for one in agent.ghosts or ()])
    await eventually(lambda: not list(folder.glob("w*-*-*")))
    await agent.close()
