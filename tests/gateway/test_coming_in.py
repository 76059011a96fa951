"""A worker connects: Hello, Boxes, Welcome, Level; or it learns why it is refused."""

import asyncio
from pathlib import Path

import attrs
import pytest

from boxsched.protocol import inbox, wire
from boxsched.protocol.batches import DrainChange
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Drain, NewWorker
from boxsched.store.records import Token
from tests.contract.store_data import NOW
from tests.gateway.harness import (
    CLUSTER,
    NODE,
    PATIENCE_SECONDS,
    QUICK,
    FakeWorker,
    GatewayHarness,
    started,
)


async def test_a_worker_is_accepted_with_its_boxes(harness: GatewayHarness) -> None:
    worker = await harness.dial()
    await worker.hello("w", boxes=3)
    welcome = await worker.next(wire.Welcome)
    assert (welcome.cluster, welcome.lost_after) == (CLUSTER, 120.0)
    assert await worker.level() == wire.Level(())
    (command,) = harness.asked
    assert isinstance(command, inbox.BoxesSet)
    assert (command.worker, command.node) == (welcome.worker, NODE)
    assert [(ordinal, type_) for _, ordinal, type_ in command.boxes] == [
        (1, "default"),
        (2, "default"),
        (3, "default"),
    ]
    (known,) = await harness.store.workers()
    assert (known.name, known.address, known.state) == ("w", "127.0.0.1", "connected")
    assert list(harness.gateway.connected) == [welcome.worker]
    assert harness.gateway.figures.connected == 1


