"""Send a request to the service, repeat it while that is safe, and raise refusals as errors.

A service may have several nodes, each with a URL. A request goes to the node that answered last.
When that node does not answer or cannot serve now, the request goes to the next one at once.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from boxsched import errors
from boxsched.backoff import Backoff
from boxsched.client.refusals import MAX_REFUSAL_BYTES, Unreachable, refusal
from boxsched.reaching import NOTHING_LISTENS, why_not

ORGANIZATION = "X-Boxsched-Organization"  # the header that names it
CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
# With several nodes, a node that accepts a connection and then stays silent is given up sooner.
SILENCE_OF_A_NODE_SECONDS = 10.0
TRUSTED_SKEW_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0


def path(*segments: str) -> str:
    """Return a path below ``/api/v1``. The segments may contain any characters."""
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


class ServiceLine:
    """The connection to one service: its nodes' URLs, the token, the organization (None: the
    token's), and how long to keep trying.

    ``on_trouble`` is called with the error of each failed attempt that is repeated.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        token: str | None,
        *,
        patience: float,
        organization: str | None = None,
        chance: Callable[[], float] = random.random,
        pause: Callable[[float], Any] = asyncio.sleep,
        on_trouble: Callable[[errors.BoxschedError], None] | None = None,
    ) -> None:
        given = (urls,) if isinstance(urls, str) else tuple(urls)
        self._urls = tuple([address(url) for url in given])
        if not self._urls:
            raise errors.Invalid("the address of the service is missing")
        self._at = 0
        self.patience = patience
        self._token = token
        self._organization = organization
        self._chance = chance
        self._pause = pause
        self.on_trouble = on_trouble
        self._session: aiohttp.ClientSession | None = None
        self.skew = 0.0  # seconds by which the service's clock is ahead of this machine's

    @property
    def url(self) -> URL:
        """The URL of the node for the next request."""
        return self._urls[self._at]

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._organization is not None:
            headers[ORGANIZATION] = self._organization
        silence = SILENCE_OF_A_NODE_SECONDS if len(self._urls) > 1 else None
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                CALL_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence
            ),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        where: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
    ) -> tuple[int, bytes]:
        """Send a request; return (status, body). It is repeated if it fails, except for a POST
        without ``key``, unless ``repeat`` says that repeating does no harm.
        """
        may_repeat = repeat or method != "POST" or key is not None
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else msgspec.json.encode(body)
        patience = self.trying()
        while True:
            try:
                async with self.open(method, where, data=data, query=query, headers=headers) as got:
                    return got.status, await got.read()
            except (aiohttp.ClientError, TimeoutError) as broken:
                error: errors.BoxschedError = self.unreachable(broken)
                if not (may_repeat or _never_sent(broken)):
                    raise error from None
            except (errors.StoreAway, errors.TooMany) as busy:
                if not may_repeat:
                    raise
                error = busy
            await self.retry(patience, error)

    def open(
        self,
        method: str,
        where: str,
        *,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> "HttpAnswer":
        """Return one attempt for ``async with``, which raises the refusal of the service."""
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with Client(...)`")
        target = URL(str(self.url) + where, encoded=True)
        if query:
            target = target.with_query(query)
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return HttpAnswer(
            self._session.request(
                method, target, data=data, headers=headers, allow_redirects=False, **extra
            ),
            self.url,
            self._learn_clock,
        )

    async def web_socket(
        self, where: str, max_message: int, heartbeat: float
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket; one attempt. Raises aiohttp's errors.

        ``heartbeat``: seconds without a byte, after which the service must show that it is there.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with Client(...)`")
        return await self._session.ws_connect(
            URL(str(self.url) + where, encoded=True),
            max_msg_size=max_message,
            heartbeat=heartbeat,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
        )

    def _learn_clock(self, headers: Mapping[str, str]) -> None:
        """Update ``skew``. A Date header has whole seconds, so small differences are ignored."""
        with contextlib.suppress(KeyError, ValueError):
            skew = parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
            self.skew = skew if abs(skew) > TRUSTED_SKEW_SECONDS else 0.0

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    def trying(self) -> "Patience":
        return Patience(self.patience, self._chance, nodes=len(self._urls))

    async def retry(self, patience: "Patience", error: errors.BoxschedError) -> None:
        """Wait before the next attempt, on the next node; or raise ``error`` if time is over."""
        seconds = patience.next_pause(error)
        if not isinstance(error, errors.TooMany):
            self._at = (self._at + 1) % len(self._urls)
        if seconds is None:
            raise patience.verdict
        if self.on_trouble is not None:
            self.on_trouble(error)
        if seconds > 0:
            await self._pause(seconds)

    def unreachable(self, broken: Exception) -> Unreachable:
        why = why_not(broken, self.url)
        message = f"cannot reach the service at {self.url}: {why}"
        return Unreachable(message, absent=why == NOTHING_LISTENS)


class HttpAnswer:
    """An answer to a request. Entering it raises an error for a status of 300 or more."""

    def __init__(
        self, request: Any, url: URL, on_headers: Callable[[Mapping[str, str]], None]
    ) -> None:
        self._request = request
        self._url = url  # the service's URL
        self._on_headers = on_headers

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._request.__aenter__()
        self._on_headers(response.headers)
        if response.status < 300:
            return response
        try:
            body = await response.content.read(MAX_REFUSAL_BYTES)
        finally:
            response.release()
        raise refusal(response.status, body, response.headers, self._url)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._request.__aexit__(kind, error, trace)


def pauses() -> Backoff:
    """Return the pauses between attempts of a request and between connections without data."""
    return Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)


