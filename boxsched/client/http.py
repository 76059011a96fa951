"""One request to the service: sent, repeated while that is safe, its refusal made an error."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from boxsched import errors
from boxsched.reaching import NOTHING_LISTENS, foreign, why_not

CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
MAX_REFUSAL_BYTES = 65_536
FOREIGN = "foreign"  # the code of a refusal that is not boxsched's own

_BY_CODE: Mapping[str, type[errors.BoxschedError]] = {
    error.code: error
    for error in (
        errors.Malformed,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.Conflict,
        errors.TooLarge,
        errors.Invalid,
        errors.StoreAway,
        errors.OutcomeUnknown,
        errors.Fenced,
    )
}
_BY_STATUS = {
    error.status: error for error in _BY_CODE.values() if error.status != errors.StoreAway.status
}


class Unreachable(errors.BoxschedError):
    """The service does not answer: start it where ``absent`` (nothing listens), else see why."""

    code, status = "unreachable", 503

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


class _Refusal(msgspec.Struct):
    code: str
    message: str
    field: str | None = None


class _Refused(msgspec.Struct):
    error: _Refusal


def refusal(status: int, body: bytes, headers: Mapping[str, str], url: URL) -> errors.BoxschedError:
    """The error that an answer of 300 or more means; its code wins over its status."""
    try:
        said = msgspec.json.decode(body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Refusal(FOREIGN, foreign(status, url, headers.get("Location")))
    if status == errors.TooMany.status:
        after = headers.get("Retry-After", "")
        seconds = int(after) if after.isdecimal() and len(after) < 10 else 1
        return errors.TooMany(said.message, seconds)
    kind = _BY_CODE.get(said.code) or _BY_STATUS.get(status)
    if kind is not None:
        error = kind(said.message, said.field)
    else:
        error = errors.StoreAway(said.message) if status >= 500 else errors.Invalid(said.message)
    error.code = said.code or error.code
    return error


def path(*segments: str) -> str:
    """A path below ``/api/v1`` of names that may hold anything."""
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


class Line:
    """The connection to one service: its address, the token, and how long to keep trying."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        patience: float,
        chance: Callable[[], float] = random.random,
        pause: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self.url = URL(url.rstrip("/"))
        if self.url.scheme not in ("http", "https") or not _is_host(self.url.host):
            raise errors.Invalid(f"not an address of a service: {url!r}; try http://HOST:PORT")
        self.patience = patience
        self._token = token
        self._chance = chance
        self._pause = pause
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(CALL_SECONDS, sock_connect=CONNECT_SECONDS),
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
    ) -> tuple[int, bytes]:
        """(status, body) of a request that may be repeated: all do but a POST without ``key``."""
        may_repeat = method != "POST" or key is not None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else msgspec.json.encode(body)
        patience = Patience(self.patience, self._chance)
        while True:
            try:
                async with self.open(method, where, data=data, query=query, headers=headers) as got:
                    return got.status, await got.read()
            except (aiohttp.ClientError, TimeoutError) as broken:
                error: errors.BoxschedError = self.unreachable(broken)
            except (errors.StoreAway, errors.TooMany) as busy:
                error = busy
            wait = patience.next_pause(error)
            if wait is None or not may_repeat:
                raise error
            await self._pause(wait)

    def open(
        self,
        method: str,
        where: str,
        *,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> "Answer":
        """One attempt, to be entered with ``async with``; raises the refusal of the service."""
        if self._session is None:
            raise RuntimeError("the client is not open: use it as `async with Client(...)`")
        target = URL(str(self.url) + where, encoded=True)
        if query:
            target = target.with_query(query)
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        return Answer(
            self._session.request(
                method, target, data=data, headers=headers, allow_redirects=False, **extra
            ),
            self.url,
        )

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    def trying(self) -> "Patience":
        return Patience(self.patience, self._chance)

    def unreachable(self, broken: Exception) -> Unreachable:
        why = why_not(broken, self.url)
        message = f"cannot reach the service at {self.url}: {why}"
        return Unreachable(message, absent=why == NOTHING_LISTENS)


class Answer:
    """An answer under way; entering it raises the refusal of an answer of 300 or more."""

    def __init__(self, request: Any, url: URL) -> None:
        self._request = request
        self._url = url  # of the service

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._request.__aenter__()
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


class Patience:
    """How long the next pause is: doubling, with chance in it, until the time is used up."""

    def __init__(
        self,
        seconds: float,
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._deadline = clock() + seconds
        self._pause = FIRST_PAUSE_SECONDS
        self._chance = chance

    def next_pause(self, error: errors.BoxschedError) -> float | None:
        """Seconds to wait before the next attempt; None = it is time to give up."""
        asked = float(error.retry_after) if isinstance(error, errors.TooMany) else 0.0
        pause = max(asked, self._pause * (0.5 + self._chance()))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return pause if self._clock() + pause <= self._deadline else None


def _is_host(host: str | None) -> bool:
    try:
        return bool((host or "").encode("idna"))
    except UnicodeError:  # a label that is empty or too long
        return False
