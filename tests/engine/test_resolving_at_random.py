"""Resolving amid silences, returns, restarts, stops and late reports, at random: every invariant
holds, and no attempt counts whose lease token is an old one."""

import random
from pathlib import Path

import pytest

from boxsched.model import WorkloadId, job_index
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import Resolution
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.states import JobState, Result, State
from boxsched.store.records import Job
from tests.engine.shop import Shop

STEPS = 60
SILENT_SECONDS, LOST_SECONDS = 17, 139
NAMES = ("v", "w")


class Yard:
    """Two workers, each there or away, and what each was ever told to run."""

    def __init__(self, shop: Shop, chance: random.Random) -> None:
        self.shop = shop
        self.chance = chance
        self.there: dict[str, Connected] = {}
        self.told: dict[str, list[Assignment]] = {name: [] for name in NAMES}
        self.ids: dict[str, Connected] = {}
        self.workloads: list[WorkloadId] = []

    async def connect(self, name: str) -> None:
        new = NewWorker(name, name, "there", "test", ("default",) * 2)
        connected = await self.shop.store.connect_worker(new)
        rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        worker, number = connected.connection.worker, connected.connection.number
        self.there[name] = self.ids[name] = connected
        await self.shop.ask(inbox.BoxesSet(worker, rows, "test", number))

    async def look(self) -> None:
        for name, connected in self.there.items():
            worker = connected.connection.worker
            known = {(one.job, one.lease_token) for one in self.told[name]}
            for one in (await self.shop.store.assignments([worker]))[worker]:
                if (one.job, one.lease_token) not in known:
                    self.told[name].append(one)

    async def report(self) -> None:
        """On anything that a worker was ever told: mostly late."""
        name = self.chance.choice(NAMES)
        if not self.told[name]:
            return
        one = self.chance.choice(self.told[name][-4:])
        await self.shop.settle()
        before = await self.job(one)
        now = self.shop.clock.now()
        ended = self.chance.choice((Result.PASSED, Result.FAILED, Result.STOPPED))
        said = self.chance.choice(
            (
                inbox.JobStarted(one.job, one.lease_token, now),
                inbox.JobFinished(one.job, one.lease_token, now, ended, 0, None, seconds=1.0),
            )
        )
        await self.shop.ask(inbox.Reports(self.ids[name].connection.worker, (said,)))
        if before.lease_token != one.lease_token:
            await self.shop.settle()
            assert await self.job(one) == before  # an old token changes nothing

    async def job(self, one: Assignment) -> Job:
        found = await self.shop.look(one.workload)
        return found.jobs[job_index(one.job)]

    async def resolve(self) -> None:
        if not self.workloads:
            return
        for job in (await self.shop.look(self.chance.choice(self.workloads))).jobs:
            if job.lease_token is not None:
                token = job.lease_token - self.chance.choice((0, 0, 0, 1))
                result = self.chance.choice(list(Resolution))
                await self.shop.ask(inbox.Resolve(job.id, token, result, "ada", "at random"))

    async def step(self) -> None:
        shop, chance = self.shop, self.chance
        match chance.randrange(10):
            case 0 | 1:
                where = {"server": chance.choice("ab")} if chance.random() < 0.7 else {"jobs": 2}
                new = shop.new(timeout=36_000.0, **where)  # type: ignore[arg-type]
                self.workloads += await shop.submit(new)
            case 2 | 3:
                await self.report()
            case 4 | 5:
                await self.resolve()
            case 6:
                self.there.pop(chance.choice(NAMES), None)
                seconds = chance.choice((1, SILENT_SECONDS, LOST_SECONDS))
                await shop.later(seconds, *self.there.values())
            case 7:
                await self.connect(chance.choice(NAMES))
            case 8 if self.workloads:
                await shop.ask(inbox.Stop(chance.choice(self.workloads), "bob"))
            case 9:
                await shop.restart()
        if chance.random() < 0.7:  # else several commands in one turn
            await shop.settle()
            await self.look()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens(tmp_path: Path, seed: int) -> None:
    shop = await Shop.open(tmp_path, boxes=0)
    await shop.project("web")
    yard = Yard(shop, random.Random(seed))
    for _ in range(STEPS):
        await yard.step()
        assert shop.engine.books is not None
        shop.engine.books.core.check()
    # Both workers are back: then every lane goes on to its end.
    for name in NAMES:
        await yard.connect(name)
    await shop.settle()
    for _ in range(4 * len(yard.workloads) + 4):
        await yard.look()
        for name in NAMES:
            worker = yard.ids[name].connection.worker
            reports = [
                inbox.JobFinished(one.job, one.lease_token, 0.0, Result.PASSED, 0, None)
                for one in (await shop.store.assignments([worker]))[worker]
            ]
            await shop.ask(inbox.Reports(worker, tuple(reports)))
        await shop.settle()
    for id_ in yard.workloads:
        found = await shop.look(id_)
        assert found.state is State.FINISHED, (id_, found.state, found.jobs)
        assert all(job.state is JobState.FINISHED for job in found.jobs)
    await shop.close()
