"""A job's output: as far as it goes, or followed until the job has ended."""

import asyncio
import codecs

from aiohttp import web

from boxsched.api import replies
from boxsched.api.streams import Cut, Stream
from boxsched.errors import Invalid, NotFound, StoreAway
from boxsched.model import JobId, parse_job
from boxsched.node import Node
from boxsched.states import JobState

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.25
_FOLLOW = {None: False, "": False, "0": False, "false": False, "1": True, "true": True}


class Logs:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Text; with ``?follow=1`` the answer goes on until the job ends."""
        follow = _FOLLOW.get(request.query.get("follow"))
        if follow is None:
            raise Invalid("1 or 0 is asked for", "follow")
        id_ = parse_job(request.match_info["job"])
        if id_ is None:
            raise NotFound("there is no such job")
        state, attempt = await self._job(id_)
        tail = Tail(self._node, id_, attempt)
        first = await tail.read()
        stream = Stream(request, replies.text_stream())
        try:
            await stream.open()
            await self._send(stream, tail, first, state, follow)
        except Cut:
            pass
        except StoreAway:
            stream.cut()
        return stream.response

    async def _send(
        self, stream: Stream, tail: "Tail", text: bytes, state: JobState, follow: bool
    ) -> None:
        while True:
            while text:
                await stream.write(text)
                text = await tail.read()
            # ``state`` was looked up before this reading: if it had ended, this was all of its log.
            if not follow or state is JobState.FINISHED:
                break
            if self._node.stopping:
                stream.cut()
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
        """Its state and attempt."""
        found = await self._node.store.job_state(id_)
        if found is None:
            raise NotFound("there is no such job")
        return found


class Tail:
    """Reads on in the log of a job's latest attempt, as text in UTF-8 whatever its bytes are."""

    def __init__(self, node: Node, job: JobId, attempt: int) -> None:
        self.job = job
        self._store = node.store
        self._attempt = attempt
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def read(self) -> bytes:
        """What is new; empty where there is nothing new now."""
        while chunk := await self._store.log(self.job, self._attempt, self._offset, CHUNK_BYTES):
            self._offset += len(chunk)
            text = self._decoder.decode(chunk)
            if text:  # else only the beginning of a character has come
                return text.encode()
        return b""

    def turn_to(self, attempt: int) -> bytes:
        """Go on with the job's latest attempt, behind a line that says so."""
        if attempt == self._attempt:
            return b""
        last, before = self.end(), self._attempt
        self._attempt, self._offset = attempt, 0
        return last if before == 0 else last + f"\n--- attempt {attempt} ---\n".encode()

    def end(self) -> bytes:
        """What is left of a character that was never finished."""
        return self._decoder.decode(b"", final=True).encode()
