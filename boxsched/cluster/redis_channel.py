"""The pub/sub channel for wake-ups and committed batches."""

from redis.exceptions import ResponseError

from boxsched.cluster.breaker import PULSE_SECONDS
from boxsched.cluster.bus import Counts, Listener
from boxsched.cluster.redis_connection import RedisConnection, Reply, raise_first
from boxsched.cluster.redis_messages import KeyNames, read_news


class Channel:
    """Pass on the messages of other nodes to the listener; skip this node's own."""

    def __init__(
        self, line: RedisConnection, names: KeyNames, node: str, listener: Listener, counts: Counts
    ) -> None:
        self._line = line
        self._names = names
        self._node = node
        self._listener = listener
        self._counts = counts

    async def begin(self) -> None:
        """Connect and subscribe."""
        await self._line.open()
        raise_first(await self._line.ask(("SUBSCRIBE", self._names.channel)))

    async def run(self) -> None:
        self._listener.missed()  # earlier messages are not kept anywhere
        while True:
            self._take(await self._line.news(PULSE_SECONDS))

    def _take(self, news: Reply) -> None:
        match news:
            case [b"message", _, data]:
                self._hear(data)
            case ResponseError():
                raise news
            case _:
                pass  # the answer to a PING

    def _hear(self, data: object) -> None:
        news = read_news(data)
        if news is None:
            self._counts.refused += 1
        elif news.node != self._node:
            self._counts.heard += 1
            for shard in news.woken:
                self._listener.woken(shard)
            for shard, batch in news.committed.items():
                self._listener.heard(shard, batch)
