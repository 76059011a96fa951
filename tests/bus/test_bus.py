"""What every bus does: hints reach the right node while nothing fails."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from boxsched.cluster import redis_bus
from boxsched.cluster.bus import Bus, NoBus
from boxsched.cluster.redis_bus import RedisBus
from boxsched.cluster.redis_messages import MESSAGE_SHARDS, NODE_LENGTH
from tests.bus.recording_nodes import (
    UNTIL_SECONDS,
    RecordingListener,
    cluster,
    new_prefix,
    until,
    workers,
)
from tests.bus.redis_server import served


@pytest.mark.parametrize("kind", ["none", "redis", "redis that is away"])
async def test_a_bus_opens_accepts_everything_and_closes(kind: str, tmp_path: Path) -> None:
    bus: Bus
    if kind == "none":
        bus = NoBus()
    elif kind == "redis":
        with served(tmp_path) as server:
            await _opens_and_closes(RedisBus(server.url, prefix=new_prefix(), node="a"), up=True)
        return
    else:
        bus = RedisBus("redis://127.0.0.1:1/0", prefix=new_prefix(), node="a")
    await _opens_and_closes(bus, up=False)


async def _opens_and_closes(bus: Bus, *, up: bool) -> None:
    tasks = asyncio.all_tasks()
    await bus.open(RecordingListener())
    assert bus.up is up
    bus.wake(1)
    bus.publish(1, 2)
    bus.hint("b", workers(7))
    await bus.close()
    assert not bus.up
    bus.wake(1)  # a late one is dropped
    await bus.close()
    assert asyncio.all_tasks() == tasks


async def test_a_server_that_refuses_connections_does_not_delay_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_bus, "OPEN_SECONDS", 1_000.0)
    bus = RedisBus("redis://127.0.0.1:1/0", prefix=new_prefix(), node="a")
    async with asyncio.timeout(UNTIL_SECONDS):
        await bus.open(RecordingListener())
    bus.wake(1)
    bus.publish(1, 2)
    bus.hint("b", workers(7, 8))
    assert bus.counts.dropped == 4
    assert (bus.up, bus.trips) == (False, 0), "it never was up"
    await bus.close()


async def test_a_wake_up_reaches_the_other_nodes_only(url: str) -> None:
    async with cluster(url) as nodes:
        a, b, c = await nodes.node("a"), await nodes.node("b"), await nodes.node("c")
        a.bus.wake(3)
        await until(lambda: b.listener.shards == [3] and c.listener.shards == [3])
        b.bus.wake(4)
        await until(lambda: a.listener.shards == [4])
        assert b.listener.shards == [3]


async def test_a_shard_woken_many_times_at_once_is_woken_once(url: str) -> None:
    async with cluster(url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for _ in range(100):
            a.bus.wake(1)
        a.bus.wake(2)
        await until(lambda: sorted(b.listener.shards) == [1, 2])
        assert a.bus.counts.sent < 10


async def test_the_newest_of_several_commits_is_reported(url: str) -> None:
    async with cluster(url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for batch in range(1, 301):
            a.bus.publish(1, batch)
        a.bus.publish(2, 7)
        await until(lambda: sorted(b.listener.batches) == [(1, 300), (2, 7)])
        a.bus.publish(1, 301)
        await until(lambda: b.listener.batches[2:] == [(1, 301)])
        assert a.bus.counts.sent < 10
        assert a.listener.batches == []


async def test_one_message_contains_as_many_shards_as_possible(url: str) -> None:
    async with cluster(url) as nodes:
        a, b = await nodes.node("a" * NODE_LENGTH), await nodes.node("b")
        last = 2**63 - 1
        shards = range(last - MESSAGE_SHARDS, last)
        for shard in [*shards, last]:
            a.bus.wake(shard)
            a.bus.publish(shard, last)
        await until(lambda: sorted(b.listener.batches) == [(shard, last) for shard in shards])
        assert sorted(b.listener.shards) == list(shards)
        assert (a.bus.counts.dropped, b.bus.counts.heard) == (2, 1)


async def test_a_hint_reaches_only_its_node(url: str) -> None:
    async with cluster(url) as nodes:
        a, b, c = await nodes.node("a"), await nodes.node("b"), await nodes.node("c")
        a.bus.hint("b", workers(1, 2))
        a.bus.hint("a", workers(3))
        await until(lambda: b.listener.looked == [1, 2] and a.listener.looked == [3])
        assert c.listener.looked == []


async def test_many_workers_are_split_into_several_entries(url: str) -> None:
    async with cluster(url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        a.bus.hint("b", workers(*range(1, 1001)))
        await until(lambda: sorted(b.listener.looked) == list(range(1, 1001)))


async def test_processed_entries_leave_only_an_expiry(url: str) -> None:
    async with cluster(url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        a.bus.hint("b", workers(1))
        await until(lambda: b.bus.counts.looked == 1)
        b.bus.hint("b", workers(2))  # the first was acknowledged with the read of the second
        await until(lambda: b.bus.counts.looked == 2)
        async with Redis.from_url(url) as redis:
            assert await redis.xlen(b.stream) <= 1
            assert 0 < await redis.ttl(b.stream) <= 3600
            assert 0 < await redis.ttl(f"{nodes.prefix}:streams") <= 3600
            assert await redis.smembers(f"{nodes.prefix}:streams") == {b"a", b"b"}


async def test_hints_to_a_node_that_is_not_there_yet_wait_for_it(url: str) -> None:
    async with cluster(url) as nodes:
        a = await nodes.node("a")
        sent = a.bus.counts.sent
        a.bus.hint("b", workers(5))
        await until(lambda: a.bus.counts.sent > sent)
        b = await nodes.node("b")
        await until(lambda: b.listener.looked == [5])


async def test_two_clusters_on_one_server_do_not_receive_each_others_hints(url: str) -> None:
    async with cluster(url) as ours, cluster(url) as theirs:
        a, b = await ours.node("a"), await ours.node("b")
        other = await theirs.node("b")
        a.bus.wake(1)
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.shards and b.listener.looked)
        assert other.listener.shards == other.listener.looked == []


@pytest.mark.parametrize(
    "wrong",
    [
        "http://127.0.0.1/",
        "redis://127.0.0.1/?nonsense=1",
        "rediss://127.0.0.1/?ssl_cert_reqs=nonsense",
        "redis://127.0.0.1:x/",
        "",
    ],
)
def test_an_invalid_url_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RedisBus(wrong, prefix="p", node="a")
