"""A client that can write to the server can waste time, and do nothing worse."""

import random

import msgspec
import pytest

from boxsched.cluster import redis_messages
from tests.bus.recording_nodes import BusCluster, cluster, until, workers
from tests.bus.redis_server import Server

RUBBISH: list[bytes] = [
    b"",
    b"\x00",
    b"\xff" * 100,
    b"[1,2]",
    b"\xdd\xff\xff\xff\xff",  # a list of four thousand million
    b"\x91" * 5_000,  # lists in lists
    b"x" * (1024 * 1024),
    msgspec.msgpack.encode([]),
    msgspec.msgpack.encode([0]),
    msgspec.msgpack.encode([-1]),
    msgspec.msgpack.encode([2**64 - 1]),
    msgspec.msgpack.encode([True]),
    msgspec.msgpack.encode(["1"]),
    msgspec.msgpack.encode([1.0]),
    msgspec.msgpack.encode([1, None]),
    msgspec.msgpack.encode(list(range(1, 300))),
    msgspec.msgpack.encode({"w": [1]}),
    msgspec.msgpack.encode(["news", "x", [1]]),
    msgspec.msgpack.encode(["news", "", [1], {}]),
    msgspec.msgpack.encode(["news", "x", ["1"], {}]),
    msgspec.msgpack.encode(["news", "x", [-1], {}]),
    msgspec.msgpack.encode(["news", "x" * 201, [1], {}]),
    msgspec.msgpack.encode(["news", "x", [1], {}, "more"]),
    msgspec.msgpack.encode(["news", "x", [1] * 2_000, {}]),
    msgspec.msgpack.encode(["news", "x", [], [[1, 1]]]),
    msgspec.msgpack.encode(["news", "x", [], {-1: 1}]),
    msgspec.msgpack.encode(["news", "x", [], {1: 2**63}]),
    msgspec.msgpack.encode(["news", "x", [], {"1": 1}]),
    msgspec.msgpack.encode(["news", "x", [], dict.fromkeys(range(2_000), 1)]),
    msgspec.msgpack.encode(["unheard", "x", [1], {}]),
]


async def _all_well(nodes: BusCluster) -> None:
    a, b = await nodes.node("well"), await nodes.node("too")
    a.bus.wake(5)
    a.bus.hint("too", workers(6))
    await until(lambda: b.listener.shards == [5] and b.listener.looked == [6])


