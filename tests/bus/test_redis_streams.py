"""A hint is acknowledged only after its look-up, by another node if necessary."""

import asyncio

from tests.bus.recording_nodes import cluster, until, workers
from tests.bus.redis_server import Server

VISIBILITY_SECONDS = 0.4


def _pending(server: Server, stream: str) -> int:
    return int(server.tell("XPENDING", stream, "nodes").split(b"\r\n")[1].lstrip(b":"))


async def test_a_hint_is_acknowledged_only_after_the_look(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        b.listener.gate.clear()
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.begun == [1])
        assert _pending(server, b.stream) == 1
        b.listener.gate.set()
        await until(lambda: _pending(server, b.stream) == 0)
        assert server.tell("XLEN", b.stream) == b":0\r\n"
        assert b.listener.looked == [1]


async def test_a_node_that_is_up_has_its_stream(server: Server) -> None:
    """Its own stream is never the reason to look everything up again."""
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        missed = a.listener.missed_times
        for node in (a, b):
            assert server.tell("EXISTS", node.stream) == b":1\r\n"
        b.bus.hint("a", workers(1))
        await until(lambda: a.listener.looked == [1])
        assert (a.listener.missed_times, a.bus.counts.recreated) == (missed, 0)


async def test_a_look_is_repeated_if_the_store_was_away(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        b.listener.store_away = True
        a.bus.hint("b", workers(1, 2))
        await until(lambda: b.listener.refused >= 2)
        assert _pending(server, b.stream) == 1
        b.listener.store_away = False
        await until(lambda: b.listener.looked == [1, 2])
        await until(lambda: _pending(server, b.stream) == 0)
        assert b.bus.up and b.bus.trips == 0


async def test_entries_of_an_earlier_process_are_read_first(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        b.listener.store_away = True
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.refused)
        await b.bus.close()
        sent = a.bus.counts.sent
        a.bus.hint("b", workers(2))
        await until(lambda: a.bus.counts.sent > sent)
        again = await nodes.node("b")
        await until(lambda: again.listener.looked == [1, 2])


async def test_another_node_handles_what_a_dead_one_had_read(server: Server) -> None:
    async with cluster(server.url, visibility=VISIBILITY_SECONDS) as nodes:
        a, b, c = await nodes.node("a"), await nodes.node("b"), await nodes.node("c")
        a.listener.where = c.listener.where = dict(
            zip(workers(1, 2, 3), ("a", "b", "c"), strict=True)
        )
        b.listener.gate.clear()
        a.bus.hint("b", workers(1, 2, 3, 4))
        await until(lambda: b.listener.begun)
        await b.bus.close()
        assert b.listener.looked == []
        # One of the two claims it, and notifies the other about its connected worker.
        await until(lambda: 3 in c.listener.looked and 1 in a.listener.looked)
        await until(lambda: _pending(server, b.stream) == 0)
        assert a.bus.counts.claimed + c.bus.counts.claimed == 1
        assert a.bus.counts.passed_on + c.bus.counts.passed_on == 1
        claimer, other, moved = (a, c, 3) if a.bus.counts.claimed else (c, a, 1)
        assert claimer.listener.looked == [1, 2, 3, 4]
        await until(lambda: other.listener.looked == [moved])


async def test_a_claimed_hint_is_not_acknowledged_while_the_store_is_away(server: Server) -> None:
    async with cluster(server.url, visibility=VISIBILITY_SECONDS) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        a.listener.store_away = b.listener.store_away = True
        b.listener.gate.clear()
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.begun)
        await b.bus.close()
        await until(lambda: a.listener.refused >= 2)
        assert _pending(server, b.stream) == 1
        a.listener.store_away = False
        await until(lambda: _pending(server, b.stream) == 0)
        assert a.listener.looked == [1]


async def test_a_slow_look_delays_only_its_own_node(server: Server) -> None:
    async with cluster(server.url, visibility=VISIBILITY_SECONDS) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        b.listener.gate.clear()
        a.bus.hint("b", workers(1))
        await until(lambda: 1 in a.listener.looked)  # claimed, though its node is alive
        b.bus.wake(1)
        await until(lambda: a.listener.shards == [1])
        b.listener.gate.set()
        await until(lambda: b.listener.looked == [1])
        assert a.bus.trips == b.bus.trips == 0


async def test_entries_that_were_trimmed_while_pending_do_no_harm(server: Server) -> None:
    async with cluster(server.url, visibility=VISIBILITY_SECONDS) as nodes:
        b = await nodes.node("b")
        a = await nodes.node("a")
        b.listener.gate.clear()
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.begun == [1])
        a.bus.hint("b", workers(2))
        await until(lambda: server.tell("XLEN", b.stream) == b":2\r\n")
        server.tell("XTRIM", b.stream, "MAXLEN", "0")
        b.listener.gate.set()
        a.bus.hint("b", workers(3))
        await until(lambda: 3 in b.listener.looked)
        await until(lambda: _pending(server, b.stream) == 0)
        await b.bus.close()
        b.listener.gate.clear()
        again = await nodes.node("b")
        again.listener.gate.clear()
        a.bus.hint("b", workers(4))
        await until(lambda: again.listener.begun == [4])
        await again.bus.close()
        server.tell("XTRIM", b.stream, "MAXLEN", "0")
        await until(lambda: _pending(server, b.stream) == 0)
        await asyncio.sleep(0)
        assert a.bus.trips == 0


async def test_streams_of_nodes_that_are_gone_are_forgotten(server: Server) -> None:
    async with cluster(server.url, visibility=VISIBILITY_SECONDS) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        await b.bus.close()
        server.tell("DEL", b.stream)  # as its expiry does
        streams = f"{nodes.prefix}:streams"
        await until(lambda: server.tell("SMEMBERS", streams) == b"*1\r\n$1\r\na\r\n")
        assert a.bus.up
