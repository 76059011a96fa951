"""The worker's end of long polling, for a proxy that refuses WebSockets.

It behaves like a WebSocket: messages arrive in order, each once, or the connection ends. The rules
of the requests are in ``boxsched/gateway/long_polls.py``.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

import aiohttp
import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType
from yarl import URL

from boxsched import tunnelling
from boxsched.protocol import wire
from boxsched.worker.remote.messages import printable

OPEN_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # a node holds a request for at most 10 s
REPEATS = 3  # of a request without an answer; its number makes the repetition harmless
MISSES = 200  # requests in a row that a load balancer passed to other nodes, before we give up
MISS_PAUSE_SECONDS = 0.05
BUSY_PAUSE_SECONDS = 0.5
MAX_FRAME_BYTES = 4  # of a message in a request
MAX_REQUEST_BYTES = wire.MAX_POLL_BYTES - MAX_FRAME_BYTES
MAX_ANSWER_BYTES = 4 * wire.MAX_MESSAGE_BYTES
SENDINGS = 4  # of a tunnel, under way or waiting; the next request has all that wait

_ELSEWHERE, _BUSY = 421, 429


class _Opened(msgspec.Struct):
    connection: str


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Refused(msgspec.Struct):
    error: _Error


class PolledSocket:
    """A connection by long polling. ``open_polled`` makes one."""

    _kind = WSMsgType.TEXT

    def __init__(self, session: aiohttp.ClientSession, url: URL) -> None:
        self.close_code: int | None = None
        self._session = session
        self._url = url  # of the connection
        self._arrived: deque[bytes] = deque()
        self._received = 0  # the number of messages from the node
        self._waiting: deque[bytes] = deque()  # to be sent, without those of the current request
        self._request: tuple[bytes, int] | None = None  # its body and how many messages it has
        self._number = 1  # of the current request
        self._queued = self._sent = 0  # how many messages
        self._turn = asyncio.Lock()
        self._reason = ""

    async def send_frame(self, message: bytes, opcode: WSMsgType) -> None:
        """Send a text; return when the node has received it. Raises ConnectionError."""
        self._waiting.append(message)
        self._queued += 1
        mine = self._queued
        async with self._turn:
            while self._sent < mine:
                await self._send_next()

    async def receive(self) -> WSMessage:
        """Return the next text, or a message of type CLOSED or ERROR when the connection ended."""
        try:
            while not self._arrived:
                await self._ask()
        except ConnectionError as error:
            if self.close_code is None:
                return WSMessage(WSMsgType.ERROR, error, None)
            return WSMessage(WSMsgType.CLOSED, self.close_code, self._reason)
        return WSMessage(self._kind, self._arrived.popleft(), None)

    async def close(self) -> None:
        """Tell the node, if it answers soon; otherwise it notices that nobody asks any more."""
        if self.close_code is not None:
            return
        self.close_code = int(WSCloseCode.GOING_AWAY)
        for _ in range(MISSES):
            try:
                async with self._session.delete(self._url) as answer:
                    if answer.status != _ELSEWHERE:
                        return
            except (aiohttp.ClientError, OSError):
                return

    # --- Requests ---------------------------------------------------------------------------

    async def _send_next(self) -> None:
        """Send waiting messages in one request; the same ones again if that was interrupted."""
        if self._request is None:
            self._request = self._take()
        body, count = self._request
        query = {"number": str(self._number)}
        await self._asked(lambda: self._session.post(self._url.with_query(query), data=body))
        self._request = None
        self._number += 1
        self._sent += count

    def _take(self) -> tuple[bytes, int]:
        taken: list[bytes] = []
        size = 0
        while self._waiting and len(taken) < wire.MAX_POLL_MESSAGES:
            if taken and size + len(self._waiting[0]) >= MAX_REQUEST_BYTES:
                break
            taken.append(self._waiting.popleft())
            size += len(taken[-1]) + MAX_FRAME_BYTES
        return self._body(taken), len(taken)

    async def _ask(self) -> None:
        """Wait for messages from the node; there may be none."""
        query = {"after": str(self._received)}
        body = await self._asked(lambda: self._session.get(self._url.with_query(query)))
        texts = self._messages(body)
        self._arrived.extend(texts)
        self._received += len(texts)

    def _body(self, messages: Sequence[bytes]) -> bytes:
        return b"\n".join(messages)

    def _messages(self, body: bytes) -> list[bytes]:
        """Return the messages of an answer. Raises ConnectionError if it is malformed."""
        return [text for text in body.split(b"\n") if text]

    async def _asked(self, request: Callable[[], "aiohttp.client._RequestContextManager"]) -> bytes:
        """Make a request until the connection's node answers; return the body.

        Raises ConnectionError.
        """
        broken = misses = 0
        while True:
            if self.close_code is not None:
                raise ConnectionResetError("closed")
            try:
                async with asyncio.timeout(ANSWER_SECONDS), request() as answer:
                    body = await _body(answer)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                broken += 1
                if broken > REPEATS:
                    raise ConnectionResetError(f"no answer: {printable(str(error))}") from None
                await asyncio.sleep(MISS_PAUSE_SECONDS * broken)
                continue
            broken = 0
            if answer.status in (200, 204):
                return body
            if answer.status == _BUSY:
                await asyncio.sleep(BUSY_PAUSE_SECONDS)
            elif answer.status == _ELSEWHERE and misses < MISSES:
                misses += 1
                await asyncio.sleep(MISS_PAUSE_SECONDS if misses > 10 else 0)
            else:
                self._end(answer.status, body)

    def _end(self, status: int, body: bytes) -> None:
        """Note why the connection ended. Raises ConnectionError."""
        error = _error(body)
        said = printable(error.message)[:200]
        if error.code == "ended":
            code, _, self._reason = said.partition(" ")
            self.close_code = int(code) if code.isdecimal() else int(WSCloseCode.ABNORMAL_CLOSURE)
        raise ConnectionResetError(f"the node answered with status {status}: {said}")


class PolledTunnelSocket(PolledSocket):
    """A tunnel by long polling (``boxsched/gateway/polled_tunnels.py``). ``url``: its own."""

    _kind = WSMsgType.BINARY

    def __init__(self, session: aiohttp.ClientSession, url: URL) -> None:
        super().__init__(session, url)
        self._ahead: deque[asyncio.Task[None]] = deque()

    async def send_bytes(self, data: bytes) -> None:
        """Send data; a few sendings are under way at a time. Raises ConnectionError."""
        self._ahead.append(asyncio.create_task(self.send_frame(data, self._kind)))
        while self._ahead and (len(self._ahead) > SENDINGS or self._ahead[0].done()):
            await self._ahead.popleft()

    async def ping(self) -> None:
        """Show the node that this worker is alive, also while it asks for no messages."""
        await self.send_bytes(b"")

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"") -> None:
        """Send what is left, then end the tunnel. The node is not told why."""
        await asyncio.gather(*self._ahead, return_exceptions=True)
        self._ahead.clear()
        await super().close()

    def _body(self, messages: Sequence[bytes]) -> bytes:
        return tunnelling.packed(messages)

    def _messages(self, body: bytes) -> list[bytes]:
        try:
            return tunnelling.unpacked(body)
        except ValueError as error:
            raise ConnectionResetError(f"the node's answer is malformed: {error}") from None


async def open_polled(session: aiohttp.ClientSession, node: URL) -> PolledSocket | None:
    """Open a connection by long polling to the node at this URL; None if that is not possible."""
    polls = node.with_path(node.path.rstrip("/") + wire.POLLS)
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
        async with asyncio.timeout(OPEN_SECONDS), session.post(polls) as answer:
            if answer.status == 201:
                opened = msgspec.json.decode(await _body(answer), type=_Opened)
                return PolledSocket(session, polls / opened.connection)
    return None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises ClientError if it is too large."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientError("the answer is too large")
    return bytes(body)


def _error(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Error()
