"""Messages of a worker are stored and then acknowledged; messages about other workers' jobs are
reported as stale."""

import asyncio
from pathlib import Path

import attrs
import pytest

from boxsched.model import JobId, WorkloadId
from boxsched.protocol import inbox, wire
from boxsched.states import Result
from boxsched.store.store import Store
from boxsched.worker.agent.spool import most_bytes
from tests.contract.store_data import NOW
from tests.gateway.harness import FakeWorker, GatewayHarness, passed, started


@pytest.fixture
async def worker(harness: GatewayHarness) -> FakeWorker:
    return await with_jobs(harness)


async def with_jobs(harness: GatewayHarness) -> FakeWorker:
    """A worker with two Boxes and a job on each."""
    worker = await harness.worker(boxes=2)
    await harness.take_boxes()
    await harness.start(0)
    await harness.start(1)
    await worker.runs(2)
    return worker


async def test_acknowledged_reports_are_in_the_inbox(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    first, second = worker.tasks
    said = (started(first), passed(first), started(second))
    assert (await worker.said(*said)).stale == ()
    assert harness.reports() == list(said)
    assert [entry.kind for entry in await harness.store.inbox(1, 10)] == ["reports"]
    command = harness.asked[-1]
    assert isinstance(command, inbox.Reports)
    assert command.worker == worker.id
    assert harness.gateway.figures.reports == 3


async def test_many_in_flight_are_stored_in_order(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    task = worker.tasks[0]
    asked = len(harness.asked)
    for number in range(500):
        await worker.say(wire.Said(number, (started(task, NOW + number),)))
    for number in range(500):
        assert (await worker.next(wire.Ack)).number == number
    assert [report.at for report in harness.reports()] == [NOW + n for n in range(500)]
    assert len(harness.asked) - asked < 250, "what comes during a write goes together"


async def test_stale_reports_change_nothing_and_are_counted(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    task = worker.tasks[0]
    old = inbox.JobStarted(task.job, task.lease_token - 1, NOW)
    never = inbox.JobFinished(12345, 1, NOW, Result.FAILED, 1, None)
    ack = await worker.said(old, started(task), never)
    assert ack.stale == ((old.job, old.lease_token), (never.job, never.lease_token))
    assert harness.reports() == [started(task)]
    assert harness.gateway.figures.stale_reports == 2


async def test_a_lease_that_is_newer_than_the_last_level_is_known(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    task = worker.tasks[0]
    await harness.leader.finish(WorkloadId(task.workload), 0)
    workload = await harness.start(0, hint=False)
    (assigned,) = [one for one in await harness.leader.assignments() if one.workload == workload]
    report = inbox.JobStarted(assigned.job, assigned.lease_token, NOW)
    assert (await worker.said(report)).stale == ()
    assert harness.reports() == [report]


async def test_a_commit_is_answered_with_the_commit_that_its_workload_runs(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    task = worker.tasks[0]
    assert task.commit is not None
    first, second = (task.commit.ljust(40, char) for char in "ab")
    for number, found in ((1, first), (2, second)):
        await worker.say(wire.Found(number, task.job, task.lease_token, found))
        assert await worker.next(wire.Ack) == wire.Ack(number, (), first)
    await worker.say(wire.Found(3, task.job, task.lease_token - 1, "c" * 40))
    stale = ((task.job, task.lease_token - 1),)
    assert await worker.next(wire.Ack) == wire.Ack(3, stale, None)


async def test_another_workers_job_cannot_be_reported(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    other = await harness.worker("other")
    task = worker.tasks[0]
    assert (await other.said(passed(task))).stale == ((task.job, task.lease_token),)
    assert harness.reports() == []


async def test_acknowledged_output_is_stored(harness: GatewayHarness, worker: FakeWorker) -> None:
    task = worker.tasks[0]
    ack = await worker.logged(
        wire.Chunk(task.job, task.attempt, 0, b"one\n"),
        wire.Chunk(task.job, task.attempt, 4, b"\x00\xff\n"),
        wire.Chunk(task.job, task.attempt + 1, 0, b"of an attempt that is not"),
        wire.Chunk(777, 1, 0, b"of a job that is not its own"),
    )
    assert ack.stale == ()
    assert await harness.log_of(task) == b"one\n\x00\xff\n"
    assert await harness.log_of(task, attempt=2) == b""


async def test_a_node_keeps_no_more_of_a_log_than_its_own_limit(harness: GatewayHarness) -> None:
    """Whatever limit the worker was told, or prefers."""
    limit, size = 1 << 20, 60_000
    harness.gateway._side = attrs.evolve(harness.gateway._side, log_limit=limit)
    worker = await harness.worker(boxes=2)
    await harness.take_boxes()
    await harness.start(0)
    await worker.runs(1)
    task = worker.tasks[0]
    for offset in range(0, 2 * limit + 4 * size, size):
        await worker.logged(wire.Chunk(task.job, task.attempt, offset, b"x" * size))
    await worker.logged(wire.Chunk(task.job, task.attempt, 1 << 29, b"far behind"))
    last = 2 * limit // size * size
    await worker.logged(wire.Chunk(task.job, task.attempt, last, b"x" * size))  # again
    text = await harness.store.log(JobId(task.job), task.attempt, 0, 4 * limit)
    kept, _, mark = text.partition(b"\n")
    assert kept == b"x" * (most_bytes(limit))
    assert mark == b"[boxsched: this node stores 1 MiB of a log: the rest was cut]\n"


async def test_repeated_output_is_stored_once(harness: GatewayHarness, worker: FakeWorker) -> None:
    task = worker.tasks[0]
    chunks = [wire.Chunk(task.job, 1, 6 * n, b"%05d\n" % n) for n in range(50)]
    await worker.logged(*chunks[:30])
    await worker.logged(*chunks[20:])
    assert await harness.log_of(task) == b"".join(chunk.data for chunk in chunks)


async def test_an_acknowledged_heartbeat_is_in_the_store(harness: GatewayHarness) -> None:
    workers = [await harness.worker(f"w{n}") for n in range(20)]
    before = {pulse.worker: pulse.beat for pulse in await harness.store.pulses(1)}
    done = harness.unsteady.done["beat"]
    await asyncio.gather(*(worker.beat() for worker in workers))
    for pulse in await harness.store.pulses(1):
        assert pulse.beat > before[pulse.worker]
    assert harness.unsteady.done["beat"] - done <= 3, "one statement for all"


@pytest.mark.parametrize("what", ["report", "output", "commit"])
async def test_stale_attempts_are_reported_once_that_is_durable(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up may have seen a commit that the standby does not have yet."""
    asked, durable = asyncio.Event(), asyncio.Event()

    async def settle(store: Store) -> None:
        asked.set()
        await durable.wait()

    monkeypatch.setattr(Store, "settle", settle)
    async with GatewayHarness.open(tmp_path) as harness:
        worker = await with_jobs(harness)
        task = worker.tasks[0]
        said: dict[str, wire.FromWorker] = {
            "report": wire.Said(1, (inbox.JobStarted(task.job, task.lease_token - 1, NOW),)),
            "output": wire.Logged(1, (wire.Chunk(task.job, task.attempt + 1, 0, b"x"),)),
            "commit": wire.Found(1, task.job, task.lease_token - 1, "a" * 40),
        }
        await worker.say(said[what])
        await worker.say(wire.Beat(2))
        assert (await worker.next(wire.Ack)).number == 2
        async with asyncio.timeout(20):
            await asked.wait()
        assert not [one for one in worker.waiting if isinstance(one, wire.Ack)]
        durable.set()
        assert (await worker.next(wire.Ack)).number == 1


async def test_what_a_workers_cache_did_is_counted_once(
    harness: GatewayHarness, worker: FakeWorker
) -> None:
    """A heartbeat has the counts since the worker's start; an earlier worker sends none."""
    await worker.beat()
    assert not harness.gateway.figures.cache
    for number, saved in ((7, 1_500), (8, 1_500), (9, 4_000)):
        await worker.say(wire.Beat(number, cache=wire.CacheCounts(2, 1, saved_milliseconds=saved)))
        await worker.next(wire.Ack)
    known = wire.CacheCounts(2, 1, saved_milliseconds=4_000)
    again = await harness.worker(cache=known)  # connects again: nothing has happened meanwhile
    await again.say(wire.Beat(1, cache=wire.CacheCounts(3, 1, saved_milliseconds=4_500)))
    await again.next(wire.Ack)
    counted = harness.gateway.figures.cache
    assert (counted["hits"], counted["misses"], counted["saved_milliseconds"]) == (3, 1, 4_500)
