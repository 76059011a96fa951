"""One connection of a worker to a node, from the Hello to the end."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Sequence
from typing import Protocol

import aiohttp
import msgspec

from boxsched.errors import StoreAway
from boxsched.protocol import wire
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.worker.remote.messages import NumberedMessage, printable
from boxsched.worker.remote.pace import Pace
from boxsched.worker.supervisor.last_heartbeat import boottime

MAX_UNANSWERED_BEATS = 64
_TEXTS = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


class Socket(Protocol):
    """A WebSocket whose texts come as bytes, or a ``PolledSocket``."""

    @property
    def close_code(self) -> int | None: ...

    async def send_frame(self, message: bytes, opcode: aiohttp.WSMsgType) -> None: ...

    async def receive(self) -> aiohttp.WSMessage: ...

    async def close(self) -> object: ...


class Lost(Exception):
    """The connection has ended or could not be made: try another node."""


class NothingListens(Lost):
    """No process listens at the node's address."""


class RefusedByNode(Exception):
    """The node refuses this worker, and will refuse it again until the operator acts."""


class NodeListener(Protocol):
    """Receives the messages of a node. Each method returns at once."""

    @property
    def problem(self) -> str | None:
        """Why no job can begin here now; sent with each heartbeat. None: jobs can begin."""

    @property
    def cache_counts(self) -> wire.CacheCounts | None:
        """What the cache has done; sent with each heartbeat."""

    def receive_level(self, level: wire.Level) -> None:
        """Take the newest level."""

    def heartbeat_answered(self, at: float) -> None:
        """Note that the node answered the heartbeat that was sent ``at`` (``boottime``)."""

    def receive_drained(self) -> None:
        """End: an operator drained the worker, and it has no jobs."""

    def dial(self, asked: wire.Dial) -> None:
        """Open a tunnel to the node, for somebody who enters a session."""

    def drop(self, stale: Sequence[tuple[int, int]]) -> None:
        """The worker no longer holds the attempts with these (job, lease token)."""

    @property
    def ghosts(self) -> tuple[HeldAttempt, ...] | None:
        """The attempts here that the level does not contain; sent with each heartbeat."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of the worker; sent with ``ghosts``."""

    @property
    def new_ghosts(self) -> asyncio.Event:
        """Set when ``ghosts`` has changed: then a heartbeat is sent at once."""

    def end_ghosts(self, decided: Sequence[tuple[int, int]]) -> None:
        """End the ghosts with these (job, lease token)."""


