"""The bus's buffer, sender and channel over a scripted connection."""

from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from boxsched.cluster.bus import Counts
from boxsched.cluster.redis_channel import Channel
from boxsched.cluster.redis_messages import (
    ENTRY_WORKERS,
    FIELD,
    MESSAGE_SHARDS,
    NODE_LENGTH,
    STREAM_ENTRIES,
    STREAM_SECONDS,
    hinting,
    news,
    read_news,
)
from boxsched.cluster.redis_sender import WAITING_WORKERS, RedisSender, SendBuffer
from boxsched.cluster.redis_streams import Entries
from boxsched.model import WorkerId
from tests.bus.scripted import FOREIGN, NAMES, CallRecorder, ScriptedConnection, parts


def outgoing() -> tuple[SendBuffer, Counts]:
    counts = Counts()
    return SendBuffer(NAMES, "me", counts), counts


def test_repeated_hints_are_sent_once_with_the_newest_batch() -> None:
    out, counts = outgoing()
    for shard in (3, 3):
        out.wake(shard)
    for batch in (7, 8):
        out.publish(4, batch)
    for worker in (1, 1, 2):
        out.hint("there", [WorkerId(worker)])
    *hints, published = out.take()
    assert hints == hinting(NAMES, "there", {WorkerId(1), WorkerId(2)})
    assert published[:2] == ("PUBLISH", "p:news")
    said = read_news(published[2])
    assert said is not None
    assert (said.node, said.woken, said.committed) == ("me", [3], {4: 8})
    assert out.take() == []
    assert counts.dropped == 0


def test_both_kinds_of_news_are_published() -> None:
    for say in (lambda out: out.wake(1), lambda out: out.publish(1, 2)):
        out, _ = outgoing()
        say(out)
        assert [command[0] for command in out.take()] == ["PUBLISH"]


async def test_each_send_wakes_the_sender() -> None:
    for say in (
        lambda out: out.wake(1),
        lambda out: out.publish(1, 2),
        lambda out: out.hint("there", [WorkerId(1)]),
    ):
        out, _ = outgoing()
        assert await out.some(0.0) is False
        say(out)
        assert await out.some(20.0) is True
        out.take()
        assert await out.some(0.0) is False
        say(out)
        out.clear()
        assert await out.some(0.0) is False


def test_the_buffer_is_limited_and_counts_what_it_drops() -> None:
    out, counts = outgoing()
    for shard in range(MESSAGE_SHARDS):
        out.wake(shard)
        out.publish(shard, 1)
    assert counts.dropped == 0
    out.wake(0)
    out.publish(0, 2)
    assert counts.dropped == 0, "known shards have room"
    out.wake(MESSAGE_SHARDS)
    out.publish(MESSAGE_SHARDS, 1)
    assert counts.dropped == 2
    out.hint("there", [WorkerId(n) for n in range(1, WAITING_WORKERS + 1)])
    assert counts.dropped == 2
    out.hint("there", [WorkerId(1), WorkerId(2)])
    out.hint("x" * NODE_LENGTH, [])
    assert counts.dropped == 4
    out.clear()
    assert counts.dropped == 4 + 2 * MESSAGE_SHARDS + WAITING_WORKERS
    assert out.take() == []
    out.hint("", [WorkerId(1)])
    out.hint("x" * (NODE_LENGTH + 1), [WorkerId(1)])
    assert out.take() == []
    out.hint("x", [WorkerId(1)])
    out.hint("x" * NODE_LENGTH, [WorkerId(1)])
    assert len(out.take()) == 6, "after a clear there is room"


def test_hints_are_split_into_entries() -> None:
    told = [WorkerId(n) for n in range(1, 2 * ENTRY_WORKERS + 2)]
    *added, expire, known = hinting(NAMES, "there", told)
    assert [command[:7] for command in added] == [
        ("XADD", "p:hints:there", "MAXLEN", "~", STREAM_ENTRIES, "*", FIELD)
    ] * 3
    read = Entries.of([[b"1-0", [FIELD, command[7]]] for command in added])
    assert read.workers == frozenset(told)
    assert expire == ("EXPIRE", "p:hints:there", STREAM_SECONDS)
    assert known == ("SADD", "p:streams", "there")


async def test_a_foreign_key_is_removed_and_another_error_ends_the_connection() -> None:
    out, counts = outgoing()
    line = ScriptedConnection(["PONG"], ["1-1", FOREIGN, 1], [1], [ResponseError("OOM")])
    sender = RedisSender(cast(Any, line), out, counts)
    await sender.begin()
    out.hint("there", [WorkerId(1)])
    with pytest.raises(ResponseError, match="OOM"):
        await _runs_twice(sender, out)
    assert line.opened == 1
    assert line.asked[0] == [("PING",)]
    assert line.asked[2] == [("UNLINK", "p:hints:there")]
    assert (counts.refused, counts.sent) == (1, 1 + 3 + 1)


async def _runs_twice(sender: RedisSender, out: SendBuffer) -> None:
    await sender._trip(out.take())
    out.wake(1)
    await sender.run()


async def test_the_channel_passes_on_messages_of_other_nodes() -> None:
    said = [
        ["message", b"p:news", b"kind is text: no message"],
        [b"message", b"p:news", news("me", [1], {1: 1})],
        [b"message", b"p:news", news("other", [1, 2], {3: 4})],
        [b"message", b"p:news", b"rubbish"],
        [b"pong", b""],
    ]
    line = ScriptedConnection([1], *([each] for each in said), [ResponseError("gone")])
    hearing, counts = CallRecorder(), Counts()
    channel = Channel(*parts(line, hearing, counts))
    await channel.begin()
    assert line.asked == [[("SUBSCRIBE", "p:news")]]
    with pytest.raises(ResponseError, match="gone"):
        await channel.run()
    assert hearing.calls == ["missed", ("woken", 1), ("woken", 2), ("heard", 3, 4)]
    assert (counts.heard, counts.refused) == (1, 1)
