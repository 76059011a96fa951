"""The server dies, freezes or forgets: the bus reports it, costs nothing meanwhile, and
recovers."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from boxsched.cluster.redis_bus import RedisBus
from boxsched.cluster.redis_connection import TROUBLE, RedisConnection
from tests.bus.recording_nodes import BusNode, RecordingListener, cluster, until, workers
from tests.bus.redis_server import Server, served

GENEROUS_SECONDS = 10.0  # what takes 1 s on a quiet machine


async def _works(a: BusNode, b: BusNode) -> None:
    """Check that every node is reached again."""
    a.listener.shards.clear()
    b.listener.looked.clear()
    b.listener.batches.clear()
    b.bus.wake(9)
    a.bus.publish(1, 77)
    a.bus.hint("b", workers(8))
    await until(lambda: a.listener.shards == [9] and b.listener.looked == [8])
    await until(lambda: b.listener.batches == [(1, 77)])


@pytest.mark.parametrize(
    "fault",
    [
        "flushall",
        "group deleted",
        "stream deleted",
        "stream of another type",
        "set of another type",
    ],
)
async def test_statements_that_the_server_forgot_are_prepared_again(
    server: Server, fault: str
) -> None:
    async with cluster(server.url, visibility=0.5) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        await _works(a, b)
        missed = b.listener.missed_times
        streams = f"{nodes.prefix}:streams"
        if fault == "flushall":
            server.tell("FLUSHALL")
        elif fault == "group deleted":
            server.tell("XGROUP", "DESTROY", b.stream, "nodes")
        elif fault == "stream deleted":
            server.tell("DEL", b.stream)
        elif fault == "stream of another type":
            server.tell("SET", b.stream, "nonsense")
        else:
            server.tell("SET", streams, "nonsense")
            await until(lambda: b"set" in server.tell("TYPE", streams))
            missed = -1
        await until(lambda: b.listener.missed_times > missed)
        await _works(a, b)
        await until(lambda: b"$1\r\na" in server.tell("SMEMBERS", streams))
        assert a.bus.trips == b.bus.trips == 0


async def test_hints_that_are_being_sent_while_the_group_is_gone_arrive(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        server.tell("DEL", b.stream)
        a.bus.hint("b", workers(1))
        await until(lambda: b.listener.looked == [1])
        await _works(a, b)


async def test_a_server_that_is_killed_and_started_without_its_data(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        missed = a.listener.missed_times, b.listener.missed_times
        server.kill()
        await until(lambda: not a.bus.up and not b.bus.up)
        server.start()
        await a.up_again(missed[0])
        await b.up_again(missed[1])
        await _works(a, b)
        told = [record.getMessage() for record in caplog.records]
        assert sum(text.startswith("Redis away: ") for text in told) == 2  # once for each node
        assert told.count("Redis is back") == 2
        assert all(record.levelno < logging.ERROR for record in caplog.records)


async def test_a_frozen_server_is_noticed_within_a_second_and_costs_nothing(
    server: Server,
) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        missed = a.listener.missed_times, b.listener.missed_times
        frozen = time.monotonic()
        server.stop()
        await until(lambda: not a.bus.up and not b.bus.up)
        assert time.monotonic() - frozen < GENEROUS_SECONDS
        begun, dropped = time.process_time(), a.bus.counts.dropped
        for n in range(10_000):
            a.bus.wake(n)
            a.bus.publish(1, n)
            a.bus.hint("b", workers(n + 1))
        assert time.process_time() - begun < 1.0
        assert a.bus.counts.dropped == dropped + 30_000
        server.cont()
        await a.up_again(missed[0])
        await b.up_again(missed[1])
        await _works(a, b)
        assert 10_000 not in b.listener.looked


async def test_running_sends_to_a_frozen_server_return_at_once(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a = await nodes.node("a")
        server.stop()
        begun = time.process_time()
        while a.bus.up:
            a.bus.publish(1, 1)
            a.bus.hint("b", workers(*range(1, 5_000)))
            await asyncio.sleep(0.001)
        assert time.process_time() - begun < 2.0
        server.cont()
        await a.up_again(1)


async def test_opening_and_closing_do_not_wait_for_a_frozen_server(
    server: Server,
) -> None:
    tasks = asyncio.all_tasks()
    server.stop()
    begun = time.monotonic()
    bus = RedisBus(server.url, prefix="p", node="a")
    await bus.open(RecordingListener())
    assert not bus.up
    await bus.close()
    assert time.monotonic() - begun < GENEROUS_SECONDS
    assert asyncio.all_tasks() == tasks


async def test_a_bus_that_opened_without_the_server_finds_it_later(server: Server) -> None:
    server.kill()
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a", up=False), await nodes.node("b", up=False)
        assert not a.bus.up
        server.start()
        await a.up_again(0)
        await b.up_again(0)
        await _works(a, b)


async def test_close_leaves_no_connection(server: Server) -> None:
    async with cluster(server.url, visibility=0.2) as nodes:
        a = await nodes.node("a")
        await until(lambda: server.tell("CLIENT", "LIST").count(b"addr=") >= 4)
        await a.bus.close()
        await until(lambda: server.tell("CLIENT", "LIST").count(b"laddr=") == 1)


async def test_a_server_that_refuses_writes_is_away(server: Server) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        missed = a.listener.missed_times, b.listener.missed_times
        server.tell("REPLICAOF", "127.0.0.1", "1")  # a master that became a replica
        a.bus.hint("b", workers(1))
        await until(lambda: not a.bus.up)
        server.tell("REPLICAOF", "NO", "ONE")
        await a.up_again(missed[0])
        if not b.bus.up:
            await b.up_again(missed[1])
        await _works(a, b)


async def test_cut_connections_are_opened_again_and_messages_in_between_are_missed(
    server: Server,
) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for kind in ("pubsub", "normal"):
            missed = a.listener.missed_times, b.listener.missed_times
            server.tell("CLIENT", "KILL", "TYPE", kind)
            await a.up_again(missed[0])
            await b.up_again(missed[1])
            await _works(a, b)


async def test_a_password_is_used_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as server:
        server.tell("CONFIG", "SET", "requirepass", "s3cret-word")
        good = server.url.replace("redis://", "redis://:s3cret-word@")
        async with cluster(good) as nodes:
            await _works(await nodes.node("a"), await nodes.node("b"))
        async with cluster(server.url.replace("redis://", "redis://:wr0ng-word@")) as nodes:
            a = await nodes.node("a", up=False)
            assert not a.bus.up
            assert "Redis away: " in caplog.text
            assert "w0rd" not in caplog.text and "-word" not in caplog.text


async def test_the_bus_works_over_a_socket_in_the_file_system(server: Server) -> None:
    async with cluster(f"unix://{server.socket}") as nodes:
        await _works(await nodes.node("a"), await nodes.node("b"))


async def test_another_program_at_the_port_counts_as_away(caplog: pytest.LogCaptureFixture) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"*99999999999\r\n$-7\r\nHTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        writer.close()

    other = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with cluster(f"redis://127.0.0.1:{port}") as nodes:
        a = await nodes.node("a", up=False)
        assert not a.bus.up
        assert "Redis away: " in caplog.text
    other.close()
    await other.wait_closed()


async def test_a_listener_that_fails_does_not_stop_the_bus(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(server.url) as nodes:
        a, b = await nodes.node("a"), await nodes.node("b")
        for failure in (RuntimeError("a mistake"), asyncio.CancelledError()):
            missed = b.listener.missed_times
            with pytest.MonkeyPatch.context() as patch:

                async def look(_: object, failure: BaseException = failure) -> None:
                    raise failure

                patch.setattr(b.listener, "look", look)
                a.bus.hint("b", workers(4))
                await until(lambda: not b.bus.up)
            await b.up_again(missed)
            await until(lambda: 4 in b.listener.looked)
            await _works(a, b)
        assert "failed unexpectedly" in caplog.text


def test_uvloops_error_for_a_reset_connection_is_an_outage(server: Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def ask() -> None:
        line = RedisConnection(server.url)
        await line.open()
        transport = line._connection._writer.transport  # type: ignore[union-attr]
        transport.abort()
        while "closed=True" not in repr(transport):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0)
        with pytest.raises(TROUBLE):
            await line.ask(("PING",))
        await line.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
