"""A fake node for external workers: the other end of ``boxsched.protocol.wire``."""

import asyncio
import ssl
from collections.abc import Callable

import attrs
from aiohttp import WSCloseCode, WSMsgType, web

from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import HeldAttempt
from tests.worker.harness import LIMIT_SECONDS, StoreDouble

TOKEN = "a-worker's-token"


def _refused(status: int, code: str) -> web.Response:
    if not code:
        return web.Response(status=status, text="<html>nginx</html>")
    return web.json_response({"error": {"code": code, "message": "no\nentry"}}, status=status)


class FakeNodeConnection:
    """A connection that a worker opened to the scripted node."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request
        self.hello: wire.Hello | None = None
        self.beats = 0

    async def say(self, message: wire.FromNode) -> None:
        await self.socket.send_str(wire.encode(message).decode())

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


@attrs.define(eq=False)
class FakeNode:
    """Several nodes may share ``store`` and ``desired``, the level of every worker."""

    store: StoreDouble = attrs.field(factory=StoreDouble)
    desired: list[Assignment] = attrs.field(factory=list)
    cluster: str = "ours"
    lost_after: float = 120.0
    token: str = TOKEN
    prefix: str = ""  # of its paths
    refusal: wire.Refused | None = None
    status: int | None = None  # instead of a WebSocket
    code: str = "unauthorized"  # and the reason; "" is not a reason of a node
    fixes_commits: bool = True
    knows_checks: bool = True
    differs: tuple[str, ...] = ()
    acks_beats: bool = True
    acks_said: bool = True
    acks_output: bool = True
    stale: set[tuple[int, int]] = attrs.field(factory=set)
    tls: ssl.SSLContext | None = None
    before_answer: Callable[[wire.FromWorker], None] = lambda said: None

    connections: list[FakeNodeConnection] = attrs.field(factory=list)  # open connections
    hellos: list[wire.Hello] = attrs.field(factory=list)
    checks: list[wire.Hello] = attrs.field(factory=list)
    heard: list[wire.FromWorker] = attrs.field(factory=list)
    ends: set[tuple[int, int]] = attrs.field(factory=set)  # ghosts that a person ends
    asked: int = 0  # attempted connections
    port: int = 0
    _runner: web.AppRunner | None = None
    _news: asyncio.Condition = attrs.field(factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    async def start(self) -> "FakeNode":
        application = web.Application()
        application.router.add_get(self.prefix + wire.PATH, self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        harness = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await harness.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Stop as if killed."""
        for connection in self.connections:
            connection.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def leave(self) -> None:
        for connection in self.connections:
            await connection.say(wire.Leave())

    async def want(self, *assignments: Assignment) -> None:
        """Set another level for all workers, connected now or later."""
        self.desired[:] = assignments
        for connection in self.connections:
            await self._level(connection)

    async def until(self, told: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS), self._news:
            await self._news.wait_for(told)

    async def connected(self) -> FakeNodeConnection:
        await self.until(lambda: self.connections)
        return self.connections[-1]

    # --- The node's side of the wire --------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self._tell()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refused(401, "unauthorized")
        if self.status is not None:
            return _refused(self.status, self.code)
        socket = web.WebSocketResponse(max_msg_size=wire.MAX_WORKER_MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        connection = FakeNodeConnection(socket, request)
        try:
            await self._converse(connection)
        except ConnectionError:
            pass
        finally:
            if connection in self.connections:
                self.connections.remove(connection)
            await self._tell()
        return socket

    async def _converse(self, connection: FakeNodeConnection) -> None:
        async for message in connection.socket:
            assert message.type is WSMsgType.TEXT
            said = wire.from_worker.decode(message.data)
            if isinstance(said, wire.Check):
                await self._answer_check(connection, said)
                return
            if isinstance(said, wire.Hello):
                if not await self._greet(connection, said):
                    return
            else:
                await self._hear(connection, said)
            await self._tell()

    async def _answer_check(self, connection: FakeNodeConnection, said: wire.Check) -> None:
        if not self.knows_checks:
            await connection.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no_hello")
            return
        self.checks.append(said.hello)
        await connection.say(self.refusal or wire.WouldAccept(self.differs))
        await connection.socket.close()

    async def _greet(self, connection: FakeNodeConnection, hello: wire.Hello) -> bool:
        self.hellos.append(hello)
        connection.hello = hello
        if self.refusal is not None:
            await connection.say(self.refusal)
            await connection.socket.close()
            return False
        self.before_answer(hello)
        await connection.say(
            wire.Welcome(7, self.cluster, self.lost_after, fixes_commits=self.fixes_commits)
        )
        self.connections.append(connection)
        await self._level(connection)
        return True

    async def _level(self, connection: FakeNodeConnection) -> None:
        fields = wire.Task.__struct_fields__
        tasks = tuple(
            wire.Task(**{name: getattr(each, name) for name in fields}) for each in self.desired
        )
        await connection.say(wire.Level(tasks))

    async def _hear(self, connection: FakeNodeConnection, said: wire.FromWorker) -> None:
        self.heard.append(said)
        self.before_answer(said)
        stale: set[tuple[int, int]] = set()
        answered = True
        commit: str | None = None
        match said:
            case wire.Beat():
                connection.beats += 1
                answered = self.acks_beats
            case wire.Said():
                answered = self.acks_said
                keys = {(report.job, report.lease_token) for report in said.reports}
                stale = keys & self.stale
                await self.store.report(
                    [r for r in said.reports if (r.job, r.lease_token) not in stale]
                )
            case wire.Found():
                commit = await self.store.fix((JobId(said.job), said.lease_token, said.commit))
                if commit is None:
                    stale = {(said.job, said.lease_token)}
            case wire.Logged():
                answered = self.acks_output
                await self.store.log([(c.job, c.attempt, c.offset, c.data) for c in said.chunks])
        if answered:
            end = tuple(self.ends) if isinstance(said, wire.Beat) else ()
            await connection.say(wire.Ack(said.number, tuple(stale), commit, end))

    def named(self) -> list[tuple[HeldAttempt, ...]]:
        """Return the ghosts of each heartbeat that named any."""
        return [one.ghosts for one in self.heard if isinstance(one, wire.Beat) and one.ghosts]

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
