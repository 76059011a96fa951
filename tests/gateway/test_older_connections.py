"""A worker's older connection on this node changes nothing once there is a newer one."""

import asyncio

import attrs
import pytest

from boxsched.gateway.entry import Gone
from boxsched.gateway.figures import Times
from boxsched.gateway.link import Held, WorkerLink
from boxsched.gateway.presence import Ends
from boxsched.gateway.worker_sender import MAX_UNSENT_ACKS
from boxsched.model import JobId, WorkerId
from boxsched.protocol import inbox, wire
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected, WorkerConnection
from tests.gateway.harness import PATIENCE_SECONDS, GatewayHarness

HELLO = wire.Hello(wire.VERSION, "own", "w", ("default",), "", "")


class Gate:
    """Holds the first report of a worker's Boxes until it is opened."""

    def __init__(self, harness: GatewayHarness) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._ask = harness.gateway._entry._ask
        harness.gateway._entry._ask = self.ask

    async def ask(self, shard: int, command: inbox.Command) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.opened.wait()
        await self._ask(shard, command)


async def test_an_older_connection_that_arrives_late_does_not_replace_the_newer(
    harness: GatewayHarness,
) -> None:
    gate = Gate(harness)
    older = await harness.dial()
    await older.hello("w")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await gate.reached.wait()
    newer = await harness.worker("w")
    gate.opened.set()
    assert await older.closed() == 1000
    assert not older.waiting, "it was told nothing: no Welcome, no level"
    await newer.beat()
    assert list(harness.gateway.connected) == [newer.id]
    assert harness.gateway.figures.connects == 1
    assert await harness.state_of(newer) == "connected", "the older one's end is not the worker's"


async def test_boxes_of_an_older_connection_are_not_reported_after_the_newers(
    harness: GatewayHarness,
) -> None:
    """The leader believes the last report that it reads."""
    older = await harness.dial()
    harness.unsteady.away_for = "ask"
    await older.hello("w")
    await harness.unsteady.until(harness.unsteady.refused, "ask")
    newer = await harness.dial()
    await newer.hello("w")
    await harness.unsteady.until(harness.unsteady.done, "connect_worker", 2)
    harness.unsteady.away_for = None
    await newer.next(wire.Welcome)
    assert await older.closed() == 1000
    [announced] = [one for one in harness.asked if isinstance(one, inbox.BoxesSet)]
    (pulse,) = await harness.store.pulses(1)
    assert announced.connection == pulse.connection


async def test_an_older_connection_that_reaches_the_store_last_reports_nothing(
    harness: GatewayHarness,
) -> None:
    entry = harness.gateway._entry
    entry._newest[WorkerId(1)] = 8

    class Open:
        gone = False

    older = Connected(WorkerConnection(WorkerId(1), 7), SHARD, ())
    with pytest.raises(Gone):
        await entry.announce(Open(), older, HELLO)  # type: ignore[arg-type]
    assert not harness.asked
    assert entry._newest == {1: 8}


async def test_the_end_of_an_older_connection_keeps_the_newer_ones_number(
    harness: GatewayHarness,
) -> None:
    entry = harness.gateway._entry
    entry._newest[WorkerId(1)] = 8
    entry.forget(WorkerConnection(WorkerId(1), 7))
    assert entry._newest == {1: 8}
    entry.forget(WorkerConnection(WorkerId(1), 8))
    assert entry._newest == {}


async def test_of_two_waiting_ends_the_newer_is_stored() -> None:
    told: list[list[WorkerConnection]] = []

    class Told:
        async def disconnect_workers(self, connections: list[WorkerConnection]) -> None:
            told.append(connections)

    for order in ((7, 8), (8, 7)):
        ends = Ends(Told(), Times())  # type: ignore[arg-type]
        for number in order:
            ends.add(WorkerConnection(WorkerId(1), number))
        await ends.write()
        await ends.write()
        assert told == [[WorkerConnection(WorkerId(1), 8)]], "once, and the newer one"
        told.clear()


async def test_an_end_during_a_write_is_stored_by_the_next_one() -> None:
    told: list[list[WorkerConnection]] = []

    class Told:
        async def disconnect_workers(self, connections: list[WorkerConnection]) -> None:
            told.append(connections)
            if len(told) == 1:
                ends.add(WorkerConnection(WorkerId(1), 9))

    ends = Ends(Told(), Times())  # type: ignore[arg-type]
    ends.add(WorkerConnection(WorkerId(1), 8))
    await ends.write()
    await ends.write()
    assert told == [[WorkerConnection(WorkerId(1), 8)], [WorkerConnection(WorkerId(1), 9)]]


