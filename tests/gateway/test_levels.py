"""Levels sent to a worker: when they are new, and at intervals."""

import asyncio
from pathlib import Path

import attrs

from boxsched.gateway.levels import level_text
from boxsched.model import Kind, WorkerId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.states import JobState
from tests.contract.store_data import assigned, stopping
from tests.gateway.harness import QUICK, GatewayHarness


async def test_a_level_lists_all_jobs_that_the_worker_should_run(harness: GatewayHarness) -> None:
    worker = await harness.worker(boxes=2)
    await harness.take_boxes()
    await harness.start(1)
    (task,) = (await worker.level()).tasks
    assert (task.name, task.ordinal, task.stop, task.started) == ("job 1", 2, False, False)
    assert (task.commands, task.environment, task.kind) == (
        ("make test",),
        {"CI": "true"},
        Kind.BUILD,
    )
    assert (task.attempt, task.lease_token) == (1, harness.leader.batch)
    await harness.start(0)
    assert {task.ordinal for task in (await worker.level()).tasks} == {1, 2}


async def test_a_stop_makes_a_new_level(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await harness.take_boxes()
    workload = await harness.start(0)
    assert not (await worker.level()).tasks[0].stop
    (one,) = await harness.leader.assignments()
    job = assigned(one.job, one.box, one.lease_token)
    await harness.leader.commit(
        workloads=(stopping(workload, harness.leader.now()),),
        jobs=(attrs.evolve(job, state=JobState.STOPPING),),
    )
    harness.gateway.look([worker.id])
    assert (await worker.level()).tasks[0].stop


async def test_unchanged_levels_are_not_sent(harness: GatewayHarness) -> None:
    worker = await harness.worker()
    await harness.take_boxes()
    await harness.start(0)
    await worker.level()
    levels = harness.gateway.figures.levels
    for _ in range(5):
        await harness.gateway.looked([worker.id])
    assert harness.gateway.figures.levels == levels
    await harness.start(1)
    await worker.runs(2)


async def test_a_level_is_repeated_periodically(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path, attrs.evolve(QUICK, level=0.1)) as harness:
        worker = await harness.worker()
        for _ in range(3):
            assert await worker.level() == wire.Level(())


async def test_requests_during_a_look_up_share_the_next_one(harness: GatewayHarness) -> None:
    workers = [await harness.worker(f"w{n}") for n in range(5)]
    before = harness.gateway.figures.look_ups
    ids = [worker.id for worker in workers]
    await asyncio.gather(*(harness.gateway.looked([id_]) for id_ in ids for _ in range(20)))
    assert harness.gateway.figures.look_ups - before <= 2


async def test_without_hints_news_are_found_by_looking_again(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path, hints_reach=lambda: False) as harness:
        worker = await harness.worker()
        await harness.take_boxes()
        await harness.start(0, hint=False)
        await worker.runs(1)
        await harness.start(1, hint=False)
        await worker.runs(2)


async def test_workers_elsewhere_are_not_looked_up(harness: GatewayHarness) -> None:
    before = harness.gateway.figures.look_ups
    await harness.gateway.looked([])
    await harness.gateway.looked([WorkerId(12345)])
    assert harness.gateway.figures.look_ups == before


def test_a_level_that_is_too_large_keeps_the_running_jobs() -> None:
    script = "x" * (wire.MAX_MESSAGE_BYTES // 4)
    runs = [_assignment(n, script, started=True) for n in (2, 4, 6)]
    waits = [_assignment(n, script, started=False) for n in (1, 3, 5, 7)]
    text = level_text([*waits, *runs])
    assert len(text) <= wire.MAX_MESSAGE_BYTES
    level = wire.from_node.decode(text)
    assert isinstance(level, wire.Level)
    assert {2, 4, 6} < {task.job for task in level.tasks}
    assert all(task.commands == (script,) for task in level.tasks if not task.started)
    small = level_text([_assignment(1, "true", started=True)])
    assert b'["true"]' in small


def test_of_the_jobs_that_must_wait_the_oldest_lease_goes_first() -> None:
    """Each gets its turn, whatever comes after it: one fits at a time."""
    script = "x" * (wire.MAX_MESSAGE_BYTES * 3 // 5)
    leases = {1: 30, 2: 10, 3: 50, 4: 20, 5: 40}
    waits = [_assignment(job, script, started=False, lease=leases[job]) for job in leases]
    told: list[int] = []
    while waits:
        level = wire.from_node.decode(level_text(waits))
        assert isinstance(level, wire.Level)
        (begun,) = level.tasks
        told.append(begun.job)
        waits = [one for one in waits if one.job != begun.job]
    assert told == [2, 4, 1, 5, 3]


def test_a_job_that_just_fits_is_sent_and_one_byte_more_waits() -> None:
    """Beside another job that forces the level to be cut."""
    small = _assignment(1, "", started=False, lease=1)
    one = len(level_text([small])) - len(level_text([]))  # without a comma
    room = wire.MAX_MESSAGE_BYTES - len(level_text([])) - one - 1
    for more, told in ((0, [1]), (1, [])):
        fits = _assignment(1, "x" * (room + more), started=False, lease=1)
        level = wire.from_node.decode(
            level_text([fits, _assignment(2, "y", started=False, lease=2)])
        )
        assert isinstance(level, wire.Level)
        assert [task.job for task in level.tasks] == told


def _assignment(job: int, script: str, *, started: bool, lease: int = 1) -> Assignment:
    return Assignment(
        job, 1, lease, 1, 1, False, 60.0, "job", (script,), {}, 1, 1, Kind.BUILD, "web",
        "main", None, None, None, None, started,
    )  # type: ignore[arg-type]  # fmt: skip
