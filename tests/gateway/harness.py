"""A gateway behind a real aiohttp server, over a real SQLite store, with fake workers."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
from aiohttp import web

from boxsched.api.http.serving import Runner
from boxsched.errors import StoreAway
from boxsched.gateway import Gateway
from boxsched.gateway.figures import Times
from boxsched.gather import Gather
from boxsched.model import BoxId, JobId, WorkerId, WorkloadId
from boxsched.protocol import inbox, wire
from boxsched.protocol.batches import BoxChange
from boxsched.protocol.shards import SHARD, Project
from boxsched.protocol.workers import BoxRow
from boxsched.secrets.assignment_secrets import AssignmentSecrets
from boxsched.secrets.ring import KeyRing, new_key
from boxsched.secrets.vault import Vault
from boxsched.states import Result
from boxsched.store import open_store
from boxsched.store.records import Token
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, build, spec

PATIENCE_SECONDS = 20.0
LOG_LIMIT = 1 << 26
NODE = "node-1"
VAULT = Vault(KeyRing.of(new_key(), "the test"))
CLUSTER = "the cluster"
QUICK = Times(beats=0.02, hello=5.0, leave=0.2, hang_up=0.5, first_retry=0.01, longest_retry=0.05)

M = TypeVar("M", wire.Welcome, wire.Refused, wire.Level, wire.Ack, wire.Leave, wire.Drained)


class UnreliableStore:
    """A store that can be unavailable, and that counts its calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.away_for: str | None = None  # the name of one call
        self.done: Counter[str] = Counter()  # calls that returned
        self.refused: Counter[str] = Counter()
        self._moved = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self.away or self.away_for == name:
                self.refused[name] += 1
                self._moved.set()
                raise StoreAway("away for the test")
            answer = await method(*arguments, **named)
            self.done[name] += 1
            self._moved.set()
            return answer

        return call

    async def until(self, counted: Counter[str], name: str, count: int = 1) -> None:
        """``counted``: ``done`` or ``refused``."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while counted[name] < count:
                self._moved.clear()
                await self._moved.wait()


class GatewayHarness:
    def __init__(self, store: Store, times: Times, hints_reach: Callable[[], bool]) -> None:
        self.store = store
        self.unsteady = UnreliableStore(store)
        self.leader = Leader(store)
        self.asked: list[inbox.Command] = []
        self.woken: Callable[[], object] = lambda: None
        self.committed = asyncio.Event()
        self.commands: Gather[inbox.Command, None] = Gather(self._store_commands, at_most=256)
        self.gateway = Gateway(
            cast(Store, self.unsteady),
            self._ask,
            self._ask,
            node=NODE,
            cluster=CLUSTER,
            lost_after=120.0,
            required={},
            log_limit=LOG_LIMIT,
            hints_reach=hints_reach,
            source=AssignmentSecrets(cast(Store, self.unsteady), VAULT),
            times=times,
        )
        self.port = 0
        self.session = aiohttp.ClientSession()
        self.project: Project | None = None
        self.token = Token("token-1", "its digest", "worker", "", NOW)  # of the client

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        folder: Path,
        times: Times = QUICK,
        hints_reach: Callable[[], bool] = lambda: True,
        database: str | None = None,
    ) -> AsyncIterator["GatewayHarness"]:
        store = open_store(database or f"sqlite:///{folder}/boxsched.sqlite", folder)
        await store.open()
        harness = cls(store, times, hints_reach)
        await harness.leader.lead(boxes=0)
        app = web.Application()
        app.router.add_get(wire.PATH, harness._serve)
        runner = Runner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        harness.port = runner.addresses[0][1]
        running = asyncio.create_task(harness.gateway.run())
        try:
            yield harness
            assert not running.done(), running
        finally:
            await harness.session.close()
            await harness.gateway.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await runner.cleanup()
            await harness.commands.drain()
            await store.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        return await self.gateway.serve(request, self.token)

    async def _ask(self, shard: int, command: inbox.Command) -> None:
        assert shard == SHARD
        await asyncio.shield(self.commands.add(command))

    async def _store_commands(self, group: Sequence[inbox.Command]) -> list[None]:
        await self.unsteady.ask(SHARD, [inbox.written(command) for command in group])
        self.asked += group
        self.woken()
        return [None] * len(group)

    # --- Workers ----------------------------------------------------------------------------

    async def dial(self) -> "FakeWorker":
        url = f"http://127.0.0.1:{self.port}{wire.PATH}"
        return FakeWorker(await self.session.ws_connect(url, max_msg_size=wire.MAX_MESSAGE_BYTES))

    async def worker(self, name: str = "w", boxes: int = 2, **changes: Any) -> "FakeWorker":
        """A connected worker that has read its first level."""
        worker = await self.dial()
        await worker.hello(name, boxes, **changes)
        worker.id = WorkerId((await worker.next(wire.Welcome)).worker)
        assert await worker.level() is not None
        return worker

    # --- In place of the engine -----------------------------------------------------------------

    async def take_boxes(self) -> None:
        """Make the leader accept the Boxes of the last worker that connected."""
        command = [one for one in self.asked if isinstance(one, inbox.BoxesSet)][-1]
        self.leader.worker = WorkerId(command.worker)
        self.leader.boxes = tuple(
            BoxRow(BoxId(id_), WorkerId(command.worker), ordinal, type_)
            for id_, ordinal, type_ in command.boxes
        )
        freed = tuple(BoxChange(box.id, None, None, None, NOW) for box in self.leader.boxes)
        await self.leader.commit(freed=freed, inbox=await self.leader.take_inbox())

    async def start(self, *boxes: int, hint: bool = True) -> WorkloadId:
        """Start a workload with a job on each of these Boxes, by index; return its id."""
        if self.project is None:
            self.project = await self.leader.project()
        jobs = tuple(spec(f"job {box}") for box in boxes)
        branch = f"branch {self.leader.batch}"
        done = await self.leader.submit(build(self.project, branch, jobs=jobs))
        await self.leader.queue(done.id)
        await self.leader.start(done.id, *boxes)
        if hint:
            self.gateway.look([self.leader.worker])
        return done.id

    def reports(self) -> list[inbox.JobStarted | inbox.JobFinished]:
        """Return everything written to the inbox."""
        commands = [one for one in self.asked if isinstance(one, inbox.Reports)]
        return [report for command in commands for report in command.reports]

    async def log_of(self, task: wire.Task, attempt: int = 1) -> bytes:
        return await self.store.log(JobId(task.job), attempt, 0, 1 << 30)

    async def disconnected(self, worker: "FakeWorker") -> None:
        """Wait until the store has been told of an end, which must be this worker's."""
        await self.unsteady.until(self.unsteady.done, "disconnect_workers")
        assert await self.state_of(worker) == "disconnected"

    async def state_of(self, worker: "FakeWorker") -> str:
        return next(one.state for one in await self.store.workers() if one.id == worker.id)