class Patience:
    """The pauses between attempts: doubled each time, partly random, until the time is over.

    There is no pause between two nodes: a pause follows a round in which no node could serve.
    """

    def __init__(
        self,
        seconds: float,
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        *,
        nodes: int = 1,
    ) -> None:
        self._clock = clock
        self._deadline = clock() + seconds
        self._backoff = pauses()
        self._chance = chance
        self._nodes = nodes
        self._round: list[errors.BoxschedError] = []

    def next_pause(self, error: errors.BoxschedError) -> float | None:
        """Return the seconds to wait before the next attempt; None: give up."""
        if len(self._round) == self._nodes:
            self._round = []
        self._round.append(error)
        if len(self._round) < self._nodes:
            return 0.0
        asked = float(error.retry_after) if isinstance(error, errors.TooMany) else 0.0
        pause = max(asked, self._backoff.next() * (0.5 + self._chance()))
        return pause if self._clock() + pause <= self._deadline else None

    @property
    def verdict(self) -> errors.BoxschedError:
        """Return the error of the last round: of the only node, or of all nodes in one message."""
        last = self._round[-1]
        if len(self._round) == 1 or isinstance(last, errors.TooMany):
            return last
        absent = all(isinstance(one, Unreachable) and one.absent for one in self._round)
        said = "; ".join(dict.fromkeys(one.message for one in self._round))
        return Unreachable(f"no node can serve: {said}", absent=absent)


def address(text: str) -> URL:
    """Parse the URL of a service. Raises Invalid."""
    try:
        url = URL(text.rstrip("/"))
    except ValueError:  # an invalid port or host
        url = URL()
    if url.scheme not in ("http", "https") or not _is_host(url.host):
        raise errors.Invalid(f"{text!r} is not the address of a service; try http://HOST:PORT")
    return url


def _never_sent(broken: Exception) -> bool:
    """Whether no connection was made: then nothing was sent, and repeating is safe."""
    return isinstance(broken, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def _is_host(host: str | None) -> bool:
    try:
        return bool((host or "").encode("idna"))
    except UnicodeError:  # an empty or too long label
        return False
