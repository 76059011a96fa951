"""Return a job's output as far as it is written, or follow it until the job has ended.

There are two formats. Without ``attempt`` and ``offset`` the answer is text for users: valid UTF-8,
and with ``?follow=1`` it continues through all later attempts until the job has ended.

With one of them the answer is a part for programs: the unchanged bytes of one attempt, from
``offset`` on. A followed part ends with its attempt, or after PART_SECONDS, so that a client can
recognize a broken connection. The end of an answer never means the end of the log. The headers
describe the part. A reader has the whole log when three things are true: the job has finished, no
later attempt exists, and ``Boxsched-Log-Size`` is reached. Otherwise it requests the next part.
"""

import asyncio
import codecs

import attrs
from aiohttp import web
from multidict import MultiMapping

from boxsched.api.http import replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.parameters import yes_or_no
from boxsched.api.http.streams import Cut, Stream
from boxsched.api.resources.log_stamps import LineStamps
from boxsched.errors import Invalid, NotFound, StoreAway
from boxsched.model import JobId, job_text, parse_job
from boxsched.node.node import Node
from boxsched.states import JobState

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.25
PART_SECONDS = (
    20.0  # the longest duration of a followed part; clients give up after 45 s without data
)
STATE_HEADER = "Boxsched-Job-State"
ATTEMPT_HEADER = "Boxsched-Attempt"  # the attempt of this output
LATEST_HEADER = "Boxsched-Latest-Attempt"
OFFSET_HEADER = "Boxsched-Log-Offset"  # the offset of the answer's first byte
# the size of the attempt's output when the answer began, in bytes
SIZE_HEADER = "Boxsched-Log-Size"
MAX_NUMBER_DIGITS = 15


@attrs.frozen
class Part:
    """The part that a program requests. ``attempt`` None: the latest."""

    attempt: int | None
    offset: int

    @classmethod
    def asked(cls, query: MultiMapping[str]) -> "Part | None":
        """Return the requested part; None if the query asks for text."""
        attempt, offset = query.get("attempt"), query.get("offset")
        if attempt is None and offset is None:
            return None
        return cls(
            None if attempt is None else _number(attempt, "attempt"),
            0 if offset is None else _number(offset, "offset"),
        )


class LogRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Answer with text, or with ``attempt`` or ``offset`` with a part (see the module)."""
        follow = yes_or_no(request.query, "follow")
        part = Part.asked(request.query)
        stamped = yes_or_no(request.query, "timestamps")
        if stamped and part is not None:
            raise Invalid("cannot be combined with attempt and offset", "timestamps")
        id_ = parse_job(request.match_info["job"])
        if id_ is None:
            raise no_such("job", request.match_info["job"])
        state, attempt = await self._job(id_)
        if follow and self._node.hanging_up:
            raise StoreAway("this node is stopping")
        if part is not None:
            return await self._part(request, id_, part, state, attempt, follow=follow)
        tail = LogTail(self._node, id_, attempt, LineStamps() if stamped else None)
        first = await tail.read()
        stream = Stream(request, replies.text_stream())
        try:
            await stream.open()
            await self._send(stream, tail, first, state, follow)
        except Cut:
            pass
        return stream.response

    async def _part(
        self,
        request: web.Request,
        id_: JobId,
        asked: Part,
        state: JobState,
        latest: int,
        *,
        follow: bool,
    ) -> web.StreamResponse:
        attempt = latest if asked.attempt is None else asked.attempt
        if attempt > latest:
            raise NotFound(f"there is no attempt {attempt}; the latest is {latest}", "attempt")
        size = await self._node.logs.end(id_, attempt)  # after the state: see _send
        response = replies.text_stream()
        response.headers[STATE_HEADER] = state
        response.headers[ATTEMPT_HEADER] = str(attempt)
        response.headers[LATEST_HEADER] = str(latest)
        response.headers[OFFSET_HEADER] = str(asked.offset)
        response.headers[SIZE_HEADER] = str(size)
        if not follow:
            response.content_length = max(0, size - asked.offset)
        # the first piece before the headers: an error can still be answered
        first = await self._read(id_, attempt, asked.offset, size)
        stream = Stream(request, response)
        try:
            await stream.open()
            if first:
                await stream.write(first)
            end = await self._pass_on(stream, id_, attempt, asked.offset + len(first), size)
            if follow and state is not JobState.FINISHED and latest == attempt:
                await self._go_on(stream, id_, attempt, end)
        except Cut:
            pass
        return response

    async def _go_on(self, stream: Stream, id_: JobId, attempt: int, offset: int) -> None:
        """Follow the attempt until it ends, the time is over, or the node stops."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PART_SECONDS
        state, latest = JobState.WAITING, attempt
        while state is not JobState.FINISHED and latest == attempt:
            if loop.time() > until or self._node.hanging_up:
                return
            await asyncio.sleep(POLL_SECONDS)
            if stream.gone:
                raise Cut("the reader is gone")
            state, latest = await self._job(id_)
            offset = await self._pass_on(stream, id_, attempt, offset, None)

    async def _pass_on(
        self, stream: Stream, id_: JobId, attempt: int, offset: int, end: int | None
    ) -> int:
        """Write the output from ``offset`` up to ``end``; return the new offset."""
        while chunk := await self._read(id_, attempt, offset, end):
            await stream.write(chunk)
            offset += len(chunk)
        return offset

    async def _read(self, id_: JobId, attempt: int, offset: int, end: int | None) -> bytes:
        """Return the next piece of the output before ``end``; b"" if there is none."""
        at_most = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - offset)
        return b"" if at_most <= 0 else await self._node.logs.read(id_, attempt, offset, at_most)

    async def _send(
        self, stream: Stream, tail: "LogTail", text: bytes, state: JobState, follow: bool
    ) -> None:
        while True:
            while text:
                await stream.write(text)
                text = await tail.read()
            # ``state`` was read before this output: if the job had ended, the log is complete.
            if not follow or state is JobState.FINISHED:
                break
            if self._node.hanging_up:
                stream.cut()  # so that a reader of plain text knows that there is more
                raise Cut("the node stops")
            await asyncio.sleep(POLL_SECONDS)
            if stream.gone:
                raise Cut("the reader is gone")
            state, attempt = await self._job(tail.job)
            text = tail.turn_to(attempt) + await tail.read()
        last = tail.end()
        if last:
            await stream.write(last)

    async def _job(self, id_: JobId) -> tuple[JobState, int]:
        """Return the job's state and its latest attempt."""
        found = await self._node.store.job_state(id_)
        if found is None:
            raise no_such("job", job_text(id_))
        return found


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise Invalid("must be a number, 0 or greater", field)
    return int(text)


class LogTail:
    """Reads the log of a job's latest attempt step by step, as valid UTF-8.

    ``stamps``: adds the time before each line.
    """

    def __init__(
        self, node: Node, job: JobId, attempt: int, stamps: LineStamps | None = None
    ) -> None:
        self.job = job
        self._stamps = stamps
        self._logs = node.logs
        self._attempt = attempt
        self._offset = 0
        self._left: dict[int, int] = {}  # how far earlier attempts were read
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def read(self) -> bytes:
        """Return new output; b"" if there is none."""
        while chunk := await self._next():
            text = self._decoder.decode(chunk)
            if text:  # otherwise only a part of a character was read
                return text.encode()
        return b""

    async def _next(self) -> bytes:
        place = self.job, self._attempt, self._offset, CHUNK_BYTES
        if self._stamps is None:
            chunk = await self._logs.read(*place)
            self._offset += len(chunk)
            return chunk
        chunks = await self._logs.timed(*place)
        self._offset += sum(len(one.data) for one in chunks)
        return self._stamps.add(chunks)

    def turn_to(self, attempt: int) -> bytes:
        """Continue with another attempt. Return the rest of the old one and a line between both.

        It may be an earlier attempt, if its worker got the job back: then only what follows is new.
        """
        if attempt == self._attempt:
            return b""
        last, before = self.end(), self._attempt
        self._left[before] = self._offset
        self._attempt, self._offset = attempt, self._left.get(attempt, 0)
        if self._stamps is not None:
            self._stamps.begin_line()
        return last if before == 0 else last + f"\n--- attempt {attempt} ---\n".encode()

    def end(self) -> bytes:
        """Return a replacement for an incomplete character at the end."""
        return self._decoder.decode(b"", final=True).encode()
