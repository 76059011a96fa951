"""A new leader loads exactly what the old one knew, while workers leave and return."""

import random
from pathlib import Path
from typing import Any

import pytest

from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.scheduling import interface as core
from boxsched.states import Result
from boxsched.store.operating.check import check
from tests.engine.harness import EngineHarness
from tests.engine.test_restart import _some_workload, fingerprint

STEPS = 80
WORKERS = ("a", "b", "c")


class Workers:
    """Three workers, which send heartbeats while they are connected."""

    def __init__(self, harness: EngineHarness, chance: random.Random) -> None:
        self.harness, self.chance = harness, chance
        self.known: dict[str, Connected] = {}
        self.there: set[str] = set()

    async def connect(self, name: str) -> None:
        count = self.chance.choice((1, 2, 2, 2))
        new = NewWorker(name, name, "there", "test", ("default",) * count)
        self.known[name] = one = await self.harness.store.connect_worker(new)
        rows = tuple((row.id, row.ordinal, row.box_type) for row in one.boxes)
        worker, number = one.connection.worker, one.connection.number
        await self.harness.ask(inbox.BoxesSet(worker, rows, "test", number))
        self.there.add(name)

    async def beat(self) -> None:
        connections = {n: self.known[n].connection for n in self.there}
        alive = await self.harness.store.beat(list(connections.values()))
        for name, connection in connections.items():
            if connection.worker not in alive:
                await self.connect(name)

    async def say(self) -> None:
        for name, one in self.known.items():
            if name not in self.there and self.chance.random() < 0.7:
                continue  # mostly connected workers report, but late reports come too
            worker = one.connection.worker
            held = (await self.harness.store.assignments([worker]))[worker]
            picked = self.chance.sample(held, self.chance.randint(0, len(held)))
            if picked:
                said = tuple(self._report(a) for a in picked)
                await self.harness.ask(inbox.Reports(worker, said))

    def _report(self, a: Assignment) -> Any:
        now, roll = self.harness.clock.now(), self.chance.random()
        if roll < 0.5:
            return inbox.JobStarted(a.job, a.lease_token, now)
        if roll < 0.65 and not a.stop:
            return inbox.JobFinished(
                a.job, a.lease_token, now, Result.FAILED, None, "lost", lost=True
            )
        result = Result.STOPPED if a.stop else self.chance.choice((Result.PASSED, Result.FAILED))
        return inbox.JobFinished(a.job, a.lease_token, now, result, 0, None)


async def as_loaded(harness: EngineHarness) -> None:
    """Return the state with which a new leader starts: connected workers are present, and only
    reported losses count.
    """
    books = harness.engine.books
    assert books is not None
    gone = {pulse.worker for pulse in await harness.store.pulses(1) if not pulse.connected}
    away = tuple(book.id for book in books.boxes.values() if book.worker in gone)
    books.core.apply(core.BoxesBack(tuple(set(books.boxes) - set(away))), 0.0)
    books.core.apply(core.BoxesAway(away), 0.0)
    for (workload, job), ended in list(books.core.lost.items()):
        if not ended:
            books.core.apply(core.JobsFound(workload, (job,)), 0.0)
    books.lost = {job: True for job, ended in books.lost.items() if ended}


@pytest.mark.parametrize("seed", range(6))
async def test_a_restart_while_workers_leave_and_return(tmp_path: Path, seed: int) -> None:
    chance = random.Random(f"workers {seed}")
    harness = await EngineHarness.open(tmp_path, boxes=1)
    workers = Workers(harness, chance)
    await harness.project("web")
    await harness.project("api", 3)
    for name in WORKERS:
        await workers.connect(name)
    await harness.settle()
    for _ in range(STEPS):
        for _ in range(chance.choice((1, 1, 3, 10, 20))):
            harness.clock.time += chance.choice((0.5, 1.0, 3.0))
            assert harness.first is not None
            await harness.store.beat([harness.first.connection])
            await workers.beat()
            if chance.random() < 0.7:
                await harness.settle()
        match chance.randrange(8):
            case 0 | 1:
                await harness.submit(
                    *(_some_workload(harness, chance) for _ in range(chance.randint(1, 2)))
                )
            case 2 | 3 | 4:
                await workers.say()
            case 5:
                await harness.ask(inbox.Stop(chance.randint(1, 60), "someone"))
            case 6:
                name = chance.choice(WORKERS)
                workers.there.discard(name)
            case 7:
                await workers.connect(chance.choice(WORKERS))
        if chance.random() < 0.2:
            await harness.settle()
            books = harness.engine.books
            assert books is not None
            books.core.check()
            await as_loaded(harness)
            before = fingerprint(books)
            await harness.restart()
            assert harness.engine.books is not None
            assert fingerprint(harness.engine.books) == before
    await harness.settle()
    assert await check(f"sqlite:///{tmp_path / 'harness.sqlite'}") == []
    await harness.close()
