"""Streams of hints: a node reads its own stream, and processes entries that other nodes left."""

import asyncio
from collections.abc import Collection

import attrs
from redis.exceptions import ResponseError

from boxsched.cluster.bus import Counts, Listener
from boxsched.cluster.redis_connection import RedisConnection, Reply, is_foreign, raise_first
from boxsched.cluster.redis_messages import (
    GROUP,
    STREAM_SECONDS,
    Command,
    KeyNames,
    entry,
    hinting,
    node_name,
)
from boxsched.errors import StoreAway
from boxsched.model import WorkerId

VISIBILITY_SECONDS = 5.0  # after that, another node processes an unacknowledged entry
# a read waits this long for entries; its end also shows that the server answers
BLOCK_SECONDS = 0.5
RETRY_SECONDS = 0.5  # after the store was away
READ_ENTRIES = 128
KNOWN_STREAMS = 256  # at most in one round; a random choice if there are more
ATTEMPTS = 2  # failed reads, after which a stream is removed
assert STREAM_SECONDS > 2 * VISIBILITY_SECONDS


@attrs.frozen
class Entries:
    """Entries that were read, including foreign ones, which must also be acknowledged."""

    ids: tuple[bytes, ...]
    workers: frozenset[WorkerId]
    refused: int

    @staticmethod
    def of(reply: Reply) -> "Entries":
        """Decode a list of entries; an entry that was trimmed while pending has no fields."""
        ids: list[bytes] = []
        workers: set[WorkerId] = set()
        refused = 0
        for item in reply or ():
            match item:
                case [bytes() as id_, None]:
                    ids.append(id_)
                case [bytes() as id_, fields]:
                    ids.append(id_)
                    found = entry(fields)
                    workers.update(found or ())
                    refused += found is None
        return Entries(tuple(ids), frozenset(workers), refused)

    def done(self, stream: str) -> list[Command]:
        """Commands that acknowledge and delete the entries once they are processed."""
        if not self.ids:
            return []
        return [("XACK", stream, GROUP, *self.ids), ("XDEL", stream, *self.ids)]


def _says(reply: Reply, *codes: str) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith(codes)


class OwnStream:
    """Reads this node's hints, pending ones first: read, look up, then acknowledge."""

    def __init__(
        self, line: RedisConnection, names: KeyNames, node: str, listener: Listener, counts: Counts
    ) -> None:
        self._line = line
        self._names = names
        self._node = node
        self._stream = names.stream(node)
        self._listener = listener
        self._counts = counts
        self._unread = 0  # failed reads of pending entries since the last success

    async def begin(self) -> None:
        await self._line.open()
        if self._unread >= ATTEMPTS:  # perhaps too large to be read in time
            self._counts.refused += 1
            self._unread = 0
            raise_first(await self._line.ask(("UNLINK", self._stream)))
        await self._create()

    async def run(self) -> None:
        done: list[Command] = []  # sent together with the next read
        pending = True
        while True:
            entries = await self._read(done, pending=pending)
            done = []
            if entries is None:  # the stream had to be created again
                self._listener.missed()
                continue
            pending = pending and bool(entries.ids)
            try:
                if entries.workers:
                    await self._listener.look(entries.workers)
            except StoreAway:
                await asyncio.sleep(RETRY_SECONDS)
                pending = True
                continue
            done = entries.done(self._stream)
            self._counts.looked += len(entries.ids)
            self._counts.refused += entries.refused

    async def _read(self, done: list[Command], *, pending: bool) -> Entries | None:
        block = () if pending else ("BLOCK", round(1000 * BLOCK_SECONDS))
        read: Command = (
            "XREADGROUP", "GROUP", GROUP, self._node, "COUNT", READ_ENTRIES, *block,
            "STREAMS", self._stream, "0" if pending else ">",
        )  # fmt: skip
        self._unread += pending
        reply = (await self._line.ask(*done, read, blocking=0 if pending else BLOCK_SECONDS))[-1]
        self._unread = 0
        if is_foreign(reply) or _says(reply, "NOGROUP", "UNBLOCKED"):
            self._counts.recreated += 1
            await self._create()
            return None
        raise_first([reply])
        return Entries.of(reply[0][1] if reply else None)

    async def _create(self) -> None:
        """Create the stream and its group, which begins at the first entry; register the stream."""
        commands: tuple[Command, ...] = (
            ("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM"),
            *known(self._names, self._node),
        )
        replies = await self._line.ask(*commands)
        foreign = [
            command[2] if command[0] == "XGROUP" else command[1]
            for command, reply in zip(commands, replies, strict=True)
            if is_foreign(reply)
        ]
        if foreign:
            self._counts.refused += len(foreign)
            raise_first(await self._line.ask(("UNLINK", *foreign)))
            replies = await self._line.ask(*commands)
        raise_first([reply for reply in replies if not _says(reply, "BUSYGROUP")])


