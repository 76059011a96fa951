"""Resolutions amid random silences, returns, restarts, stops and late reports: every invariant
holds, and no attempt with an old lease token counts.
"""

import random
from pathlib import Path

import pytest

from boxsched.model import WorkloadId, job_index
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import Resolution
from boxsched.protocol.retries import Retries
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.states import JobState, Result, State
from boxsched.store.records import Job
from tests.engine.harness import EngineHarness

STEPS = 60
SILENT_SECONDS, LOST_SECONDS = 17, 139
NAMES = ("v", "w")


class TwoWorkers:
    """Two workers, each connected or away, and every job that each was told to run."""

    def __init__(self, harness: EngineHarness, chance: random.Random) -> None:
        self.harness = harness
        self.chance = chance
        self.there: dict[str, Connected] = {}
        self.told: dict[str, list[Assignment]] = {name: [] for name in NAMES}
        self.ids: dict[str, Connected] = {}
        self.workloads: list[WorkloadId] = []
        self.restored = 0

    async def connect(self, name: str) -> None:
        new = NewWorker(name, name, "there", "test", ("default",) * 2)
        connected = await self.harness.store.connect_worker(new)
        rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        worker, number = connected.connection.worker, connected.connection.number
        self.there[name] = self.ids[name] = connected
        await self.harness.ask(inbox.BoxesSet(worker, rows, "test", number))

    async def look(self) -> None:
        for name, connected in self.there.items():
            worker = connected.connection.worker
            known = {(one.job, one.lease_token) for one in self.told[name]}
            for one in (await self.harness.store.assignments([worker]))[worker]:
                if (one.job, one.lease_token) not in known:
                    self.told[name].append(one)

    async def report(self) -> None:
        """Report on any job that a worker was ever told to run; mostly late."""
        name = self.chance.choice(NAMES)
        if not self.told[name]:
            return
        one = self.chance.choice(self.told[name][-4:])
        await self.harness.settle()
        before = await self.job(one)
        now = self.harness.clock.now()
        ended = self.chance.choice((Result.PASSED, Result.FAILED, Result.STOPPED))
        said = self.chance.choice(
            (
                inbox.JobStarted(one.job, one.lease_token, now),
                inbox.JobFinished(one.job, one.lease_token, now, ended, 0, None, seconds=1.0),
            )
        )
        await self.harness.ask(inbox.Reports(self.ids[name].connection.worker, (said,)))
        if before.lease_token != one.lease_token:
            await self.harness.settle()
            assert await self.job(one) == before  # an old token changes nothing

    async def job(self, one: Assignment) -> Job:
        found = await self.harness.look(one.workload)
        return found.jobs[job_index(one.job)]

    async def resolve(self) -> None:
        if not self.workloads:
            return
        for job in (await self.harness.look(self.chance.choice(self.workloads))).jobs:
            if job.lease_token is not None:
                token = job.lease_token - self.chance.choice((0, 0, 0, 1))
                result = self.chance.choice(list(Resolution))
                await self.harness.ask(inbox.Resolve(job.id, token, result, "ada", "at random"))

    async def haunt(self) -> None:
        """Both workers are silent, a person says "again" of a deploy, and one is back with it."""
        harness = self.harness
        await harness.settle()
        await self.look()
        self.there.clear()
        await harness.later(SILENT_SECONDS)
        one = await self.lost()
        if one is None:
            return
        said = inbox.Resolve(one.job, one.lease_token, Resolution.AGAIN, "ada", "")
        await harness.ask(said)
        await harness.settle()
        name = self.chance.choice([n for n in NAMES if one in self.told[n]])
        if self.chance.random() < 0.8:
            await self.connect(name)
        await harness.settle()
        await self.restore(one, name)

    async def lost(self) -> Assignment | None:
        """Return an attempt at a deploy whose state is unknown."""
        told = [one for each in self.told.values() for one in each if one.server]
        for one in self.chance.sample(told, len(told)):
            job = await self.job(one)
            if job.state is JobState.UNKNOWN and job.lease_token == one.lease_token:
                return one
        return None

    async def restore(self, one: Assignment, name: str) -> None:
        before = await self.job(one)
        worker = self.ids[name].connection.worker
        said = inbox.Restore(worker, one.job, one.attempt, one.lease_token, "ada")
        await self.harness.ask(said)
        await self.harness.settle()
        now = await self.job(one)
        if now.restored_from == one.lease_token:
            self.restored += 1
            assert now.state is JobState.RUNNING and now.attempt == one.attempt
            assert now.lease_token is not None and before.lease_token is not None
            assert now.lease_token > before.lease_token, "a new token, which only grows"
        else:
            assert now == before

    async def step(self) -> None:
        harness, chance = self.harness, self.chance
        match chance.randrange(11):
            case 0 | 1:
                where = {"server": chance.choice("ab")} if chance.random() < 0.7 else {"jobs": 2}
                retry = chance.choice((None, Retries(1, ((0, 1),), 1)))
                new = harness.new(timeout=36_000.0, retry=retry, **where)  # type: ignore[arg-type]
                self.workloads += await harness.submit(new)
            case 2 | 3:
                await self.report()
            case 4 | 5:
                await self.resolve()
            case 6:
                self.there.pop(chance.choice(NAMES), None)
                seconds = chance.choice((1, SILENT_SECONDS, LOST_SECONDS))
                await harness.later(seconds, *self.there.values())
            case 7:
                await self.connect(chance.choice(NAMES))
            case 8 if self.workloads:
                await harness.ask(inbox.Stop(chance.choice(self.workloads), "bob"))
            case 9:
                await harness.restart()
            case 10:
                await self.haunt()
        if chance.random() < 0.7:  # otherwise several commands in one turn
            await harness.settle()
            await self.look()


@pytest.mark.parametrize("seed", range(6))
async def test_every_invariant_holds_after_random_resolutions(tmp_path: Path, seed: int) -> None:
    harness = await EngineHarness.open(tmp_path, boxes=0)
    await harness.project("web")
    workers = TwoWorkers(harness, random.Random(seed))
    for name in NAMES:
        await workers.connect(name)
    for _ in range(STEPS):
        await workers.step()
        assert harness.engine.books is not None
        harness.engine.books.core.check()
    # Both workers are back: every lane continues to its end.
    for name in NAMES:
        await workers.connect(name)
    await harness.settle()
    for _ in range(4 * len(workers.workloads) + 4):
        await workers.look()
        for name in NAMES:
            worker = workers.ids[name].connection.worker
            reports = [
                inbox.JobFinished(one.job, one.lease_token, 0.0, Result.PASSED, 0, None)
                for one in (await harness.store.assignments([worker]))[worker]
            ]
            await harness.ask(inbox.Reports(worker, tuple(reports)))
        await harness.settle()
    for id_ in workers.workloads:
        found = await harness.look(id_)
        assert found.state is State.FINISHED, (id_, found.state, found.jobs)
        assert all(job.state is JobState.FINISHED for job in found.jobs)
    await harness.close()
