"""The bus over Redis, or any server of its protocol from 6.2 on.

Theory of operation
===================

*Channels.* Wake-ups and committed batches go over one pub/sub channel, ``{prefix}:news``; a message
names its sender (which skips its own messages), the shards to wake, and the newest batch of each
shard that committed; it never carries events. Hints for workers go into streams, one for each node,
``{prefix}:hints:{node}``, read only by that node with a consumer group; an entry names workers,
never jobs. ``{prefix}:streams`` is the set of the nodes that have a stream. Nothing else is stored,
and every key expires an hour after its last use. No scripts, no transactions, one key per command.

*Sender.* A send adds to a bounded buffer in memory and returns. One task sends the whole buffer in
one round trip, and at once when it is idle. A shard that is woken twice between two round trips is
sent once; of several batches of one shard only the newest is sent.

*Reading a stream.* Read, ``look``, then acknowledge and delete: a stream holds only
unfinished entries. If ``look`` raises StoreAway, the entries stay pending and are read again.
Twice in each visibility timeout a node searches the other streams for entries that were read but
not acknowledged for that long. It looks these workers up, sends hints to the nodes that they are
connected to now, and then acknowledges the entries. So an entry may be processed twice, which is
harmless, and is never lost with a node.

*Sessions.* The bus works in sessions. A session begins with new connections, a subscription, a
consumer group and the reading of pending entries. Then four tasks run concurrently, each the only
user of its connection. Any failure in one of them (no answer within 250 ms, or an unexpected error)
ends the session: the tasks end, the connections close, the buffer is dropped, and the breaker
opens. Nothing is repaired within a session and no command is sent twice, so there is no
half-working state. While the breaker is open, sends are dropped, and a new session is tried every
0.5 s. When it has begun, the breaker closes, and ``missed`` makes the node check everything,
because pub/sub does not keep messages that it could not deliver.

::

          trouble: tasks end, the buffer is dropped
       .-----------------------------------.
       |                                   v
    closed (up)                       open (not up)  --. a probe fails:
       ^                                   |        <--'  again in 0.5 s
       '-----------------------------------'
          connected, subscribed, group there: missed()

*A frozen server* keeps its connections and sends nothing. So each connection is used at least every
0.5 s (PING, or the end of a blocking read), and each use has a deadline. Then the breaker is open
within a second. Deadlines count only time in which the event loop ran.

=================================  =================================================================
what fails                         what follows
=================================  =================================================================
the server, or the network         the breaker opens; nodes poll; ``missed`` when it is back
its data (kill -9, FLUSHALL)       the next read finds no group: created again, then ``missed``
a stream, a group                  the same
a node, between read and ack       another node processes its entries after VISIBILITY_SECONDS
a node, permanently                its stream expires
memory of the server, its master   writes are refused: treated like an outage
a name server                      it is used in a separate thread, one query at a time
=================================  =================================================================

*Trust.* A program that can write to the server can only stop hints or make nodes read the store
unnecessarily: no message names a job, and nodes act only on the store's content. Content is bounded
in size and decoded strictly. Foreign entries are counted, acknowledged and dropped; a key of ours
with another type of value is removed.
"""

import asyncio
import logging
from collections.abc import Collection, Coroutine

from boxsched.cluster.breaker import Breaker
from boxsched.cluster.bus import Counts, Listener
from boxsched.cluster.redis_channel import Channel
from boxsched.cluster.redis_connection import TROUBLE, NameCheck, RedisConnection
from boxsched.cluster.redis_messages import KeyNames
from boxsched.cluster.redis_sender import RedisSender, SendBuffer
from boxsched.cluster.redis_streams import VISIBILITY_SECONDS, Claims, OwnStream
from boxsched.model import WorkerId

OPEN_SECONDS = 1.0  # ``open`` waits at most this long for the first session

_log = logging.getLogger(__name__)


class RedisBus:
    """Implements ``boxsched.cluster.bus.Bus``; see the module."""

    def __init__(
        self, url: str, *, prefix: str, node: str, visibility: float = VISIBILITY_SECONDS
    ) -> None:
        """Raise ValueError if the URL is not valid for a Redis server."""
        self.counts = Counts()
        self._names = KeyNames(prefix)
        self._node = node
        self._visibility = visibility
        self._lines = [RedisConnection(url) for _ in range(4)]
        self._name_check = NameCheck(self._lines[0].host)
        self._breaker = Breaker()
        self._outgoing = SendBuffer(self._names, node, self.counts)
        self._task: asyncio.Task[None] | None = None

    async def open(self, listener: Listener) -> None:
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(listener, tried), name="bus")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await tried.wait()
        except TimeoutError:
            pass  # the task keeps trying

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
        sending = RedisSender(self._lines[0], self._outgoing, self.counts)
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

    async def _begin(self, sending: RedisSender, channel: Channel, stream: OwnStream) -> None:
        await self._name_check.passed()
        await sending.begin()
        await channel.begin()
        await stream.begin()

    async def _until_one_ends(self, *parts: Coroutine[None, None, None]) -> BaseException | None:
        """Run the parts concurrently until one ends; cancel the others. Return why it ended, or
        None if it returned.

        A part that was cancelled from within has failed like any other.
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
            _log.error("the bus failed unexpectedly", exc_info=failure)
        self._breaker.trip(str(failure) or type(failure).__name__)
        self._outgoing.clear()

    async def _hang_up(self) -> None:
        for line in self._lines:
            await line.close()


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError("cancelled") if task.cancelled() else task.exception()
