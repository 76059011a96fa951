"""The buffer of unsent messages, and the task that sends all of them in one round trip."""

import asyncio
from collections.abc import Collection

from redis.exceptions import ResponseError

from boxsched.cluster.breaker import PULSE_SECONDS
from boxsched.cluster.bus import Counts
from boxsched.cluster.redis_connection import RedisConnection, is_foreign
from boxsched.cluster.redis_messages import (
    MESSAGE_SHARDS,
    NODE_LENGTH,
    Command,
    KeyNames,
    hinting,
    news,
)
from boxsched.model import WorkerId

WAITING_WORKERS = 20_000


class SendBuffer:
    """A bounded buffer. Repeated messages are sent once; of a shard's batches only the newest.

    Messages that do not fit are dropped and counted.
    """

    def __init__(self, names: KeyNames, node: str, counts: Counts) -> None:
        self._names = names
        self._node = node
        self._counts = counts
        self._woken: set[int] = set()
        self._committed: dict[int, int] = {}  # a shard's newest batch
        self._workers: dict[str, set[WorkerId]] = {}
        self._hinted = 0
        self._some = asyncio.Event()

    def wake(self, shard: int) -> None:
        if shard in self._woken or len(self._woken) < MESSAGE_SHARDS:
            self._woken.add(shard)
            self._some.set()
        else:
            self._counts.dropped += 1

    def publish(self, shard: int, batch: int) -> None:
        if shard in self._committed or len(self._committed) < MESSAGE_SHARDS:
            self._committed[shard] = batch
            self._some.set()
        else:
            self._counts.dropped += 1

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        if self._hinted + len(workers) <= WAITING_WORKERS and 1 <= len(node) <= NODE_LENGTH:
            waiting = self._workers.setdefault(node, set())
            before = len(waiting)
            waiting.update(workers)
            self._hinted += len(waiting) - before
            self._some.set()
        else:
            self._counts.dropped += len(workers)

    def clear(self) -> None:
        self._counts.dropped += len(self._woken) + len(self._committed) + self._hinted
        self._woken.clear()
        self._committed.clear()
        self._workers.clear()
        self._hinted = 0
        self._some.clear()

    async def some(self, seconds: float) -> bool:
        """Wait until the buffer holds something; return False if it is still empty after
        ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._some.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Command]:
        """Empty the buffer into the commands of one round trip: hints first, since they start
        jobs."""
        commands = [
            command
            for node, workers in self._workers.items()
            for command in hinting(self._names, node, workers)
        ]
        self._workers.clear()
        self._hinted = 0
        if self._woken or self._committed:
            said = news(self._node, self._woken, self._committed)
            commands.append(("PUBLISH", self._names.channel, said))
            self._woken.clear()
            self._committed.clear()
        self._some.clear()
        return commands


class RedisSender:
    """Sends the buffer, or a PING if it is empty, so that a frozen server is noticed."""

    def __init__(self, line: RedisConnection, outgoing: SendBuffer, counts: Counts) -> None:
        self._line = line
        self._outgoing = outgoing
        self._counts = counts

    async def begin(self) -> None:
        await self._line.open()
        await self._trip([("PING",)])

    async def run(self) -> None:
        while True:
            if await self._outgoing.some(PULSE_SECONDS):
                await self._trip(self._outgoing.take())
            else:
                await self._trip([("PING",)])

    async def _trip(self, commands: list[Command]) -> None:
        replies = await self._line.ask(*commands)
        self._counts.sent += len(commands)
        for command, reply in zip(commands, replies, strict=True):
            if not isinstance(reply, ResponseError):
                continue
            if not is_foreign(reply):
                raise reply
            # The key's owner creates it again, and then looks everything up.
            self._counts.refused += 1
            await self._line.ask(("UNLINK", command[1]))
