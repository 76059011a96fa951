"""Read server-sent events; resume after a broken connection."""

import asyncio
import codecs
import math
import re
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import msgspec

from boxsched import errors
from boxsched.client.http import (
    CONNECT_SECONDS,
    Patience,
    ServiceLine,
    path,
    pauses,
)
from boxsched.client.records import Event

# The service sends a comment at least every 15 s, so after this silence the connection is dead.
SILENCE_SECONDS = 60.0
# If a connection ends sooner and without an event, the pause before the next one grows.
SETTLED_SECONDS = 5.0
# Between two requests for a workload, in addition to events, so that a lost event only costs time.
WORKLOAD_LOOK_SECONDS = 10.0
_LOOK_AT = frozenset({"workload.planned", "workload.finished"})
MAX_MESSAGE_CHARACTERS = 4 << 20
_LINE_END = re.compile("\r\n|\n|\r(?!$)")
_STREAMING = aiohttp.ClientTimeout(
    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
)


class EventReader:
    """Parses the bytes of an event stream (WHATWG HTML, "Server-sent events")."""

    def __init__(self) -> None:
        # The id after which the stream begins, if the first message is only an id; None before the
        # first message.
        self.greeting: str | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""
        self._id = ""
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        *lines, self._text = _LINE_END.split(self._text + self._decode(chunk))
        if len(self._text) > MAX_MESSAGE_CHARACTERS:
            raise errors.TooLarge("the service sent an event that is too long")
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._type = value
        elif field == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Event | None:
        data, kind = "\n".join(self._data), self._type
        self._data, self._type = [], ""
        if self.greeting is None:
            self.greeting = self._id if not data else ""
        if not data:
            return None
        try:
            values = msgspec.json.decode(data, type=dict)
        except msgspec.DecodeError as error:
            raise errors.Malformed(f"the service sent an event that is not JSON: {error}") from None
        return Event(id=self._id, type=kind, data=values)


class EventStream:
    """All changes from now on, or after ``after``. It reconnects after a broken connection.

    ``open`` returns when the stream has begun: it contains every change after that, so nothing is
    missed between a later call and the stream. Iterating also opens it. No event is yielded twice.
    ``after`` is the id of the last event; with it the stream can be resumed on any node.
    """

    def __init__(self, line: ServiceLine, after: str | None = None) -> None:
        self._line = line
        self.after = after
        self._response: aiohttp.ClientResponse | None = None
        self._reader = EventReader()
        self._first: list[Event] = []  # events that arrived with the first message

    async def open(self) -> None:
        patience = self._line.trying()
        while self._response is None:
            await self._attempt(patience)

    async def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        patience = self._line.trying()
        backoff = pauses()
        try:
            while True:
                if self._response is None:
                    await self._attempt(patience)
                    continue
                began = time.monotonic()
                async for event in self._events(self._response):
                    self.after = event.id or self.after
                    began = -math.inf  # it brought an event
                    yield event
                await self.close()
                patience = self._line.trying()
                if time.monotonic() - began > SETTLED_SECONDS:
                    backoff.reset()
                await self._line.pause(backoff.next())
        finally:
            await self.close()

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
        first, self._first = self._first, []
        for event in first:
            yield event
        try:
            async for chunk in response.content.iter_any():
                for event in self._reader.feed(chunk):
                    yield event
        except (aiohttp.ClientError, TimeoutError):
            return  # the connection broke; the caller opens it again after the last event

    async def _attempt(self, patience: Patience) -> None:
        headers = {"Accept": "text/event-stream"}
        if self.after is not None:
            headers["Last-Event-ID"] = self.after
        try:
            answer = self._line.open("GET", path("events"), headers=headers, timeout=_STREAMING)
            self._response = await answer.__aenter__()
            await self._greet(self._response.content)
        except (aiohttp.ClientError, TimeoutError) as broken:
            await self.close()
            await self._line.retry(patience, self._line.unreachable(broken))
        except (errors.StoreAway, errors.TooMany) as busy:
            await self._line.retry(patience, busy)

    async def _greet(self, content: aiohttp.StreamReader) -> None:
        """Read the first message. It names the current position, for a reader without an event."""
        self._reader, self._first = EventReader(), []
        while self._reader.greeting is None and (chunk := await content.readany()):
            self._first += self._reader.feed(chunk)
        self.after = self._reader.greeting or self.after


async def signal_changes(line: ServiceLine, workload: str, look: asyncio.Event) -> None:
    """Set ``look`` whenever the workload may have finished, or its jobs may be known. Never
    returns.
    """
    while True:
        stream = EventStream(line)
        try:
            await stream.open()
            look.set()  # it may have happened before the stream was open
            async for event in stream:
                if event.type in _LOOK_AT and event.workload == workload:
                    look.set()
        except errors.BoxschedError:  # the next look raises the error if the service is away
            await line.pause(WORKLOAD_LOOK_SECONDS)
        finally:
            await stream.close()
