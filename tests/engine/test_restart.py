"""The store always holds all that the engine knows: a restart changes no decision."""

import math
import random
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.engine.books import Books
from boxsched.model import Cancellation, ProjectId, ServerQueue, WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.shards import Pause
from boxsched.states import JobState, Result
from boxsched.store.operating.check import check
from tests.engine.harness import EngineHarness

STEPS = 120


def fingerprint(books: Books) -> dict[str, Any]:
    """Return everything in the books and the core that a decision can depend on."""
    core = books.core
    core.check()
    return {
        "workloads": {
            id_: (w.state, w.priority, w.created_at, w.fail_fast, w.ask.jobs, w.automatic, w.spared,
                  None if w.run else w.promise,
                  w.lane.key if w.lane else None, w.ahead.id if w.ahead else None,
                  w.run and (w.run.started_at, [b and b.id for b in w.run.boxes],
                             w.run.given_again(w.ask), w.run.failed, w.run.stop_cause))
            for id_, w in sorted(core.workloads.items())
        },
        "pauses": core.pauses.in_order(),
        "superseded": {
            lane: core.lanes.superseded(lane)
            for lane in {w.lane.key for w in core.workloads.values() if w.lane}
        },
        "queue": [w.id for w in core.queue.in_order(1000)],
        "boxes": {
            id_: (b.busy, b.retired, b.pool.box_type) for id_, b in sorted(core.boxes.items())
        },
        "free": {p.box_type: (p.free, p.wanted, p.surplus) for p in core.pools.values()},
        "warm": {b.id: b.warm_keys for p in core.pools.values() for b in p.free_boxes.values()},
        "limits": {p.id: p.limit for p in core.register.projects.values() if p.limit is not None},
        "used": (
            core.usage.boxes,
            [
                (e[0], e[1], e[2], e[3].jobs, e[3].end, e[3].last)
                for e in core.usage.by_end(math.inf)
            ],
        ),
        "jobs": {
            id_: [(j.state, j.box, j.lease_token, j.attempt, j.started_at, j.reason, j.given_at)
                  for j in w.running or () if j.state is not JobState.FINISHED]
            for id_, w in sorted(books.workloads.items())
        },
        "names": {id_: (w.number, w.kind, w.jobs) for id_, w in sorted(books.workloads.items())},
        "durations": dict(books.durations),
    }  # fmt: skip


async def step(harness: EngineHarness, chance: random.Random) -> None:
    """Do something at random, sometimes in one batch with something else."""
    harness.clock.time += chance.choice((0, 0, 0.5, 3))
    assert harness.first is not None
    await harness.store.beat([harness.first.connection])
    running = await harness.assignments()
    match chance.randrange(11):
        case 0 | 1 | 2:
            await harness.submit(
                *(_some_workload(harness, chance) for _ in range(chance.randint(1, 3)))
            )
        case 3 | 4 if running:
            picked = chance.sample(running, min(len(running), chance.randint(1, 4)))
            reports = tuple(_report(harness, a, chance) for a in picked)
            await harness.ask(inbox.Reports(harness.worker, reports))
        case 5:
            id_ = chance.randint(1, 40)
            await harness.ask(inbox.Stop(id_, "someone"))
        case 6 if chance.random() < 0.3:
            await harness.connect(chance.randint(2, 6))
        case 7 if chance.random() < 0.3:
            await harness.project("api", chance.choice((None, 1, 2, 3)))
            # the limit counts from the time it was stored, also for a new leader
            await harness.settle()
        case 8:
            await harness.ask(inbox.Reprioritize(chance.randint(1, 40), 70, "someone", ""))
        case 9:
            await _pause(harness, chance)
            await harness.settle()  # like a limit
        case 10:
            for project in await harness.store.unplanned_projects(ProjectId(0), 2):
                for id_ in await harness.store.unplanned(project, WorkloadId(0), 1):
                    await _plan(harness, id_, chance)
            await harness.settle()


async def _pause(harness: EngineHarness, chance: random.Random) -> None:
    name, project = chance.choice("ab"), chance.choice((None, "web"))
    if chance.random() < 0.5:
        await harness.store.drop_pause(name, "someone")
        return
    branch = chance.choice((None, "x")) if project else None
    until = chance.choice((None, harness.clock.now() + 1))
    id_ = harness.projects[project][0] if project else None
    automatic = chance.random() < 0.3
    now = harness.clock.now()
    await harness.store.put_pause(Pause(name, id_, branch, None, automatic, "", "me", now, until))


async def _plan(harness: EngineHarness, id_: WorkloadId, chance: random.Random) -> None:
    if chance.random() < 0.3:
        await harness.store.fail_plan(id_, "the file is wrong", "b" * 40)
    else:
        await harness.store.plan(id_, harness.new(jobs=chance.randint(1, 4)).jobs, "a" * 40)


def _some_workload(harness: EngineHarness, chance: random.Random) -> Any:
    server = "production" if chance.random() < 0.2 else None
    new = harness.new(
        chance.choice(("web", "api")),
        branch=chance.choice(("main", "x", "y")),
        server=server,
        jobs=chance.randint(1, 3) if server or chance.random() < 0.8 else 0,
        priority=chance.choice((None, 50, 60)),
        cancellation=chance.choice(list(Cancellation)),
        fail_fast=chance.random() < 0.3,
    )
    return attrs.evolve(
        new,
        spare_after=chance.choice((None, 1, 2)),
        automatic=server is not None and chance.random() < 0.7,
        queue=ServerQueue.NEWEST,
    )


def _report(harness: EngineHarness, a: Assignment, chance: random.Random) -> Any:
    if chance.random() < 0.4:
        return inbox.JobStarted(a.job, a.lease_token, harness.clock.now())
    result = Result.STOPPED if a.stop else chance.choice((Result.PASSED, Result.FAILED))
    return inbox.JobFinished(a.job, a.lease_token, harness.clock.now(), result, 0, None)


@pytest.mark.parametrize("seed", range(8))
async def test_a_restart_at_any_time_changes_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    harness = await EngineHarness.open(tmp_path, boxes=4)
    await harness.project("web")
    await harness.project("api", 3)
    await harness.settle()
    for _ in range(STEPS):
        await step(harness, chance)
        if chance.random() < 0.6:
            await harness.settle()
        elif chance.random() < 0.5:
            await harness.engine.turn()
        if chance.random() < 0.2:
            assert harness.engine.books is not None
            before = fingerprint(harness.engine.books)
            await harness.restart()
            assert harness.engine.books is not None
            assert fingerprint(harness.engine.books) == before
    await harness.settle()
    assert await check(f"sqlite:///{tmp_path / 'harness.sqlite'}") == []
    await harness.close()
