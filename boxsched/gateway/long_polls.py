"""Long polling: a worker's connection where a proxy refuses WebSockets.

It has the guarantees of a WebSocket: messages arrive in order, each once, or the connection ends.
The worker opens a connection with one request, and names it in every further one:

* Up: one request at a time, with a number and any number of messages, a line each. A request whose
  answer was lost is repeated with its number, and changes nothing if it had arrived.
* Down: the worker asks for what follows message number ``after``. The node answers as soon as it
  has something, at the latest after HOLD_SECONDS. It keeps messages until the worker asks for later
  ones.

A connection belongs to one node, and its id names that node. Another node refuses a request with
``Elsewhere``; the worker repeats it until a load balancer passes it to the right node. A connection
ends when its node ends, or when the worker asks for nothing for ``Times.silence`` seconds.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from aiohttp import WSCloseCode

from boxsched.errors import BoxschedError, Conflict, NotFound, TooMany
from boxsched.gateway.figures import Times
from boxsched.gateway.received import ProtocolViolation
from boxsched.gateway.worker_line import Slow
from boxsched.protocol.wire import MAX_WORKER_MESSAGE_BYTES
from boxsched.store.records import Token

HOLD_SECONDS = 10.0  # proxies often end a request after 30 or 60 s without an answer
MAX_CONNECTIONS = 2_000
MAX_WAITING_BYTES = 2 * MAX_WORKER_MESSAGE_BYTES  # received, not yet read by the gateway
MAX_UNREAD_BYTES = 64 << 10  # sent, not yet confirmed; more make the sender wait
MAX_ANSWER_BYTES = 8 << 20  # of one answer; a single message may be larger
# Of one connection at once: one in each direction, and repetitions of those that a proxy cut.
MAX_REQUESTS = 16

Message = TypeVar("Message", str, bytes)  # of the worker

_ID = re.compile(r"(?P<node>.{1,255})\.[0-9a-f]{32}")


def new_id(node: str) -> str:
    """Return a secret id of a connection or tunnel of this node."""
    return f"{node}.{secrets.token_hex(16)}"


def is_of_another(id_: str, node: str) -> bool:
    """Whether it is the id of another node; a text that is no id is of none."""
    form = _ID.fullmatch(id_)
    return form is not None and form["node"] != node


_log = logging.getLogger(__name__)


class Elsewhere(BoxschedError):
    """This connection belongs to another node: send the request again."""

    code, status = "elsewhere", 421


class Ended(Conflict):
    """The connection has ended: open another one. The message: a WebSocket's code and reason."""

    code = "ended"


