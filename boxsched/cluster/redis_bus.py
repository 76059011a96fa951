"""The bus over Redis, or any server of its protocol from 6.2 on.

Theory of operation
===================

*What goes where.* Wake-ups and committed batches go over one pub/sub channel, ``{prefix}:news``; a
message names its sender, who skips it, the shards that are woken, and those that got further, each
with its newest batch, never the events. Hints for workers go into streams, one a node,
``{prefix}:hints:{node}``, read by that node alone with a consumer group; an entry names workers,
never jobs. ``{prefix}:streams`` is the set of the nodes that have a stream. Nothing else is stored,
and every key expires an hour after its last use. No scripts, no transactions, one key a command.

*Sender.* A send notes in memory, within bounds, what is to be said, and returns. One task says all
that gathered in one round trip, and at once when idle. A shard woken twice in between is woken
once; of a shard's batches in between only the newest is named.

*Reading a stream.* Read, ``look``, then acknowledge and delete: a stream holds only what is not
done. Where ``look`` raises StoreAway the entries stay pending and are read again. Every half of the
visibility timeout each node looks through the other streams for entries that were read and not
acknowledged for that long, does them itself, and hints the workers' present nodes, before it
acknowledges them. An entry may so be done twice, which is harmless, and is never lost with a node.

*Lives.* The bus works in lives. A life begins with connections of its own, a subscription, a group
and the reading of what is pending; then four tasks work side by side, each the only user of its
connection. Whatever one of them meets, be it an answer that does not come within 250 ms or an error
that nobody thought of, ends the life: the tasks end, the connections close, what waits is dropped,
and the breaker is open. There is no repair within a life and no second attempt at a command, so
there is no half-dead state to think about. While the breaker is open sends cost nothing and go
nowhere, and another life is tried every half a second; when it has begun, the breaker closes, and
``missed`` has the node look at everything, for pub/sub does not keep what it could not deliver.

::

          trouble: tasks end, what waits is dropped
       .-----------------------------------.
       |                                   v
    closed (up)                       open (not up)  --. a probe fails:
       ^                                   |        <--'  again in 0.5 s
       '-----------------------------------'
          connected, subscribed, group there: missed()

*A frozen server* keeps its connections and says nothing. Each connection is therefore used at least
every half a second (PING, or the end of a blocking read), and each use has its deadline; so the
breaker is open within a second. Deadlines count only time in which the loop ran.

=================================  =================================================================
what goes                          what follows
=================================  =================================================================
the server, or the way to it       the breaker opens; nodes poll; ``missed`` when it is back
its data (kill -9, FLUSHALL)       the next read finds no group: made anew at once, then ``missed``
a stream, a group                  the same
a node, between read and ack       another node does its entries after the visibility timeout
a node for good                    its stream expires
memory of the server, its master   writes are refused: as if it were away
a name server                      asked in a thread of its own, one question at a time
=================================  =================================================================

*Trust.* A program that can write to the server can stop hints, or make nodes read the store in
vain, and no more: no message names a job, or says anything that is believed. Content is bounded in
size and decoded strictly; what is not ours is counted, acknowledged and dropped, and a key of ours
that holds something else is removed.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine

from boxsched.cluster.breaker import Breaker
from boxsched.cluster.bus import Counts, Listener
from boxsched.cluster.redis_channel import Channel
from boxsched.cluster.redis_connection import TROUBLE, NameCheck, RedisConnection
from boxsched.cluster.redis_messages import KeyNames
from boxsched.cluster.redis_sender import Outgoing, Sender
from boxsched.cluster.redis_streams import VISIBILITY_SECONDS, Claims, OwnStream
from boxsched.model import WorkerId

OPEN_SECONDS = 1.0  # how long ``open`` waits for the first life

_log = logging.getLogger(__name__)


class RedisBus:
    """Implements ``boxsched.cluster.bus.Bus``; see the module."""

    def __init__(
        self, url: str, *, prefix: str, node: str, visibility: float = VISIBILITY_SECONDS
    ) -> None:
        """Raises ValueError for a URL that cannot be one of a Redis."""
        self.counts = Counts()
        self._names = KeyNames(prefix)
        self._node = node
        self._visibility = visibility
        self._lines = [RedisConnection(url) for _ in range(4)]
        self._name_check = NameCheck(self._lines[0].host)
        self._breaker = Breaker()
        self._outgoing = Outgoing(self._names, node, self.counts)
        self._task: asyncio.Task[None] | None = None

    async def open(self, listener: Listener) -> None:
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(listener, tried), name="bus")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await tried.wait()
        except TimeoutError:
            pass  # it goes on trying

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def up(self) -> bool:
        return not self._breaker.is_open

    @property
    def trips(self) -> int:
        """How often the breaker opened."""
        return self._breaker.trips

    def wake(self, shard: int) -> None:
        if self._breaker.is_open:
            self.counts.dropped += 1
        else:
            self._outgoing.wake(shard)

    def publish(self, shard: int, batch: int) -> None:
        if self._breaker.is_open:
            self.counts.dropped += 1
        else:
            self._outgoing.publish(shard, batch)

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        if self._breaker.is_open:
            self.counts.dropped += len(workers)
        else:
            self._outgoing.hint(node, workers)

    async def _run(self, listener: Listener, tried: asyncio.Event) -> None:
        parts = (self._names, self._node, listener, self.counts)
        sending = Sender(self._lines[0], self._outgoing, self.counts)
        channel = Channel(self._lines[1], *parts)
        stream = OwnStream(self._lines[2], *parts)
        claims = Claims(self._lines[3], *parts, visibility=self._visibility)
        try:
            while True:
                failed = await self._until_one_ends(self._begin(sending, channel, stream))
                if failed is None:
                    self._breaker.mend()
                    tried.set()
                    await self._until_one_ends(
                        sending.run(), channel.run(), stream.run(), claims.run()
                    )
                await self._hang_up()
                tried.set()
                await asyncio.sleep(self._breaker.pause())
        finally:
            self._breaker.rest()
            await self._hang_up()

    async def _begin(self, sending: Sender, channel: Channel, stream: OwnStream) -> None:
        await self._name_check.passed()
        await sending.begin()
        await channel.begin()
        await stream.begin()

    async def _until_one_ends(self, *parts: Coroutine[None, None, None]) -> BaseException | None:
        """Runs them side by side; says why the first ended, whatever it was, and ends the others.

        A part that was cancelled by something it called has failed like any other.
        """
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failures = [failure for failure in map(_failure, ended) if failure is not None]
            if failures:
                self._trip(failures[0])  # at once: the others may take a while to end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                _failure(task)
        return failures[0] if failures else None

    def _trip(self, failure: BaseException | None) -> None:
        if not isinstance(failure, TROUBLE) and not self._breaker.is_open:
            _log.error("the bus failed by a mistake of ours", exc_info=failure)
        self._breaker.trip(str(failure) or type(failure).__name__)
        self._outgoing.clear()

    async def _hang_up(self) -> None:
        for line in self._lines:
            await line.close()


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError("cancelled") if task.cancelled() else task.exception()
