"""Nodes and workers on one PostgreSQL and one Redis, with a proxy in every connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsched.store.operating.check import check
from tests.faults import processes
from tests.faults.clients import NO_ANSWER, Clients, Reply
from tests.faults.job_record import JobRecord, ticks_in
from tests.faults.members import Node, Worker, moved
from tests.faults.postgres import Postgres
from tests.faults.program import Program
from tests.faults.proxy import Proxy
from tests.faults.waiting import until, until_none, until_true


class Cluster:
    """``open`` creates one; everything that it started, directly or not, is ended when it
    closes."""

    def __init__(
        self, folder: Path, postgres: Postgres, database: str, redis: str | None = None
    ) -> None:
        self.folder = folder
        self.postgres = postgres
        self.database = database
        self.redis = redis
        self.broken = False  # a test on it failed
        self.nodes: list[Node] = []
        self.workers: list[Worker] = []
        self.job_record = JobRecord(folder / "book")
        self._proxies: list[Proxy] = []
        self._clients: list[Clients] = []
        self._worker_token = ""

    # --- Building it ------------------------------------------------------------------------

    async def proxied(self, port: int) -> Proxy:
        proxy = Proxy(port)
        await proxy.start()
        self._proxies.append(proxy)
        return proxy

    async def add_node(self, *options: str, start: bool = True) -> Node:
        name = f"node-{len(self.nodes) + 1}"
        node = Node(self.folder, name, "--boxes", "0", *options)
        node.to_postgres = await self.proxied(self.postgres.port)
        node.options += ["--database", moved(self.database, node.to_postgres.port)]
        if self.redis is not None:
            node.to_redis = await self.proxied(int(self.redis.rpartition(":")[2].split("/")[0]))
            node.options += ["--redis", moved(self.redis, node.to_redis.port)]
        self.nodes.append(node)
        if start:
            await node.start()
        return node

    async def add_nodes(self, count: int, *options: str) -> None:
        nodes = [await self.add_node(*options, start=False) for _ in range(count)]
        await asyncio.gather(*(node.start() for node in nodes))
        await self.leader()

    async def add_worker(
        self,
        boxes: int,
        *options: str,
        nodes: Sequence[Node] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Worker:
        """Add a worker through its own proxy to each node; it is connected when this returns."""
        worker = Worker(
            self.folder, f"worker-{len(self.workers) + 1}", "--boxes", str(boxes), *options
        )
        self.workers.append(worker)
        worker.environment |= environment or {}
        for node in nodes or self.nodes:
            way = await self.proxied(node.port)
            worker.ways.append(way)
            worker.options += ["--url", f"http://127.0.0.1:{way.port}"]
        worker.options += ["--token", await self.worker_token()]
        await worker.spawn()
        await self.until_worker(worker, "connected")
        return worker

    async def add_worker_each(self, boxes: int) -> None:
        """Add a worker for each node; it connects only to this node."""
        await self.worker_token()
        await asyncio.gather(*(self.add_worker(boxes, nodes=[node]) for node in self.nodes))

    async def worker_token(self) -> str:
        if not self._worker_token:
            made = await self.clients.once(
                self.nodes[0].url,
                "POST",
                "tokens",
                {"role": "worker", "name": "faults", "max_workers": 1_000},
            )
            assert made.status == 201, made
            self._worker_token = made.json["token"]
        return self._worker_token

    @property
    def clients(self) -> Clients:
        return self._clients[0] if self._clients else self.add_clients()

    def add_clients(self, urls: Sequence[str] = (), *, keep_alive: bool = False) -> Clients:
        """Add clients with their own journal; the first ones are ``clients``."""
        journal = self.folder / f"journal-{len(self._clients) + 1}"
        urls = urls or [node.url for node in self.nodes]
        self._clients.append(Clients(urls, self.nodes[0].token, journal, keep_alive=keep_alive))
        return self._clients[-1]

    async def put_project(self, *jobs: Any, **settings: Any) -> None:
        reply = await self.clients.ask("PUT", "projects/web", {"jobs": jobs, **settings})
        assert reply.status in (200, 201), reply

    # --- Observing it -----------------------------------------------------------------------

    def ask_database(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.postgres.ask(self.database, statement, *values)

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Query directly, without a proxy."""
        return await asyncio.to_thread(self.ask_database, statement, *values)

    async def epoch(self, shard: int = 1) -> int:
        ((epoch,),) = await self.sql("SELECT epoch FROM shard WHERE id = %s", shard)
        return int(epoch)

    async def leader(self, shard: int = 1) -> Node:
        """Return the node that leads the shard, according to any node that answers."""

        async def look() -> Node | None:
            for node in self.nodes:
                reply = await self.tried(node, "GET", "nodes") if node.runs else None
                if reply is not None and reply.status == 200:
                    return next(iter(self._named(reply, shard)), None)
            return None

        return await until(look, f"a node leads shard {shard}")

    def _named(self, reply: Reply, shard: int) -> list[Node]:
        leading = {each["url"] for each in reply.json["nodes"] if shard in each["shards"]}
        return [node for node in self.nodes if node.url in leading]

    async def tried(self, node: Node, method: str, path: str, json: object = None) -> Reply | None:
        """Return None if the node does not answer."""
        with contextlib.suppress(*NO_ANSWER):
            return await self.clients.once(node.url, method, path, json)
        return None

    async def metric(self, node: Node, name: str) -> float | None:
        """Return None if the node does not answer, or has no metric of that name."""
        with contextlib.suppress(*NO_ANSWER):
            for line in (await self.clients.text(f"{node.url}/metrics")).splitlines():
                if line.startswith((f"{name} ", f"{name}{{", f"{name}_total ")):
                    return float(line.split()[-1])
        return None

    async def until_epoch(self, above: int, shard: int = 1) -> int:
        async def look() -> int:
            epoch = await self.epoch(shard)
            return epoch if epoch > above else 0

        return await until(look, f"another leads: an epoch above {above}")

    async def until_joined(self, node: Node) -> None:
        """Wait until the node answers, is alive, and does not lead."""

        async def look() -> bool:
            reply = await self.tried(node, "GET", "nodes")
            if reply is None or reply.status != 200:
                return False
            (me,) = [each for each in reply.json["nodes"] if each["me"]]
            return bool(me["alive"]) and not me["shards"]

        await until(look, f"{node.name} is one of the nodes again")

    async def until_worker(self, worker: Worker, state: str) -> None:
        async def look() -> bool:
            workers = (await self.clients.get("workers"))["workers"]
            return any(w["name"] == worker.name and w["state"] == state for w in workers)

        await until(look, f"{worker.name} is {state}")

    async def until_workers(self) -> None:
        """Wait until all are connected as the nodes know it; the store may not know it yet."""

        async def look() -> bool:
            here = [await self.metric(node, "boxsched_workers_connected") for node in self.nodes]
            return sum(count or 0 for count in here) == len(self.workers)

        await until(look, "every worker is connected")

    async def until_job(self, workload: str, *states: str) -> Any:
        async def look() -> Any:
            (job,) = (await self.clients.get(f"workloads/{workload}"))["jobs"]
            return job if job["state"] in states else None

        return await until(look, f"the job of {workload} is {' or '.join(states)}")

    async def until_begun(self, workload: str, times: int = 1) -> None:
        await until_true(lambda: self.job_record.begun(workload) >= times, f"{workload} runs")

    async def until_ticks(self, workload: str, seconds: float) -> None:
        """Wait until its job has recorded as many more ticks as fit into ``seconds``."""
        enough = self.job_record.ticks(workload) + ticks_in(seconds)
        await until_true(lambda: self.job_record.ticks(workload) >= enough, f"{workload} goes on")

    async def unfinished(self) -> int:
        """Return the unfinished workloads and their jobs."""
        ((count,),) = await self.sql(
            "SELECT (SELECT count(*) FROM workload WHERE state <> 'finished')"
            " + (SELECT count(*) FROM job WHERE state <> 'finished')"
        )
        return int(count)

    async def until_idle(self) -> None:
        """Wait, as long as there is progress, until nothing is unfinished, and the nodes know
        it."""
        await until_none(self.unfinished, "workloads and jobs that are not finished")

        async def look() -> bool:
            a = await self.clients.get("activity")
            return not (a["upcoming"] or a["blocked"] or a["running"])

        await until(look, "nothing is unfinished")

    async def next_admission(self, after: float) -> float:
        """Return when the present leader committed its first admission after that time, by the
        database's clock, minus ``after`` (by the same machine's clock)."""

        async def look() -> list[tuple[Any, ...]]:
            return await self.sql(
                "SELECT extract(epoch FROM min(pg_xact_commit_timestamp(e.xmin)))"
                "  FROM event AS e JOIN shard AS s ON s.id = e.shard AND e.batch > s.epoch_batch"
                " WHERE e.type = 'workload.started'"
                "   AND pg_xact_commit_timestamp(e.xmin) > to_timestamp(%s) HAVING count(*) > 0",
                after,
            )

        ((at,),) = await until(look, "the leader admits something")
        return float(at) - after

    async def led_since(self, after: float, shard: int = 1) -> float:
        """Return when the present leadership started, minus ``after``, by the same clocks."""
        ((at,),) = await self.sql(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM leadership"
            " WHERE shard = %s ORDER BY epoch DESC LIMIT 1",
            shard,
        )
        return float(at) - after

    # --- Checking it ------------------------------------------------------------------------

    async def is_whole(self) -> None:
        """Wait until all is idle; check that answers, the jobs' records and the tables agree."""
        await self.until_idle()
        workloads = await self.clients.workloads()
        found = [
            violation
            for clients in self._clients
            for violation in clients.journal.read().violations(workloads)
        ]
        found += self.job_record.violations()
        assert not found, "\n".join(found[:20])
        boxes = (await self.clients.get("boxes"))["boxes"]
        assert all(box.get("job") is None for box in boxes), boxes
        await self.checks_out()
        assert not (raised := [p.name for p in self.programs if p.raised]), f"tracebacks: {raised}"

    async def checks_out(self) -> None:
        """Run the checks of `boxsched check`."""
        found = await check(self.database)
        assert not found, found

    # --- Start and end ----------------------------------------------------------------------

    @property
    def programs(self) -> list[Program]:
        return [*self.nodes, *self.workers]

    async def close(self) -> None:
        for clients in self._clients:
            await clients.close()
        await asyncio.to_thread(processes.clear, self.folder)
        for program in self.programs:
            if program.runs:
                await program.kill()
        for proxy in self._proxies:
            await proxy.stop()

    def logs(self, lines: int = 60) -> str:
        """Return the state and the last output of each process, for a test that failed."""
        texts = []
        for program in self.programs:
            last = program.said.splitlines()[-lines:]
            texts.append("\n".join([f"=== {program.name} {program.standing}", *last]))
        return "\n".join(texts)


@contextlib.asynccontextmanager
async def closing_cluster(cluster: Cluster) -> AsyncIterator[Cluster]:
    try:
        yield cluster
    finally:
        await cluster.close()