class PolledLine(Generic[Message]):
    """A ``WorkerLine`` over separate requests. Other tokens than ``token`` may not use it.

    ``waiting`` and ``unread``: limits in bytes of what is kept of either direction.
    """

    def __init__(
        self,
        address: str,
        token: str,
        times: Times,
        *,
        waiting: int = MAX_WAITING_BYTES,
        unread: int = MAX_UNREAD_BYTES,
    ) -> None:
        self.address = address
        self.token = token
        self._times = times
        self._max_waiting, self._max_unread = waiting, unread
        self._loop = asyncio.get_running_loop()
        self._received: deque[Message] = deque()
        self._received_bytes = 0
        self._number = 0  # of the last request with messages
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._confirmed = 0  # the number of messages that the worker has
        self._end: tuple[int, str] | None = None  # code and reason; set when the node ends it
        self._told = asyncio.Event()  # the worker knows of the end
        self.lost = False  # the worker has gone
        self.silent = False  # ... without a word
        self._changed = asyncio.Condition()
        self._asking = 0
        self._patience: asyncio.TimerHandle | None = None
        self._wait_for_requests()

    # --- The requests -----------------------------------------------------------------------

    async def put(self, number: int, texts: Sequence[Message]) -> None:
        """Take the messages of request ``number``; do nothing if they are here already.

        Raises Ended, Conflict if an earlier request is missing, TooMany if there is no room now or
        there are too many requests.
        """
        size = sum(map(len, texts))
        with self._visited():
            if number == self._number:
                return
            if number != self._number + 1:
                raise Conflict(f"the next number is {self._number + 1}", "number")
            if not await self._until(lambda: self._over or self._has_room(size)):
                raise TooMany("this node is busy with earlier messages: repeat the request")
            if self._over:
                raise self._ended()
            if number != self._number + 1:  # a repetition of it was faster
                return
            self._number = number
            self._received.extend(texts)
            self._received_bytes += size
            await self._notify()

    async def take(self, after: int) -> list[bytes]:
        """Return the messages after number ``after``; none if none comes soon.

        Raises Ended, Conflict if these are gone, TooMany if there are too many requests.
        """
        with self._visited():
            if not self._confirmed <= after <= self._confirmed + len(self._unread):
                first, last = self._confirmed, self._confirmed + len(self._unread)
                raise Conflict(f"must be {first} to {last}", "after")
            while self._confirmed < after:
                self._unread_bytes -= len(self._unread.popleft())
                self._confirmed += 1
            await self._notify()
            await self._until(lambda: self._over or self._unread)
            if not self._unread:
                if self._over:
                    self._told.set()
                    raise self._ended()
                return []
            return self._answer()

    def _answer(self) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        for text in self._unread:
            size += len(text)
            if taken and size > MAX_ANSWER_BYTES:
                break
            taken.append(text)
        return taken

    def _ended(self) -> Ended:
        code, reason = self._end or (int(WSCloseCode.ABNORMAL_CLOSURE), "silent")
        return Ended(f"{code} {reason}")

    def _has_room(self, size: int) -> bool:
        return not self._received or self._received_bytes + size <= self._max_waiting

    async def _until(self, condition: Callable[[], object]) -> bool:
        """Wait at most HOLD_SECONDS for the condition; return whether it holds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_SECONDS), self._changed:
                await self._changed.wait_for(condition)
        return bool(condition())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- Silence ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _visited(self) -> Iterator[None]:
        """A request is here: the connection is not silent. Raises TooMany."""
        if self._asking >= MAX_REQUESTS:
            raise TooMany(f"a connection has at most {MAX_REQUESTS} requests at once: repeat it")
        self._asking += 1
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._wait_for_requests()

    def _wait_for_requests(self) -> None:
        if not self._over:
            self._patience = self._loop.call_later(self._times.silence, self._fall_silent)

    def _fall_silent(self) -> None:
        self.silent = True
        self.lose()

    def lose(self) -> None:
        """The worker has gone."""
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        """Notify from code that cannot wait."""
        task = self._loop.create_task(self._notify())
        task.add_done_callback(lambda done: done.cancelled() or done.result())

    @property
    def _over(self) -> bool:
        return self.lost or self._end is not None

    # --- The methods of ``WorkerLine`` ----------------------------------------------------------

    @property
    def gone(self) -> bool:
        return self._over

    async def receive(self) -> Message | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._over or self._received)
            if self._end is not None or not self._received:
                return None
            text = self._received.popleft()
            self._received_bytes -= len(text)
            self._changed.notify_all()
        if len(text) > MAX_WORKER_MESSAGE_BYTES:
            raise ProtocolViolation("too_large", f"a message of {len(text)} characters")
        return text

    async def send(self, texts: list[bytes]) -> None:
        if self._over:
            raise ConnectionResetError("the worker has gone")
        async with self._changed:
            self._unread.extend(texts)
            self._unread_bytes += sum(map(len, texts))
            self._changed.notify_all()
            try:
                async with asyncio.timeout(self._times.write):
                    await self._changed.wait_for(
                        lambda: self._over or self._unread_bytes <= self._max_unread
                    )
            except TimeoutError:
                raise Slow(f"it read nothing for {self._times.write:g} s") from None

    async def hang_up(self, code: WSCloseCode, reason: str) -> None:
        if self._end is None:
            self._end = int(code), reason
            await self._notify()
        if self.lost:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._times.hang_up):
                await self._told.wait()

    def cut(self) -> None:
        if self._end is None:
            self._end = int(WSCloseCode.ABNORMAL_CLOSURE), "cut"
        self._unread.clear()
        self._wake()

    def close(self) -> None:
        """Nobody serves it any more."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class LongPolls:
    """The polled connections of a node. ``serve``: serves one until it ends."""

    def __init__(
        self,
        node: str,
        serve: Callable[[PolledLine[str], Token], Awaitable[None]],
        times: Times,
    ) -> None:
        self._node = node
        self._serve = serve
        self._times = times
        self._lines: dict[str, PolledLine[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, address: str, token: Token) -> str:
        """Begin a connection; return its id. Raises TooMany."""
        if len(self._lines) >= MAX_CONNECTIONS:
            raise TooMany("this node has its maximum number of workers: use another node")
        connection = new_id(self._node)
        line: PolledLine[str] = PolledLine(address, token.id, self._times)
        self._lines[connection] = line
        task = asyncio.create_task(self._served(connection, line, token), name="a polling worker")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return connection

    def find(self, connection: str, token: Token) -> PolledLine[str]:
        """Return an open connection of this token. Raises Elsewhere, NotFound."""
        line = self._lines.get(connection)
        if line is not None and line.token == token.id and not line.lost:
            return line
        if is_of_another(connection, self._node):
            raise Elsewhere("this connection belongs to another node: send the request again")
        raise NotFound("no such connection: it has ended")

    async def _served(self, connection: str, line: PolledLine[str], token: Token) -> None:
        try:
            await self._serve(line, token)
        finally:
            line.cut()
            line.close()
            del self._lines[connection]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the connection of a polling worker failed", exc_info=error)
