"""A random history is pruned at random moments: every invariant holds, and a new leader starts with
the same state and decides the same.
"""

import random
from pathlib import Path

import pytest

from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.states import Result
from boxsched.store.operating.check import check
from boxsched.store.steps.pruning import CutPlace
from tests.engine.harness import EngineHarness

STEPS = 80
BRANCHES = ("main", "b", "c")


class RandomWork:
    """Builds and deploys that are submitted, run, end or are stopped, with pruning in between."""

    def __init__(self, harness: EngineHarness, chance: random.Random) -> None:
        self.harness = harness
        self.chance = chance
        self.workloads: list[WorkloadId] = []
        self.place: CutPlace | None = None
        self.gone = 0

    async def step(self) -> None:
        harness, chance = self.harness, self.chance
        harness.clock.step += chance.choice((1.0, 10.0, 100.0))  # no worker falls silent meanwhile
        match chance.randrange(9):
            case 0 | 1 | 2:
                where = {"server": "s"} if chance.random() < 0.2 else {"branch": self.branch()}
                jobs = chance.choice((1, 1, 2))
                new = harness.new(jobs=jobs, **where)  # type: ignore[arg-type]
                self.workloads += await harness.submit(new)
            case 3 | 4 | 5:
                for one in await harness.assignments():
                    ended = chance.choice((Result.PASSED, Result.PASSED, Result.FAILED))
                    await harness.finish(one, ended)
            case 6 if self.workloads:
                await harness.ask(inbox.Stop(chance.choice(self.workloads), "bob"))
            case 7:
                await harness.restart()
            case 8:
                await self.prune()
        await harness.settle()

    def branch(self) -> str:
        return self.chance.choice(BRANCHES)

    async def prune(self) -> None:
        store = self.harness.store
        limit = self.chance.choice((1, 5, 50))
        before = self.harness.clock.now() - self.chance.choice((0.0, 50.0, 500.0))
        for _ in range(self.chance.choice((1, 4))):
            self.gone += (await store.prune_history(SHARD, before, limit)).workloads
        count, self.place = await store.prune_cut(self.place or CutPlace(), before, limit)
        self.gone += count

    async def whole(self) -> None:
        """Check every invariant, and that a new leader loads the present state."""
        harness = self.harness
        assert await check(f"sqlite:///{harness.folder / 'harness.sqlite'}") == []
        before = {id_: harness.why(id_) for id_ in self.unfinished()}
        await harness.restart()
        assert {id_: harness.why(id_) for id_ in self.unfinished()} == before

    def unfinished(self) -> list[WorkloadId]:
        assert self.harness.engine.books is not None
        return sorted(self.harness.engine.books.workloads)


@pytest.mark.parametrize("seed", range(6))
async def test_a_pruned_random_history_passes_every_check(tmp_path: Path, seed: int) -> None:
    harness = await EngineHarness.open(tmp_path, boxes=3)
    await harness.project("web")
    work = RandomWork(harness, random.Random(seed))
    for number in range(STEPS):
        await work.step()
        if number % 8 == 0:
            await work.whole()
    for _ in range(2 * STEPS):
        for one in await harness.assignments():
            await harness.finish(one)
        await harness.settle()
    assert work.unfinished() == []
    harness.clock.step += 1_000.0
    for _ in range(40):
        await work.prune()
    await work.whole()
    assert work.gone > 5
    await harness.close()