async def test_it_is_disconnected_when_its_socket_ends(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await worker.socket.close()
    await harness.disconnected(worker)
    assert list(harness.gateway.connected) == []


async def test_a_second_connection_ends_the_first(harness: GatewayHarness) -> None:
    first = await harness.worker()
    second = await harness.worker()
    assert second.id == first.id
    assert await first.closed() == 1000
    await second.beat()
    assert await harness.state_of(second) == "connected"
    assert harness.gateway.figures.connected == 1
    assert harness.gateway.figures.ended["replaced"] == 1


async def test_a_connection_to_another_node_ends_the_one_here(harness: GatewayHarness) -> None:
    worker = await harness.worker(identity="the same")
    elsewhere = NewWorker("the same", "w", "there", "node-2", ("default",))
    await harness.store.connect_worker(elsewhere)
    await worker.say(wire.Beat(1))
    assert await worker.closed() == 1013
    assert harness.gateway.figures.ended["not_its_connection"] == 1
    assert await harness.state_of(worker) == "connected", "it is, to the other node"


async def test_another_nodes_promise_is_valid_until_the_worker_answers_here(
    harness: GatewayHarness,
) -> None:
    elsewhere = NewWorker("mine", "w", "there", "node-2", ("default",), lost_after=300.0)
    await harness.store.connect_worker(elsewhere)
    worker = await harness.worker(identity="mine")
    (pulse,) = await harness.store.pulses(SHARD)
    assert (pulse.node, pulse.lost_after) == (NODE, 300.0), "it may not have heard the Welcome"
    await worker.beat()
    (pulse,) = await harness.store.pulses(SHARD)
    assert pulse.lost_after == 120.0
    await harness.store.connect_worker(attrs.evolve(elsewhere, lost_after=10.0))
    await worker.say(wire.Beat(99))
    assert await worker.closed() == 1013
    (pulse,) = await harness.store.pulses(SHARD)
    assert pulse.lost_after == 120.0, "as the other node's Welcome may never come"


@pytest.mark.parametrize(("version", "again"), [(0, False), (2, True)])
async def test_another_version_is_refused(
    harness: GatewayHarness, version: int, again: bool
) -> None:
    worker = await harness.dial()
    await worker.socket.send_str(f'{{"type": "hello", "version": {version}, "more": []}}')
    refused = await worker.next(wire.Refused)
    assert (refused.code, refused.again) == ("version", again)
    assert "upgrade" in refused.message
    await worker.closed()
    assert harness.gateway.figures.refused["version"] == 1


async def test_a_name_of_another_worker_is_refused(harness: GatewayHarness) -> None:
    await harness.worker("w")
    other = await harness.dial()
    await other.hello("w", identity="somebody else")
    refused = await other.next(wire.Refused)
    assert (refused.code, refused.again) == ("conflict", False)
    assert "name" in refused.message
    assert await other.closed() == 1008


async def test_another_token_does_not_replace_a_worker(harness: GatewayHarness) -> None:
    """Its jobs can read its identity, which alone must not be enough."""
    await harness.store.put_token(harness.token)
    mine = await harness.worker("w", identity="read by a job")
    harness.token = Token("token-2", "another digest", "worker", "", NOW)
    await harness.store.put_token(harness.token)
    for name in ("w", "another name"):
        thief = await harness.dial()
        await thief.hello(name, identity="read by a job")
        refused = await thief.next(wire.Refused)
        assert (refused.code, refused.again) == ("bound_to_another", False)
        assert "token-1" in refused.message
        assert await thief.closed() == 1008
    await mine.beat()
    assert await harness.state_of(mine) == "connected"
    assert await harness.store.revoke_token("token-1")
    again = await harness.worker("w", identity="read by a job")
    assert again.id == mine.id, "what it was bound to holds no more"


async def test_a_copy_on_the_same_machine_is_refused(harness: GatewayHarness) -> None:
    """Its process ends first, then the next one is accepted at once."""
    same = {"identity": "copied", "boot": "one machine"}
    mine = await harness.worker("w", **same, start="one")
    copy = await harness.dial()
    await copy.hello("w", **same, start="other")
    refused = await copy.next(wire.Refused)
    assert (refused.code, refused.again) == ("in_use", True)
    await mine.beat()
    again = await harness.worker("w", **same, start="one")
    assert await mine.closed() == 1000, "its own process connects again"
    await again.socket.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while harness.gateway.connected:  # noqa: ASYNC110 (a set)
            await asyncio.sleep(0.01)
    restarted = await harness.worker("w", **same, start="other")
    assert restarted.id == mine.id


async def test_a_copy_on_another_machine_gets_no_job_of_a_connected_worker(
    harness: GatewayHarness,
) -> None:
    """A copied data folder contains identity and token: both would begin the same job."""
    await harness.store.put_token(harness.token)
    mine = await harness.worker("w", identity="copied", boot="one machine")
    await harness.take_boxes()
    await harness.start(0)
    (task,) = await mine.runs(1)
    copy = await harness.dial()
    await copy.hello("w", identity="copied", boot="another machine")
    refused = await copy.next(wire.Refused)
    assert (refused.code, refused.again) == ("in_use", True)
    assert "127.0.0.1" in refused.message and "data folder" in refused.message
    await mine.said(started(task))
    await mine.beat()
    (noted,) = [one for one in harness.asked if isinstance(one, inbox.RefusedWorker)]
    assert noted.code == "in_use"
    again = await harness.worker("w", identity="copied", boot="one machine")
    assert await mine.closed() == 1000, "the same machine connects again"
    await again.socket.close()
    await harness.unsteady.until(harness.unsteady.done, "disconnect_workers", 2)
    moved = await harness.worker("w", identity="copied", boot="another machine")
    assert moved.id == mine.id, "the machine was restarted, or the folder was moved"


async def test_a_refused_identity_is_in_the_history_once(harness: GatewayHarness) -> None:
    harness.token = attrs.evolve(harness.token, max_workers=1, bound=True)
    await harness.store.put_token(harness.token)
    await harness.worker("w")
    for _ in range(3):
        thief = await harness.dial()
        await thief.hello("thief")
        refused = await thief.next(wire.Refused)
        assert (refused.code, refused.again) == ("token_taken", False)
        assert "--fleet" in refused.message
    (noted,) = [one for one in harness.asked if isinstance(one, inbox.RefusedWorker)]
    assert (noted.name, noted.token, noted.code) == ("thief", "token-1", "token_taken")


async def test_a_worker_has_a_limited_number_of_types_of_boxes(harness: GatewayHarness) -> None:
    many = await harness.dial()
    await many.hello("w", box_types=tuple(f"type-{n}" for n in range(33)))
    refused = await many.next(wire.Refused)
    assert (refused.code, refused.message) == ("invalid", "a worker has at most 32 types of Boxes")


async def test_a_token_has_a_limited_number_of_workers(harness: GatewayHarness) -> None:
    harness.token = attrs.evolve(harness.token, max_workers=3)
    await harness.store.put_token(harness.token)
    there = [await harness.worker(f"w{n}", boxes=1) for n in range(3)]
    for _ in range(2):
        fourth = await harness.dial()
        await fourth.hello("w3")
        refused = await fourth.next(wire.Refused)
        assert (refused.code, refused.again) == ("no_place", False)
        assert "3 workers" in refused.message and "token create" in refused.message
    assert len(await harness.store.workers()) == 3
    again = await harness.worker("w1")
    assert again.id == there[1].id, "it has its place"
    await there[2].socket.close()
    await harness.unsteady.until(harness.unsteady.done, "disconnect_workers", 2)
    assert await harness.state_of(there[2]) == "disconnected"
    early = await harness.dial()
    await early.hello("w3")
    refused = await early.next(wire.Refused)
    assert (refused.code, refused.again) == ("not_yet", True), "its Boxes are still there"
    assert "3 workers" in refused.message
    await harness.leader.commit(inbox=await harness.leader.take_inbox())  # its Boxes never arrived
    await harness.worker("w3")
    assert sorted(one.name for one in await harness.store.workers()) == ["w0", "w1", "w3"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "x" * 256},
        {"name": "a line\n"},
        {"name": "\u202edesrever"},
        {"name": "a\u2028b"},
        {"name": "a\x9bb"},
        {"name": "a\u200bb"},
        {"name": "a\U000e0041b"},
        {"name": "in-process"},
        {"name": "in-process@node-2"},
        {"identity": "two\nlines"},
        {"identity": "in-process"},
        {"box_types": ()},
        {"box_types": ("default", "\x1b[31m")},
        {"box_types": ("d",) * (wire.MAX_BOXES + 1)},
    ],
)
async def test_an_invalid_hello_is_refused(
    harness: GatewayHarness, changes: dict[str, object]
) -> None:
    worker = await harness.dial()
    await worker.hello(**changes)
    refused = await worker.next(wire.Refused)
    assert (refused.code, refused.again) == ("invalid", False)
    assert refused.message.startswith("in-process") or next(iter(changes)) in refused.message
    assert await worker.closed() == 1008
    assert harness.asked == []