class FakeWorker:
    """A fake worker: the other side of the WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.id = WorkerId(0)
        self.tasks: tuple[wire.Task, ...] = ()  # of the last level that was read
        self.waiting: list[wire.FromNode] = []
        self._number = 0

    async def say(self, message: wire.FromWorker) -> None:
        await self.socket.send_str(wire.encode(message).decode())

    async def hello(self, name: str = "w", boxes: int = 2, **changes: Any) -> None:
        given = {
            "version": wire.VERSION,
            "identity": f"own {len(name)} {name[:9]!a}",
            "name": name,
            "box_types": ("default",) * boxes,
            "fingerprint": "",
            "boot": "",
        }
        await self.say(wire.Hello(**{**given, **changes}))

    async def next(self, kind: type[M]) -> M:
        """Return the next message of that kind; other messages stay queued."""
        for number, message in enumerate(self.waiting):
            if isinstance(message, kind):
                del self.waiting[number]
                return message
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                text = await self.socket.receive_str()
                message = wire.from_node.decode(text)
                if isinstance(message, kind):
                    return message
                self.waiting.append(message)

    async def level(self) -> wire.Level:
        level = await self.next(wire.Level)
        self.tasks = level.tasks
        return level

    async def runs(self, count: int) -> tuple[wire.Task, ...]:
        """Wait for a level with this many jobs; return them."""
        while len(self.tasks) != count:
            await self.level()
        return self.tasks

    async def said(self, *reports: inbox.JobStarted | inbox.JobFinished) -> wire.Ack:
        """Send it; return the answer."""
        self._number += 1
        number = self._number
        await self.say(wire.Said(number, reports))
        return await self._answer(number)

    async def logged(self, *chunks: wire.Chunk) -> wire.Ack:
        self._number += 1
        number = self._number
        await self.say(wire.Logged(number, chunks))
        return await self._answer(number)

    async def beat(self) -> wire.Ack:
        self._number += 1
        number = self._number
        await self.say(wire.Beat(number))
        return await self._answer(number)

    async def _answer(self, number: int) -> wire.Ack:
        while True:
            ack = await self.next(wire.Ack)
            if ack.number == number:
                return ack

    async def closed(self) -> int:
        """Return the close code; 1006 if the connection was cut."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self.waiting.append(wire.from_node.decode(message.data))
                elif message.type in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.CLOSING,
                    aiohttp.WSMsgType.ERROR,
                ):
                    return self.socket.close_code or 1006


def started(task: wire.Task, at: float = NOW) -> inbox.JobStarted:
    return inbox.JobStarted(task.job, task.lease_token, at)


def passed(task: wire.Task, at: float = NOW + 1, **changes: Any) -> inbox.JobFinished:
    given: dict[str, Any] = {"exit_status": 0, "reason": None, "result": Result.PASSED}
    return inbox.JobFinished(task.job, task.lease_token, at, **{**given, **changes})
