"""examples/cluster: two nodes behind nginx and behind HAProxy, and a worker that connects through
it."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import attrs
import pytest

from boxsched.client import Client, Event, Workload
from boxsched.store.operating.check import check
from tests.acceptance.balancers import Balancer, program
from tests.bus.redis_server import Server, served
from tests.contract.postgres_server import database, provided
from tests.faults import processes
from tests.faults.members import Node, Worker
from tests.faults.waiting import until, until_true

PATIENCE_SECONDS = 120.0  # of a client; only an overloaded machine needs it
CLIENTS = 3
SUBMISSIONS = 5  # by each client, at least, while one node ends and starts again

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with provided() as url:
        yield url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with served(folder) as server:
        yield server


@attrs.define
class ExampleCluster:
    """Two nodes, their load balancer, and a client that knows only the balancer."""

    folder: Path
    database: str
    nodes: list[Node]
    balancer: Balancer
    client: Client
    worker: Worker | None = None

    async def work(self, boxes: int) -> None:
        """Start a worker that connects through the balancer."""
        made = await self.client.create_token("worker", name="example", max_workers=9)
        self.worker = Worker(
            self.folder, "worker", "--url", self.balancer.url, "--token", made.token,
            "--boxes", str(boxes),
        )  # fmt: skip
        await self.worker.spawn()
        await self.worker.says("connected to ")

    def another_client(self) -> Client:
        return Client(self.balancer.url, self.nodes[0].token, patience=PATIENCE_SECONDS)

    async def until_joined(self, node: Node) -> None:
        """Wait until the node is listed as `boxsched nodes` shows it."""

        async def look() -> bool:
            found = {one.url: one.alive for one in await self.client.nodes()}
            return found.get(node.url, False)

        await until(look, f"{node.name} is alive")


@pytest.fixture(params=["nginx", "haproxy"])
async def cluster(
    request: pytest.FixtureRequest, postgres: str, redis: Server, tmp_path: Path
) -> AsyncIterator[ExampleCluster]:
    program(request.param)
    balancer = Balancer(tmp_path)
    with database(postgres) as url:
        shared = ("--database", url, "--redis", redis.url, "--boxes", "0")
        nodes = [Node(tmp_path, name, *shared) for name in ("node-1", "node-2")]
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            with balancer.runs(request.param, [node.port for node in nodes]):
                await balancer.answers()
                async with Client(balancer.url, nodes[0].token, patience=PATIENCE_SECONDS) as one:
                    made = ExampleCluster(tmp_path, url, nodes, balancer, one)
                    yield made
                    assert await check(url) == []
        except BaseException:
            for log in tmp_path.glob("*.log"):
                print(f"=== {log.name}\n{log.read_text(errors='replace')[-6000:]}")
            raise
        finally:
            await asyncio.to_thread(processes.clear, tmp_path)


def job(*commands: str) -> dict[str, object]:
    return {"name": "test", "commands": list(commands)}


@contextlib.asynccontextmanager
async def events(cluster: ExampleCluster) -> AsyncIterator[list[Event]]:
    """Collect all events from now on, without a gap when the stream ends."""
    stream = cluster.client.events()
    await stream.open()
    seen: list[Event] = []

    async def read() -> None:
        async for event in stream:
            seen.append(event)

    reading = asyncio.create_task(read())
    try:
        yield seen
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def types(seen: list[Event], workload: str) -> set[str]:
    return {event.type for event in seen if event.data.get("workload") == workload}


# --- Everything through the balancer ------------------------------------------------------------


async def test_everything_works_through_the_balancer(cluster: ExampleCluster) -> None:
    await cluster.work(boxes=1)
    assert await cluster.client.put_project("hello", {"jobs": [job("echo begun", "sleep 1")]})
    async with events(cluster) as seen:
        first = await cluster.client.build("hello", branch="main")
        second = await cluster.client.build("hello", branch="main")
        why = await cluster.client.explanation(second.id)
        assert (why.reason, why.phase) == ("waits_for_lane", "ordering")

        lines = [part async for part in cluster.client.follow_log(f"{first.id}-1")]
        assert b"".join(lines) == b"+ echo begun\nbegun\n+ sleep 1\n"
        done = await cluster.client.wait(second.id)
        assert done.passed
        await until_true(
            lambda: (
                {"workload.registered", "workload.started", "workload.finished"}
                <= types(seen, second.id)
            ),
            "the stream shows the build's life",
        )
    assert (await cluster.client.explanation(second.id)).reason == "finished"


async def test_a_session_of_one_node_opens_the_page_on_the_other(cluster: ExampleCluster) -> None:
    async with aiohttp.ClientSession() as browser:
        for node in cluster.nodes:  # any node's token, any node's session
            form = {"token": cluster.nodes[0].token}
            signed = await browser.post(f"{node.url}/sign-in", data=form, allow_redirects=False)
            assert signed.status == 303, await signed.text()
            session = {name: cookie.value for name, cookie in signed.cookies.items()}
            for _ in range(4):  # whichever node it reaches
                page = await browser.get(f"{cluster.balancer.url}/", cookies=session)
                assert page.status == 200
                assert "Sign out" in await page.text()
                there = f"{cluster.balancer.url}/api/v1/activity"
                assert (await browser.get(there, cookies=session)).status == 200


async def test_a_nodes_refusal_is_passed_on(cluster: ExampleCluster) -> None:
    """Bodies above its limit; and metrics, which it shows without a token only to its own
    machine."""
    await cluster.client.put_project("hello", {"jobs": [job("true")]})
    bearer = {"Authorization": f"Bearer {cluster.nodes[0].token}"}
    async with aiohttp.ClientSession(cluster.balancer.url) as http:
        body = {"branch": "main", "message": "x" * (1 << 20)}
        answer = await http.post("/api/v1/projects/hello/builds", json=body, headers=bearer)
        assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")
        assert (await http.get("/metrics")).status == 401
        assert (await http.get("/metrics", headers=bearer)).status == 200


# --- One node after the other -------------------------------------------------------------------


@attrs.define
class Traffic:
    """Clients that submit and read without a pause until it is ``over``; a failed call ends it at
    once."""

    cluster: ExampleCluster
    submitted: list[str] = attrs.field(factory=list)
    over: bool = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        async with self.cluster.another_client() as client:
            while not self.over:
                build = await client.build("quick", branch=f"b{number}")
                self.submitted.append(build.id)
                assert (await client.workload(build.id)).id == build.id
                await client.explanation(build.id)
                await client.activity()

    async def more(self, task: "asyncio.Task[None]") -> None:
        goal = len(self.submitted) + CLIENTS * SUBMISSIONS
        await until_true(
            lambda: len(self.submitted) >= goal or task.done(), "requests go on", within=120
        )
        assert not task.done(), task.exception()


async def test_a_rolling_restart_fails_no_request(cluster: ExampleCluster) -> None:
    await cluster.work(boxes=2)
    go = cluster.folder / "go"
    waits = job(f"until [ -e {shlex.quote(str(go))} ]; do sleep 0.1; done")
    await cluster.client.put_project("slow", {"jobs": [waits]})
    await cluster.client.put_project("quick", {"jobs": [job("true")]})
    async with events(cluster) as seen:
        build = await cluster.client.build("slow", branch="main")
        await until_true(lambda: "job.started" in types(seen, build.id), "the build runs")
        traffic = Traffic(cluster)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(traffic.run())
            for node in cluster.nodes:
                await traffic.more(running)
                assert await node.terminate() == 0
                await traffic.more(running)
                await node.start()
                await cluster.until_joined(node)
            await traffic.more(running)
            traffic.over = True
        go.touch()
        done = await cluster.client.wait(build.id)
        assert done.passed
        assert done.jobs[0].attempt == 1, "it was run once"
        await _all_end(cluster, traffic.submitted)
        await until_true(
            lambda: all("workload.finished" in types(seen, one) for one in traffic.submitted),
            "the stream shows all of it",
        )
    assert len({event.id for event in seen}) == len(seen), "no event came twice"


async def test_a_node_that_is_killed_fails_no_request(cluster: ExampleCluster) -> None:
    await cluster.work(boxes=2)
    await cluster.client.put_project("quick", {"jobs": [job("true")]})
    traffic = Traffic(cluster)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(traffic.run())
        for node in cluster.nodes:
            await traffic.more(running)
            await node.kill()
            await traffic.more(running)
            await node.start()
            await cluster.until_joined(node)
        traffic.over = True
    await _all_end(cluster, traffic.submitted)


async def _all_end(cluster: ExampleCluster, submitted: list[str]) -> None:
    """Check that each answered submission exists once and passes."""

    async def look() -> list[Workload]:
        found = await _workloads(cluster, "quick")
        return found if all(one.finished for one in found) else []

    found = await until(look, "all has ended", within=PATIENCE_SECONDS)
    assert sorted(one.id for one in found) == sorted(submitted)
    assert all(one.passed for one in found)


async def _workloads(cluster: ExampleCluster, project: str) -> list[Workload]:
    page = await cluster.client.workloads(project=project, limit=200)
    found = list(page.workloads)
    while page.next_cursor is not None:
        page = await cluster.client.workloads(project=project, limit=200, cursor=page.next_cursor)
        found += page.workloads
    return found