async def test_a_worker_that_sends_nothing_is_disconnected(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, hello=0.05)) as harness:
        worker = await harness.dial()
        assert await worker.closed() == 1008
        assert harness.gateway.figures.ended["no_hello"] == 1


async def test_a_silent_connection_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, silence=0.2)) as harness:
        worker = await harness.worker()
        for _ in range(20):
            await worker.beat()
        assert await worker.closed() == 1013
        assert harness.gateway.figures.ended["silent"] == 1
        await harness.disconnected(worker)
    said = f"worker w ({worker.id}) at 127.0.0.1: it was silent for 0.2 s"
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == [said]


async def test_a_node_that_leaves_tells_its_workers(harness: GatewayHarness) -> None:
    worker, idle = await harness.worker("w"), await harness.worker("v")
    nobody = await harness.dial()
    closing = asyncio.create_task(harness.gateway.close())
    await worker.next(wire.Leave)
    await worker.socket.close()
    await idle.next(wire.Leave)
    late = await harness.dial()
    await late.hello("late")
    assert (await late.next(wire.Refused)).again
    assert await idle.closed() == 1012
    await nobody.closed()
    await closing
    # They reconnect at once, so they are not reported as absent.
    assert {one.state for one in await harness.store.workers()} == {"connected"}
    assert list(harness.gateway.connected) == []


async def test_a_worker_reports_how_long_its_jobs_may_take_to_end(harness: GatewayHarness) -> None:
    await harness.worker(stop_grace=300.0)
    (pulse,) = await harness.store.pulses(SHARD)
    assert pulse.stop_grace == 300.0
    older = await harness.worker("older")
    pulses = {one.worker: one.stop_grace for one in await harness.store.pulses(SHARD)}
    assert pulses[older.id] is None
    odd = await harness.dial()
    await odd.hello("odd", stop_grace=1e9)
    refused = await odd.next(wire.Refused)
    assert "stop_grace" in refused.message


# --- Drained workers ------------------------------------------------------------------------


async def drained(harness: GatewayHarness, worker: FakeWorker, done: bool, number: int = 1) -> None:
    """``number``: of the worker's connection."""
    drain = Drain("ann", NOW, done=done)
    await harness.leader.commit(drains=(DrainChange(worker.id, drain, number),))


async def test_a_drained_worker_without_jobs_is_told_to_end(harness: GatewayHarness) -> None:
    worker = await harness.worker(ends_when_drained=True)
    await drained(harness, worker, done=False)
    await worker.beat()
    await drained(harness, worker, done=True)
    assert not any(isinstance(each, wire.Drained) for each in worker.waiting), "it has a job"
    await worker.beat()
    await worker.next(wire.Drained)
    again = await harness.worker(ends_when_drained=True)
    await again.beat()
    assert not any(isinstance(each, wire.Drained) for each in again.waiting), "it came again"
    await drained(harness, again, done=True, number=2)
    await again.beat()
    await again.next(wire.Drained)


async def test_a_worker_of_an_earlier_version_is_not_told_to_end(harness: GatewayHarness) -> None:
    """It would take the message for a fault of the node, and connect again."""
    worker = await harness.worker()
    await drained(harness, worker, done=True)
    await worker.beat()
    await worker.beat()
    assert not any(isinstance(each, wire.Drained) for each in worker.waiting)
