"""What a worker says: stored, and then acknowledged; what is not its own is told so."""

import asyncio
from pathlib import Path

import attrs
import pytest

from boxsched.model import JobId, WorkloadId
from boxsched.protocol import inbox, wire
from boxsched.states import Result
from boxsched.store.store import Store
from boxsched.worker.agent.spool import MARKS_BYTES
from tests.contract.world import NOW
from tests.gateway.house import House, Worker, passed, started


@pytest.fixture
async def worker(house: House) -> Worker:
    return await with_jobs(house)


async def with_jobs(house: House) -> Worker:
    """With two Boxes, a job on each."""
    worker = await house.worker(boxes=2)
    await house.take_boxes()
    await house.start(0)
    await house.start(1)
    await worker.runs(2)
    return worker


async def test_reports_are_in_the_inbox_when_they_are_acknowledged(
    house: House, worker: Worker
) -> None:
    first, second = worker.tasks
    said = (started(first), passed(first), started(second))
    assert (await worker.said(*said)).stale == ()
    assert house.reports() == list(said)
    assert [entry.kind for entry in await house.store.inbox(1, 10)] == ["reports"]
    command = house.asked[-1]
    assert isinstance(command, inbox.Reports)
    assert command.worker == worker.id
    assert house.gateway.figures.reports == 3


async def test_many_in_flight_are_stored_in_order(house: House, worker: Worker) -> None:
    task = worker.tasks[0]
    asked = len(house.asked)
    for number in range(500):
        await worker.say(wire.Said(number, (started(task, NOW + number),)))
    for number in range(500):
        assert (await worker.next(wire.Ack)).number == number
    assert [report.at for report in house.reports()] == [NOW + n for n in range(500)]
    assert len(house.asked) - asked < 250, "what comes during a write goes together"


async def test_stale_reports_change_nothing_and_are_counted(house: House, worker: Worker) -> None:
    task = worker.tasks[0]
    old = inbox.JobStarted(task.job, task.lease_token - 1, NOW)
    never = inbox.JobFinished(12345, 1, NOW, Result.FAILED, 1, None)
    ack = await worker.said(old, started(task), never)
    assert ack.stale == ((old.job, old.lease_token), (never.job, never.lease_token))
    assert house.reports() == [started(task)]
    assert house.gateway.figures.stale_reports == 2


async def test_a_lease_that_is_newer_than_the_last_level_is_known(
    house: House, worker: Worker
) -> None:
    task = worker.tasks[0]
    await house.leader.finish(WorkloadId(task.workload), 0)
    workload = await house.start(0, hint=False)
    (assigned,) = [one for one in await house.leader.assignments() if one.workload == workload]
    report = inbox.JobStarted(assigned.job, assigned.lease_token, NOW)
    assert (await worker.said(report)).stale == ()
    assert house.reports() == [report]


async def test_a_commit_is_answered_with_the_one_that_its_workload_runs(
    house: House, worker: Worker
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


async def test_another_workers_job_cannot_be_reported(house: House, worker: Worker) -> None:
    other = await house.worker("other")
    task = worker.tasks[0]
    assert (await other.said(passed(task))).stale == ((task.job, task.lease_token),)
    assert house.reports() == []


async def test_output_is_stored_when_it_is_acknowledged(house: House, worker: Worker) -> None:
    task = worker.tasks[0]
    ack = await worker.logged(
        wire.Chunk(task.job, task.attempt, 0, b"one\n"),
        wire.Chunk(task.job, task.attempt, 4, b"\x00\xff\n"),
        wire.Chunk(task.job, task.attempt + 1, 0, b"of an attempt that is not"),
        wire.Chunk(777, 1, 0, b"of a job that is not its own"),
    )
    assert ack.stale == ()
    assert await house.log_of(task) == b"one\n\x00\xff\n"
    assert await house.log_of(task, attempt=2) == b""


async def test_a_node_keeps_no_more_of_a_log_than_its_own_limit(house: House) -> None:
    """Whatever the worker was told, or likes to send."""
    limit, size = 1 << 20, 60_000
    house.gateway._side = attrs.evolve(house.gateway._side, log_limit=limit)
    worker = await house.worker(boxes=2)
    await house.take_boxes()
    await house.start(0)
    await worker.runs(1)
    task = worker.tasks[0]
    for offset in range(0, limit + 4 * size, size):
        await worker.logged(wire.Chunk(task.job, task.attempt, offset, b"x" * size))
    await worker.logged(wire.Chunk(task.job, task.attempt, 1 << 29, b"far behind"))
    last = limit // size * size
    await worker.logged(wire.Chunk(task.job, task.attempt, last, b"x" * size))  # again
    text = await house.store.log(JobId(task.job), task.attempt, 0, 4 * limit)
    kept, _, mark = text.partition(b"\n")
    assert kept == b"x" * (limit + MARKS_BYTES)
    assert mark == b"[boxsched: this node keeps 1 MiB of a log: the rest was cut]\n"


async def test_output_said_again_is_stored_once(house: House, worker: Worker) -> None:
    task = worker.tasks[0]
    chunks = [wire.Chunk(task.job, 1, 6 * n, b"%05d\n" % n) for n in range(50)]
    await worker.logged(*chunks[:30])
    await worker.logged(*chunks[20:])
    assert await house.log_of(task) == b"".join(chunk.data for chunk in chunks)


async def test_a_heartbeat_is_in_the_store_when_it_is_acknowledged(house: House) -> None:
    workers = [await house.worker(f"w{n}") for n in range(20)]
    before = {pulse.worker: pulse.beat for pulse in await house.store.pulses(1)}
    done = house.unsteady.done["beat"]
    await asyncio.gather(*(worker.beat() for worker in workers))
    for pulse in await house.store.pulses(1):
        assert pulse.beat > before[pulse.worker]
    assert house.unsteady.done["beat"] - done <= 3, "one statement for all"


@pytest.mark.parametrize("what", ["report", "output", "commit"])
async def test_stale_attempts_are_reported_when_that_is_durable(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked up may be a commit that the standby has not got yet."""
    asked, durable = asyncio.Event(), asyncio.Event()

    async def settle(store: Store) -> None:
        asked.set()
        await durable.wait()

    monkeypatch.setattr(Store, "settle", settle)
    async with House.open(tmp_path) as house:
        worker = await with_jobs(house)
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
