"""Messages that wait to be sent to one worker."""

import asyncio
from collections.abc import Sequence

from boxsched.gateway.levels import level_text
from boxsched.gateway.worker_line import WorkerLine
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.wire import Ack, encode

MAX_UNSENT_ACKS = 256


class WorkerSender:
    """The newest level and the Acks: a level that was not sent yet is replaced by a newer one."""

    def __init__(self, line: WorkerLine) -> None:
        self._line = line
        self._texts: list[bytes] = []
        self._acks: list[Ack] = []
        self._level: Sequence[Assignment] | None = None
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def text(self, text: bytes) -> None:
        """Queue a message that is sent once in a connection: Welcome or Leave."""
        self._texts.append(text)
        self._filled.set()

    def ack(self, ack: Ack) -> None:
        self._acks.append(ack)
        if len(self._acks) >= MAX_UNSENT_ACKS:
            self._room.clear()
        self._filled.set()

    def level(self, assignments: Sequence[Assignment]) -> None:
        self._level = assignments
        self._filled.set()

    async def room(self) -> None:
        """Wait until there is room for another Ack. Read nothing more until then."""
        await self._room.wait()

    async def run(self) -> None:
        """Send queued messages. Raises Slow, or ConnectionError if the worker has disconnected."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self._line.send(self._take())
            self._room.set()

    def _take(self) -> list[bytes]:
        texts, self._texts = self._texts, []
        texts.extend(map(encode, self._acks))
        self._acks.clear()
        if self._level is not None:
            texts.append(level_text(self._level))
            self._level = None
        return texts
