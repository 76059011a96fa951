"""Let a worker connect: read its Hello, check it, and record the connection in the store."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import WSCloseCode

from boxsched.backoff import repeat
from boxsched.errors import Conflict, StoreAway
from boxsched.gateway.figures import Times
from boxsched.gateway.received import ProtocolViolation, read_hello, read_version
from boxsched.gateway.worker_line import Slow, WorkerLine
from boxsched.model import DEFAULT_ORGANIZATION, WorkerId, full_name
from boxsched.protocol import inbox, wire
from boxsched.protocol.workers import IN_PROCESS, Connected, NewWorker, WorkerConnection
from boxsched.store.errors import InUse, InvariantRefused, NotYet
from boxsched.store.records import Token
from boxsched.store.store import Store

MAX_BOX_TYPES = 32  # of one worker; the number of its Boxes is limited by ``wire.MAX_BOXES``
AT_ONCE = 16  # calls of the store, so that many workers do not occupy all of its connections

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WorkerRefused(Exception):
    """The worker is refused: it gets this answer, and its connection ends."""

    def __init__(self, code: str, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.answer = wire.Refused(code, message, again)


class Gone(Exception):
    """The connection ended before the worker was accepted."""


class Entry:
    """Checks connecting workers. ``lost_after``: seconds after which a silent worker is lost.
    ``leaves``: whether the node is stopping. ``objects``: why no external worker may connect, or
    None.
    """

    def __init__(
        self,
        store: Store,
        ask: Callable[[int, inbox.Command], Awaitable[None]],
        *,
        node: str,
        lost_after: float,
        leaves: Callable[[], bool],
        objects: Callable[[], Awaitable[str | None]],
        times: Times,
    ) -> None:
        self._store = store
        self._ask = ask
        self._node = node
        self._lost_after = lost_after
        self._leaves = leaves
        self._objects = objects
        self._times = times
        self._at_once = asyncio.Semaphore(AT_ONCE)
        # the number of each worker's latest connection to this node
        self._newest: dict[WorkerId, int] = {}

    async def hello(self, line: WorkerLine) -> wire.Hello | wire.Check:
        """Receive and decode the Hello or Check. Raises WorkerRefused, Gone, and ProtocolViolation
        if none arrives.
        """
        try:
            async with asyncio.timeout(self._times.hello):
                text = await line.receive()
        except TimeoutError:
            raise ProtocolViolation(
                "no_hello", f"no hello within {self._times.hello:g} s"
            ) from None
        if text is None:
            raise Gone
        version = read_version(text)
        if version != wire.VERSION:
            older = version < wire.VERSION
            raise WorkerRefused(
                "version",
                f"this worker speaks version {version}, this node {wire.VERSION}: "
                + ("upgrade the worker" if older else "upgrade the node first"),
                again=not older,
            )
        try:
            return read_hello(text)
        except ProtocolViolation as violation:
            raise WorkerRefused("invalid", f"invalid hello: {violation}", again=False) from None

    async def connect(self, line: WorkerLine, hello: wire.Hello, token: Token) -> Connected:
        """Record the connection and its Boxes in the store. Raises WorkerRefused, Gone."""
        return await self._admit(line, hello, token, self._store.connect_worker)

    async def check(self, line: WorkerLine, hello: wire.Hello, token: Token) -> None:
        """Raise what ``connect`` would raise, and record nothing."""
        await self._admit(line, hello, token, self._store.check_worker)

    async def _admit(
        self,
        line: WorkerLine,
        hello: wire.Hello,
        token: Token,
        record: Callable[[NewWorker], Awaitable[T]],
    ) -> T:
        if any(_is_a_nodes_own(text) for text in (hello.identity, hello.name)):
            message = f"{IN_PROCESS} is reserved for the nodes' own workers: use another name"
            raise WorkerRefused("invalid", message, again=False)
        if len(set(hello.box_types)) > MAX_BOX_TYPES:
            message = f"a worker has at most {MAX_BOX_TYPES} types of Boxes"
            raise WorkerRefused("invalid", message, again=False)
        new = NewWorker(
            identity=hello.identity,
            name=full_name(token.organization, hello.name),
            address=line.address,
            node=self._node,
            box_types=hello.box_types,
            organization=token.organization,
            lost_after=self._lost_after,
            token=token.id,
            problem=hello.problem,
            stop_grace=hello.stop_grace,
            fingerprint=hello.fingerprint,
            start=hello.start or None,
        )

        async def admitted(new: NewWorker) -> T:
            async with self._at_once:
                self._stay(line)
                # in-process Boxes belong to the default organization
                mixes = new.organization == DEFAULT_ORGANIZATION
                why_not = await self._objects() if mixes else None
                if why_not is not None:
                    raise WorkerRefused("mixed", why_not, again=False)
                return await record(new)

        try:
            return await repeat(admitted, new, self._times.retries(), on=StoreAway)
        except Conflict as error:
            again = isinstance(error, (InUse, NotYet))
            raise WorkerRefused(error.code, error.message, again=again) from None
        except InvariantRefused:
            message = "another connection of this worker, or of this name, is being made"
            raise WorkerRefused("conflict", message, again=True) from None

    async def announce(self, line: WorkerLine, connected: Connected, hello: wire.Hello) -> None:
        """Report the Boxes to the leader, unless a newer connection has done so. Raises Refused,
        Gone.
        """
        connection = connected.connection
        number = max(connection.number, self._newest.get(connection.worker, 0))
        self._newest[connection.worker] = number

        async def announced(command: inbox.BoxesSet) -> None:
            self._stay(line)
            if self._newest.get(connection.worker, 0) > connection.number:
                raise Gone
            await self._ask(connected.shard, command)

        boxes = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        said = inbox.BoxesSet(
            connection.worker, boxes, self._node, connection.number, hello.problem, hello.name,
            hello.fingerprint,
        )  # fmt: skip
        await repeat(announced, said, self._times.retries(), on=StoreAway)

    def forget(self, connection: WorkerConnection) -> None:
        """Remove a connection that has ended."""
        if self._newest.get(connection.worker) == connection.number:
            del self._newest[connection.worker]

    def _stay(self, line: WorkerLine) -> None:
        if line.gone:
            raise Gone
        if self._leaves():
            raise WorkerRefused("leaving", "this node is stopping", again=True)


def _is_a_nodes_own(text: str) -> bool:
    return text == IN_PROCESS or text.startswith(f"{IN_PROCESS}@")


async def refuse(line: WorkerLine, refusal: WorkerRefused) -> None:
    _log.warning("a worker at %s was refused: %s", line.address, refusal)
    try:
        await line.send([wire.encode(refusal.answer)])
    except (ConnectionError, Slow):
        line.cut()
        return
    again = refusal.answer.again
    code = WSCloseCode.TRY_AGAIN_LATER if again else WSCloseCode.POLICY_VIOLATION
    await line.hang_up(code, refusal.answer.code)
