"""Read a job's log as far as it is written, or follow it until the job has ended.

The end of an answer does not mean the end of the log: a proxy, a node that stops or a lost
connection also ends it. So a reader asks again, starting after its last byte, until three things
are true: the job has finished, this was its last attempt, and the log is not longer than what was
read. The service ends each answer after at most 20 s, so a longer silence is a dead connection.
"""

import math
import time
from collections.abc import AsyncIterator, Mapping

import aiohttp
import attrs

from boxsched import errors
from boxsched.client.http import (
    CONNECT_SECONDS,
    ServiceLine,
    path,
    pauses,
)
from boxsched.states import JobState

SILENCE_SECONDS = 45.0
# If an answer ends sooner and without data, the pause before the next request grows.
SETTLED_SECONDS = 5.0
_TIMEOUT = aiohttp.ClientTimeout(
    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
)


@attrs.frozen
class _Head:
    """The headers of an answer: which part of which attempt it contains."""

    finished: bool
    attempt: int
    latest: int
    size: int

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "_Head":
        try:
            return cls(
                headers["Boxsched-Job-State"] == JobState.FINISHED,
                int(headers["Boxsched-Attempt"]),
                int(headers["Boxsched-Latest-Attempt"]),
                int(headers["Boxsched-Log-Size"]),
            )
        except (KeyError, ValueError):
            raise errors.StoreAway(
                "the answer does not contain the length of the log: the node has an older version, "
                "or a proxy removes the headers Boxsched-*"
            ) from None


class _Reading:
    """A reader's position in a job's log."""

    def __init__(self, line: ServiceLine, job: str, *, follow: bool) -> None:
        self._line = line
        self._job = job
        self._follow = follow
        self._patience = line.trying()
        self.attempt: int | None = None  # None: the latest attempt is not known yet
        self.offset = 0
        self.head: _Head | None = None
        self.gone = False  # whether the attempt gave way to the one before (a restored ghost)
        self._left: dict[int, int] = {}  # how far other attempts were read

    def turn_to(self, attempt: int) -> bytes:
        """Continue with another attempt, where it was left; return the line between both."""
        before, self.gone = self.attempt or 0, False
        self._left[before] = self.offset
        self.attempt, self.offset = attempt, self._left.get(attempt, 0)
        return f"\n--- attempt {attempt} ---\n".encode() if before > 0 else b""

    @property
    def all_read(self) -> bool:
        """Whether the whole log of the attempt was read, according to the last answer."""
        return self.head is not None and self.offset >= self.head.size

    async def part(self) -> AsyncIterator[bytes]:
        """Yield the data of one request, until the answer ends for any reason."""
        query = {"follow": str(int(self._follow)), "offset": str(self.offset)}
        if self.attempt is not None:
            query["attempt"] = str(self.attempt)
        self.head = None
        where = path("jobs", self._job, "log")
        try:
            async with self._line.open("GET", where, query=query, timeout=_TIMEOUT) as response:
                self.head = _Head.read(response.headers)
                self.attempt = self.head.attempt
                self._patience = self._line.trying()
                async for chunk in response.content.iter_any():
                    self.offset += len(chunk)
                    yield chunk
        except (aiohttp.ClientError, TimeoutError) as broken:
            await self._line.retry(self._patience, self._line.unreachable(broken))
        except (errors.StoreAway, errors.TooMany) as busy:
            await self._line.retry(self._patience, busy)
        except errors.NotFound as missing:
            if not self._follow or missing.field != "attempt" or (self.attempt or 0) < 2:
                raise
            self.gone = True


async def read_log(line: ServiceLine, job: str, attempt: int | None = None) -> bytes:
    """Return the whole log of an attempt, as far as it is written; None: of the latest."""
    reading = _Reading(line, job, follow=False)
    reading.attempt = attempt
    parts: list[bytes] = []
    backoff = pauses()
    while True:
        before = reading.offset
        parts += [chunk async for chunk in reading.part()]
        if reading.all_read:
            return b"".join(parts)
        if reading.offset > before:
            backoff.reset()
        await line.pause(backoff.next())


async def follow_log(line: ServiceLine, job: str) -> AsyncIterator[bytes]:
    """Yield a job's log until the job has ended, each byte once, from the latest attempt on."""
    reading = _Reading(line, job, follow=True)
    backoff = pauses()
    while True:
        began, before = time.monotonic(), reading.offset
        async for chunk in reading.part():
            began = -math.inf  # it brought data
            yield chunk
        head = reading.head
        following = None
        if reading.gone:
            following = (reading.attempt or 0) - 1
        elif head is not None and reading.all_read and head.latest > head.attempt:
            following = head.attempt + 1
        if following is not None:
            if line_between := reading.turn_to(following):
                yield line_between
            continue
        if head is not None and reading.all_read and head.finished:
            return
        if reading.offset > before or time.monotonic() - began > SETTLED_SECONDS:
            backoff.reset()
        else:
            await line.pause(backoff.next())