class Link:
    """A connection: call ``greet`` first, then ``serve``; call ``send`` while ``serve`` runs."""

    def __init__(self, socket: Socket, pace: Pace, chance: random.Random) -> None:
        self._socket = socket
        self._pace = pace
        self._chance = chance
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[wire.Ack | None]] = {}
        self._beats: dict[int, float] = {}  # when unanswered heartbeats were sent, by number
        self._over = False
        self.fixes_commits = self.opens_sessions = False  # from the node's Welcome

    async def greet(self, hello: wire.Hello) -> wire.Welcome:
        """Send the Hello and return the Welcome. Raises Lost, RefusedByNode."""
        try:
            await self._send(hello)
        except ConnectionError as error:
            raise Lost(f"the node closed the connection: {error}") from None
        answer = await self._receive()
        if isinstance(answer, wire.Refused):
            message = printable(answer.message)
            raise Lost(message) if answer.again else RefusedByNode(message)
        if not isinstance(answer, wire.Welcome):
            raise Lost("the node did not answer the Hello")
        self._pace = self._pace.of(answer.lost_after)
        self.fixes_commits, self.opens_sessions = answer.fixes_commits, answer.opens_sessions
        return answer

    async def serve(self, listener: NodeListener) -> None:
        """Handle messages until the node says Leave. Raises Lost.

        Messages without an answer at the end count as not processed.
        """
        beating = asyncio.create_task(self._beat(listener))
        try:
            await self._listen(listener)
        finally:
            self._over = True
            for answered in self._unanswered.values():
                if not answered.done():
                    answered.set_result(None)
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def send(self, message: NumberedMessage) -> wire.Ack:
        """Send a message; return its Ack when it is durable.

        Raises StoreAway if the connection ends first.
        """
        if self._over:
            raise StoreAway("the connection to the node is gone")
        number = next(self._numbers)
        answered = self._unanswered[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(message(number))
            ack: wire.Ack | None = await answered
            if ack is None:
                raise StoreAway("the connection to the node was lost before it answered")
            return ack
        except ConnectionError as error:
            raise StoreAway(f"the connection to the node was lost: {error}") from None
        finally:
            del self._unanswered[number]

    # --- Sending ----------------------------------------------------------------------------

    async def _send(self, message: wire.FromWorker) -> None:
        await self._socket.send_frame(wire.encode(message), aiohttp.WSMsgType.TEXT)

    async def _beat(self, listener: NodeListener) -> None:
        """Send heartbeats until the connection ends."""
        spread = self._pace.beat * self._chance.random()  # over many workers
        await _until_ghosts(listener, spread)
        while True:
            number = next(self._numbers)
            self._beats[number] = boottime()  # before it is sent: the lease starts here
            if len(self._beats) > MAX_UNANSWERED_BEATS:
                del self._beats[next(iter(self._beats))]
            try:
                await self._send(
                    wire.Beat(
                        number,
                        listener.problem,
                        listener.ghosts,
                        listener.cache_counts,
                        listener.notes,
                    )
                )
            except ConnectionError:
                return
            await _until_ghosts(listener, self._pace.beat)

    # --- Receiving --------------------------------------------------------------------------

    async def _listen(self, listener: NodeListener) -> None:
        loop = asyncio.get_running_loop()
        silence = self._pace.silence
        try:
            async with asyncio.timeout(silence) as patience:
                while not isinstance(message := await self._receive(), wire.Leave):
                    patience.reschedule(loop.time() + silence)
                    self._take(message, listener)
        except TimeoutError:
            raise Lost(f"the node was silent for {silence:g} s") from None

    def _take(self, message: wire.FromNode, listener: NodeListener) -> None:
        match message:
            case wire.Level():
                listener.receive_level(message)
            case wire.Ack():
                if (sent := self._beats.pop(message.number, None)) is not None:
                    listener.heartbeat_answered(sent)
                if message.stale:  # before the caller of ``send`` continues
                    listener.drop(message.stale)
                if message.end:
                    listener.end_ghosts(message.end)
                answered = self._unanswered.get(message.number)
                if answered is not None and not answered.done():
                    answered.set_result(message)
            case wire.Drained():
                listener.receive_drained()
            case wire.Dial():
                listener.dial(message)
            case wire.Refused():
                raise Lost(printable(message.message))
            case _:
                raise Lost("the node sent an unexpected message")

    async def _receive(self) -> wire.FromNode:
        """Return the node's next message. Raises Lost."""
        message = await self._socket.receive()
        if message.type in _TEXTS:
            try:
                said: wire.FromNode = wire.from_node.decode(message.data)
            except msgspec.DecodeError as error:
                raise Lost(f"the node sent an invalid message: {error}") from None
            return said
        if message.type is aiohttp.WSMsgType.ERROR:
            raise Lost(f"the connection broke: {message.data}")
        raise Lost(_why_closed(self._socket.close_code, str(message.extra or "")))


async def _until_ghosts(listener: NodeListener, seconds: float) -> None:
    """Wait for so long, or until the worker's ghosts have changed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await listener.new_ghosts.wait()
    listener.new_ghosts.clear()


def _why_closed(code: int | None, reason: str) -> str:
    if code is None or code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        return "the connection broke"
    detail = f": {printable(reason)[:200]}" if reason else ""
    return f"the node closed the connection ({code}{detail})"
