"""How fast many workers are back after a restart of their node.

Run by hand: ``python -m tests.bench.reconnecting_workers [--postgres] [--nodes 2] [--rounds N]``.
Fake workers (500, real WebSockets, one process) hold jobs. In each round, the first node is killed
with -9, or stopped with SIGTERM, in turn, and started again at once. Prints the seconds from the
signal until the node listens again, until every worker has a Welcome, and until the store shows all
of them as connected. At the end every job must have passed in its first attempt, and
``boxsched check`` must find nothing.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import attrs

from boxsched.store.operating.check import check
from tests.bus.redis_server import served
from tests.faults.clients import Clients
from tests.faults.fake_workers import FakeWorker
from tests.faults.members import Node
from tests.faults.postgres import durable
from tests.faults.waiting import until, until_true

BUILDS = "projects/web/builds"


@attrs.frozen
class Installation:
    folder: Path
    nodes: list[Node]
    clients: Clients
    database: str

    async def worker_token(self) -> str:
        made = await self.clients.once(
            self.nodes[0].url,
            "POST",
            "tokens",
            {"role": "worker", "name": "bench", "max_workers": 10_000},
        )
        assert made.status == 201, made
        token: str = made.json["token"]
        return token

    async def connected(self) -> int:
        shown = (await self.clients.get("workers"))["workers"]
        return sum(one["state"] == "connected" for one in shown)


@contextlib.asynccontextmanager
async def installation(nodes: int, postgres: bool, *further: str) -> AsyncIterator[Installation]:
    """Start the nodes: one on SQLite, or any number on PostgreSQL with Redis.

    ``further``: further options of them.
    """
    with contextlib.ExitStack() as servers:
        folder = Path(servers.enter_context(tempfile.TemporaryDirectory()))
        options: list[str] = ["--boxes", "0", *further]
        database = f"sqlite:///{folder / 'node-1' / 'boxsched.sqlite'}"
        if postgres:
            database = servers.enter_context(servers.enter_context(durable()).database())
            redis = servers.enter_context(served(folder))
            options += ["--database", database, "--redis", redis.url]
        its = [Node(folder, f"node-{number + 1}", *options) for number in range(nodes)]
        try:
            for node in its:
                await node.start()
            clients = Clients([node.url for node in its], its[0].token, folder / "journal")
            yield Installation(folder, its, clients, database)
            await clients.close()
            for node in its:
                await node.terminate()
            found = await check(database)
            assert not found, found
            raised = [node.name for node in its if node.raised]
            assert not raised, f"tracebacks: {raised}\n{its[0].said[-5000:]}"
        finally:
            for node in its:
                if node.runs:
                    await node.kill()


async def restart(where: Installation, workers: list[FakeWorker], how: str) -> None:
    """End the first node, start it again, and print how long it takes."""
    node, before = where.nodes[0], sum(one.connects for one in workers)
    began = time.monotonic()
    await (node.kill() if how == "kill -9" else node.terminate())
    ended = time.monotonic() - began
    await node.start()
    listens = time.monotonic() - began
    await until_true(
        lambda: (
            all(one.connected for one in workers)
            and (len(where.nodes) > 1 or sum(one.connects for one in workers) > before)
        ),
        "all have a Welcome",
    )
    back = time.monotonic() - began

    async def stored() -> bool:
        return await where.connected() == len(workers)

    await until(stored, "the store shows them as connected")
    print(
        f"{how}: ended after {ended:.2f} s, listens after {listens:.2f} s, all {len(workers)} are "
        f"back after {back:.2f} s, shown as connected after {time.monotonic() - began:.2f} s",
        flush=True,
    )


async def main(arguments: argparse.Namespace) -> None:
    count = arguments.workers
    async with (
        installation(arguments.nodes, arguments.postgres) as where,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        settings = {"jobs": [{"name": "j", "commands": ["true"]}]}
        assert (await where.clients.ask("PUT", "projects/web", settings)).status == 201
        token, urls = await where.worker_token(), [node.url for node in where.nodes]
        workers = [FakeWorker(f"fake-{n}", urls, token, random.Random(n)) for n in range(count)]
        running = [asyncio.create_task(one.run(http)) for one in workers]
        began = time.monotonic()
        await until_true(lambda: all(one.connected for one in workers), "all are connected")
        print(f"first connections: {time.monotonic() - began:.2f} s", flush=True)
        builds = [
            await where.clients.submit(f"k{n}", BUILDS, {"branch": f"b{n}"})
            for n in range(arguments.jobs)
        ]
        await until_true(
            lambda: sum(len(one.holds) for one in workers) == arguments.jobs, "all jobs are held"
        )
        for _ in range(arguments.rounds):
            await restart(where, workers, "kill -9")
            await restart(where, workers, "SIGTERM")
        for one in workers:
            await one.finish()
        for build in builds:
            await until(lambda build=build: passed(where, str(build)), f"{build} has passed")
        given = sum(len(one.ended) for one in workers)
        stale = sum(len(one.stale) for one in workers)
        assert (given, stale) == (arguments.jobs, 0), (given, stale)
        print(f"{len(builds)} jobs passed, each in its first attempt", flush=True)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def passed(where: Installation, build: str) -> bool:
    (job,) = (await where.clients.get(f"workloads/{build}"))["jobs"]
    assert job["attempt"] == 1 and job["result"] in (None, "passed"), job
    return job["state"] == "finished"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.nodes > 1 and not chosen.postgres:
        sys.exit("more than one node needs --postgres")
    asyncio.run(main(chosen))