async def test_heartbeats_of_an_older_connection_are_not_written(harness: GatewayHarness) -> None:
    """It was replaced before the next write: the newer connection counts for the worker."""
    older = await harness.worker("w")
    [link] = harness.gateway._links.values()
    newer = await harness.worker("w")
    assert await older.closed() == 1000
    beats = harness.gateway._beats
    beats.add(link, 1)
    await beats.write()
    assert harness.gateway.figures.ended == {"replaced": 1}
    await newer.beat()


async def test_a_worker_that_has_hung_up_is_not_written_to_the_store(
    harness: GatewayHarness,
) -> None:
    """It waited for its turn or for the database; its next connection counts."""

    class Left:
        gone, address = True, "127.0.0.1"

    hello = wire.Hello(wire.VERSION, "own w", "w", ("default",), "", "")
    connected = Connected(WorkerConnection(WorkerId(1), 7), SHARD, ())
    entry = harness.gateway._entry
    with pytest.raises(Gone):
        await entry.connect(Left(), hello, harness.token)  # type: ignore[arg-type]
    with pytest.raises(Gone):
        await entry.announce(Left(), connected, HELLO)  # type: ignore[arg-type]
    assert not await harness.store.workers() and not harness.asked


async def test_a_node_accepts_a_limited_number_of_connections(
    harness: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.gateway.gateway.MAX_CONNECTIONS", 2)
    there = [await harness.worker(name) for name in ("a", "b")]
    third = await harness.dial()
    refused = await third.next(wire.Refused)
    assert (refused.code, refused.again) == ("full", True)
    assert await third.closed() == 1013
    assert set(harness.gateway.connected) == {worker.id for worker in there}


async def test_a_token_has_a_limited_number_of_connections(
    harness: GatewayHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that send no Hello; one that ends makes room. Other tokens are not affected."""
    monkeypatch.setattr(harness, "token", attrs.evolve(harness.token, max_workers=1))
    mute = [await harness.dial() for _ in range(9)]
    await harness.worker("a")
    extra = await harness.dial()
    refused = await extra.next(wire.Refused)
    assert (refused.code, refused.again) == ("too_many", True)
    assert "has 10 connections" in refused.message and "revoke the token" in refused.message
    assert await extra.closed() == 1013
    await mute[0].socket.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while harness.gateway._of_token[harness.token.id] > 9:  # noqa: ASYNC110 (a number)
            await asyncio.sleep(0.01)
    await harness.worker("b")
    monkeypatch.setattr(harness, "token", attrs.evolve(harness.token, id="token-2"))
    await harness.worker("c")


class DeafSocket:
    """In place of a worker's socket: sends heartbeats without end, and reads nothing."""

    def __init__(self) -> None:
        self.received = 0

    async def receive(self) -> str:
        self.received += 1
        await asyncio.sleep(0)
        return wire.encode(wire.Said(self.received, ())).decode()

    async def send(self, texts: list[bytes]) -> None:
        await asyncio.Event().wait()


async def test_a_worker_that_reads_no_answers_is_not_read_either(harness: GatewayHarness) -> None:
    deaf = DeafSocket()
    connected = Connected(WorkerConnection(WorkerId(1), 1), SHARD, ())
    link = WorkerLink(deaf, connected, harness.gateway._side, HELLO)  # type: ignore[arg-type]
    living = asyncio.create_task(link.live())
    for _ in range(20 * MAX_UNSENT_ACKS):
        await asyncio.sleep(0)
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    assert MAX_UNSENT_ACKS <= deaf.received < 3 * MAX_UNSENT_ACKS


def test_output_counts_only_for_the_attempt_that_the_worker_runs() -> None:
    link = WorkerLink.__new__(WorkerLink)
    link._held = {JobId(9): Held(lease_token=5, attempt=2, stop=False)}
    current = [link._is_current(wire.Chunk(9, attempt, 0, b"x")) for attempt in (1, 2, 3)]
    assert current == [False, True, False]
    assert not link._is_current(wire.Chunk(8, 2, 0, b"x"))
