"""A load with little overhead: it sends plain bytes on keep-alive connections and counts answers.

It runs on the same cores as the service, so it uses no HTTP library: only the status and the length
of an answer are read.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from yarl import URL

from boxsched.errors import Invalid, StoreAway

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_STATUS = slice(9, 12)  # the status in "HTTP/1.1 201 Created"
_QUOTED_BYTES = 300

Answered = Callable[["BenchConnection", bytes, bytes], None]


class BenchConnection(asyncio.Protocol):
    """A connection with one active request at a time; answers go to ``answered``."""

    def __init__(self, answered: Answered, lost: Callable[[Exception], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self._closing = False
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # It is one; uvloop's does not inherit from asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self.began = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        head = data.find(_HEAD_END)
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if head >= 0 and length is None:
            self._lost(StoreAway("the service answered without a length"))
            return
        end = head + len(_HEAD_END) + int(length[1]) if length is not None else -1
        if length is None or len(data) < end:
            self._rest = data
            return
        self._rest = b""
        self._answered(self, data[_STATUS], data[head + len(_HEAD_END) : end])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._lost(StoreAway(f"the service closed a connection: {exc or 'without a reason'}"))


class BenchTarget:
    """The target of requests: one node, with one token."""

    def __init__(self, url: str, token: str) -> None:
        where = URL(url)
        if where.scheme != "http" or where.host is None or where.port is None:
            raise Invalid(f"bench supports only HTTP without TLS: http://HOST:PORT, not {url}")
        self._host, self._port, self._authority = where.host, where.port, where.authority
        self._token = token

    def post(self, path: str, body: bytes, headers: str | None = None) -> bytes:
        """Return the bytes of a request. ``headers``: replace the one with the token, each with its
        line end.
        """
        own = f"Authorization: Bearer {self._token}\r\n" if headers is None else headers
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._authority}\r\n"
            f"{own}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body

    async def connect(
        self, answered: Answered, lost: Callable[[Exception], None]
    ) -> BenchConnection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: BenchConnection(answered, lost), self._host, self._port
            )
        except OSError as error:
            raise StoreAway(f"cannot connect to {self._authority}: {error}") from None
        return connection


class Load:
    """Sends POSTs over several connections, each with one active request; all answers must be
    ``good``.

    The targets take turns; the load ends with the bodies. ``headers``: returns a body's headers,
    which replace the one with the token.
    """

    def __init__(
        self,
        path: str,
        bodies: Iterator[bytes],
        *,
        good: bytes = b"201",
        headers: Callable[[bytes], str] | None = None,
    ) -> None:
        self._path = path
        self._bodies = bodies
        self._good = good
        self._headers = headers
        self._targets: dict[BenchConnection, BenchTarget] = {}
        self._sent = 0
        self.seconds: list[float] = []  # the time of each request, from sending to its answer
        self.took = 0.0
        self._done: asyncio.Future[None] | None = None

    async def run(self, targets: Sequence[BenchTarget], concurrency: int) -> None:
        self._done = asyncio.get_running_loop().create_future()
        try:
            for target in itertools.islice(itertools.cycle(targets), concurrency):
                connection = await target.connect(self._answered, self._fail)
                self._targets[connection] = target
            began = time.perf_counter()
            for connection in self._targets:
                self._send(connection)
            await self._done
            self.took = time.perf_counter() - began
        finally:
            for connection in self._targets:
                connection.close()

    def _send(self, connection: BenchConnection) -> None:
        body = next(self._bodies, None)
        if body is not None:
            self._sent += 1
            headers = None if self._headers is None else self._headers(body)
            connection.send(self._targets[connection].post(self._path, body, headers))
        elif len(self.seconds) == self._sent and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _answered(self, connection: BenchConnection, status: bytes, body: bytes) -> None:
        self.seconds.append(time.perf_counter() - connection.began)
        if status == self._good:
            self._send(connection)
        else:
            quoted = body[:_QUOTED_BYTES].decode("utf-8", "replace")
            self._fail(StoreAway(f"a request was answered {status.decode()}: {quoted}"))

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class Single:
    """A single connection that sends one request at a time and waits for its answer."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._connection: BenchConnection | None = None

    async def open(self, target: BenchTarget) -> None:
        self._connection = await target.connect(self._answered, self._fail)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Send the request and return (status, body)."""
        assert self._connection is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        return await self._answer

    def _answered(self, connection: BenchConnection, status: bytes, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