def known(names: KeyNames, node: str) -> list[Command]:
    """Commands that keep a node's stream in the set of streams, and both from expiring."""
    return [
        ("SADD", names.streams, node),
        ("EXPIRE", names.streams, STREAM_SECONDS),
        ("EXPIRE", names.stream(node), STREAM_SECONDS),
    ]


class Claims:
    """Processes entries that other nodes read but did not acknowledge, because they ended or cannot
    reach the store.

    Entries that a dead node never read need no processing: its workers connect to other nodes,
    which look them up at once.
    """

    def __init__(
        self,
        line: RedisConnection,
        names: KeyNames,
        node: str,
        listener: Listener,
        counts: Counts,
        *,
        visibility: float,
    ) -> None:
        self._line = line
        self._names = names
        self._node = node
        self._listener = listener
        self._counts = counts
        self._visibility = visibility
        self._unread: dict[str, int] = {}  # node -> failed reads since the last success

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / 2)
            await self._line.open()  # for this round only: the next may be far away
            await self.claim_once()
            await self._line.close()

    async def claim_once(self) -> int:
        """Process the entries that other nodes left; return their number."""
        *kept, members = await self._line.ask(
            *known(self._names, self._node),
            ("SRANDMEMBER", self._names.streams, KNOWN_STREAMS),
        )
        if is_foreign(members):
            self._counts.refused += 1
            raise_first(await self._line.ask(("UNLINK", self._names.streams)))
            return 0
        raise_first([*kept, members])
        claimed = 0
        for member in members:
            name = node_name(member)
            if name is None:
                self._counts.refused += 1
                await self._forget(member)
            elif name != self._node:
                claimed += await self._claim(name)
        return claimed

    async def _claim(self, owner: str) -> int:
        entries = await self._read(owner)
        if entries is None or not entries.ids:
            return 0
        passed_on: list[Command] = []
        try:
            if entries.workers:
                await self._listener.look(entries.workers)
                passed_on = await self._passed_on(owner, entries.workers)
        except StoreAway:
            return 0  # still pending: they are claimed again
        stream = self._names.stream(owner)
        raise_first(await self._line.ask(*passed_on, *entries.done(stream)))
        self._counts.claimed += len(entries.ids)
        self._counts.refused += entries.refused
        return len(entries.ids)

    async def _read(self, owner: str) -> Entries | None:
        stream = self._names.stream(owner)
        if self._unread.get(owner, 0) >= ATTEMPTS:
            self._counts.refused += 1
            del self._unread[owner]
            await self._forget(owner, stream)
            return None
        self._unread[owner] = self._unread.get(owner, 0) + 1
        [reply] = await self._line.ask(
            (
                "XAUTOCLAIM", stream, GROUP, self._node, round(1000 * self._visibility), "0-0",
                "COUNT", READ_ENTRIES,
            )
        )  # fmt: skip
        del self._unread[owner]
        if is_foreign(reply):
            self._counts.refused += 1
            await self._forget(owner, stream)
            return None
        if _says(reply, "NOGROUP"):  # gone; its owner, if alive, creates it again
            await self._forget(owner)
            return None
        raise_first([reply])
        return Entries.of(reply[1])

    async def _forget(self, member: str | bytes, *keys: str) -> None:
        unlinked: list[Command] = [("UNLINK", *keys)] if keys else []
        raise_first(await self._line.ask(("SREM", self._names.streams, member), *unlinked))

    async def _passed_on(self, owner: str, workers: Collection[WorkerId]) -> list[Command]:
        """Commands that send hints to the nodes to which the workers have moved."""
        moved: dict[str, list[WorkerId]] = {}
        for worker, node in (await self._listener.places(workers)).items():
            if node not in (self._node, owner):
                moved.setdefault(node, []).append(worker)
        self._counts.passed_on += sum(map(len, moved.values()))
        return [
            command
            for node, there in moved.items()
            for command in hinting(self._names, node, there)
        ]
