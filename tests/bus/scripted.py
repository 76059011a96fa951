"""A scripted connection to Redis, and a listener that records its calls."""

from collections.abc import Collection, Mapping
from typing import Any

from redis.exceptions import ResponseError

from boxsched.cluster.bus import Counts
from boxsched.cluster.redis_messages import (
    FIELD,
    STREAM_SECONDS,
    Command,
    KeyNames,
    hinting,
)
from boxsched.errors import StoreAway
from boxsched.model import WorkerId

NAMES = KeyNames("p")
FOREIGN = ResponseError("WRONGTYPE Operation against a key")
NO_GROUP = ResponseError("NOGROUP No such key")
BUSY_GROUP = ResponseError("BUSYGROUP Consumer Group name already exists")
KNOWN = [
    ("SADD", "p:streams", "me"),
    ("EXPIRE", "p:streams", STREAM_SECONDS),
    ("EXPIRE", "p:hints:me", STREAM_SECONDS),
]


class ScriptEnded(Exception):
    """The script has no more answers."""


class ScriptedConnection:
    """Answers each round trip with the next list of ``replies``; an exception is raised."""

    def __init__(self, *replies: list[Any] | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[list[Command]] = []
        self.blocking: list[float] = []
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    async def ask(self, *commands: Command, blocking: float = 0.0) -> list[Any]:
        self.asked.append(list(commands))
        self.blocking.append(blocking)
        if not self.replies:
            raise ScriptEnded
        answer = self.replies.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def news(self, seconds: float) -> Any:
        return (await self.ask(("NEWS",)))[0]


class CallRecorder:
    def __init__(self, away: int = 0, places: Mapping[int, str] | None = None) -> None:
        self.away = away
        self.at = places or {}
        self.calls: list[Any] = []

    def woken(self, shard: int) -> None:
        self.calls.append(("woken", shard))

    def heard(self, shard: int, batch: int) -> None:
        self.calls.append(("heard", shard, batch))

    def missed(self) -> None:
        self.calls.append("missed")

    async def look(self, workers: Collection[WorkerId]) -> None:
        self.calls.append(sorted(workers))
        if self.away:
            self.away -= 1
            raise StoreAway("away for the test")

    async def places(self, workers: Collection[WorkerId]) -> Mapping[WorkerId, str]:
        return {worker: self.at[worker] for worker in sorted(workers) if worker in self.at}


def entry_of(id_: bytes, *workers: int) -> list[Any]:
    added = hinting(NAMES, "me", [WorkerId(each) for each in workers])[0]
    return [id_, [FIELD, added[-1]]]


def parts(line: ScriptedConnection, hearing: CallRecorder, counts: Counts) -> Any:
    return (line, NAMES, "me", hearing, counts)