async def test_rubbish_in_the_stream_is_counted_and_removed(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for rubbish in RUBBISH:
            server.tell("XADD", b.stream, "*", "w", rubbish)
        for fields in (["v", "1"], ["w", "1", "w", "2"], [b"\xff\x00", b"\xff"]):
            server.tell("XADD", b.stream, "*", *fields)
        server.tell("XADD", b.stream, "99999999999999-5", "w", b"")  # from the future
        forged = len(RUBBISH) + 4
        await until(lambda: b.bus.counts.refused == forged)
        server.tell("XADD", b.stream, "*", "w", msgspec.msgpack.encode([7]))
        a.bus.hint("b", workers(8))
        await until(lambda: b.listener.looked == [7, 8])
        await until(lambda: server.tell("XLEN", b.stream) == b":0\r\n")
        assert b.bus.counts.looked == forged + 2
        assert a.bus.trips == b.bus.trips == 0


async def test_rubbish_on_the_channel_is_counted(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for rubbish in RUBBISH:
            server.tell("PUBLISH", f"{nodes.prefix}:news", rubbish)
        await until(lambda: b.bus.counts.refused == len(RUBBISH))
        a.bus.wake(1)
        await until(lambda: b.listener.shards == [1])
        assert b.listener.batches == []
        assert a.bus.trips == b.bus.trips == 0


async def test_a_thousand_forged_hints_cause_only_a_few_looks(server: Server) -> None:
    async with cluster(server.url) as nodes:
        b = await nodes.node("b")
        for worker in range(1, 1001):
            server.tell("XADD", b.stream, "*", "w", msgspec.msgpack.encode([worker]))
        await until(lambda: b.bus.counts.looked == 1000)
        assert sorted(b.listener.looked) == list(range(1, 1001))
        assert not b.listener.shards and not b.listener.batches


async def test_a_message_too_large_to_be_read_in_time_costs_at_most_one_connection(
    server: Server,
) -> None:
    async with cluster(server.url) as nodes:
        await nodes.node("b")
        server.tell("CONFIG", "SET", "proto-max-bulk-len", "64mb")
        server.tell("PUBLISH", f"{nodes.prefix}:news", b"x" * 32_000_000)
        await _all_well(nodes)


@pytest.mark.slow
async def test_a_stream_too_large_to_be_read_is_removed_in_the_end(server: Server) -> None:
    async with cluster(server.url) as nodes:
        b = await nodes.node("b")
        await b.bus.close()
        for _ in range(5):  # more than is read within the deadline
            server.tell("XADD", b.stream, "*", "w", b"x" * 40_000_000)
        again = await nodes.node("b", up=False)
        await until(lambda: server.tell("XLEN", b.stream) == b":0\r\n")
        await until(lambda: again.bus.up)
        await _all_well(nodes)


@pytest.mark.parametrize("member", [b"", b"\xff\xfe", b"x" * 1_000, "é".encode() * 300])
async def test_a_forged_member_of_the_set_of_streams_is_removed(
    server: Server, member: bytes
) -> None:
    async with cluster(server.url, visibility=0.2) as nodes:
        a = await nodes.node("a")
        server.tell("SADD", f"{nodes.prefix}:streams", member, "*", "../../other")
        await until(
            lambda: server.tell("SMEMBERS", f"{nodes.prefix}:streams") == b"*1\r\n$1\r\na\r\n"
        )
        assert a.bus.counts.refused == 1
        assert a.bus.trips == 0


async def test_a_foreign_key_in_place_of_a_stream_is_removed(server: Server) -> None:
    async with cluster(server.url, visibility=0.2) as nodes:
        a = await nodes.node("a")
        gone = f"{nodes.prefix}:hints:gone"
        server.tell("SET", gone, "nonsense")
        server.tell("SADD", f"{nodes.prefix}:streams", "gone")
        await until(lambda: server.tell("EXISTS", gone) == b":0\r\n")
        server.tell("SET", gone, "nonsense")
        a.bus.hint("gone", workers(1))
        await until(lambda: server.tell("TYPE", gone) != b"+string\r\n")
        await _all_well(nodes)
        assert a.bus.trips == 0


async def test_an_entry_with_the_last_possible_id_does_not_stop_the_stream(
    server: Server,
) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        last = 2**64 - 1
        told = msgspec.msgpack.encode([7])
        server.tell("XADD", b.stream, f"{last}-{last}", "w", told)
        await until(lambda: b.listener.looked == [7])
        missed = b.listener.missed_times
        a.bus.hint("b", workers(8))  # it cannot be added, so everything is looked up later
        await until(lambda: b.listener.missed_times > missed)
        a.bus.hint("b", workers(9))
        await until(lambda: b.listener.looked == [7, 9])
        assert a.bus.trips == b.bus.trips == 0


def test_random_bytes_decode_to_nothing_or_to_limited_values() -> None:
    chance = random.Random(7)
    genuine = [
        redis_messages.news("a", [1, 2], {}),
        redis_messages.news("a", [1], {1: 2, 3: 4}),
        msgspec.msgpack.encode([1, 2, 3]),
    ]
    for _ in range(20_000):
        data = bytearray(chance.choice(genuine))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        told = bytes(data[: chance.randrange(len(data) + 1)])
        redis_messages.read_news(told)
        for worker in redis_messages.entry([b"w", told]) or ():
            assert 0 < worker < 2**63
