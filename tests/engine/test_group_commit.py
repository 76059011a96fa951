"""Submissions and commands that arrive together share a transaction: over a real store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import pytest

from boxsched.engine.stages import Stages
from boxsched.node.group_commit import GROUP_AT_MOST, GROUP_BYTES_AT_MOST, GroupCommit
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.store.records import NewWorkload, SubmitOutcome, Submitted
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


class Writes:
    """Holds the store's writes until ``go`` is set, and records the groups."""

    def __init__(self, harness: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.groups: list[int] = []
        self.woken: list[int] = []
        self.stages = Stages(harness.clock.monotonic)
        self.group = GroupCommit(harness.store, self.stages, self.woken.append)
        self._store = harness.store
        self._submit, self._ask = harness.store.submit, harness.store.ask
        monkeypatch.setattr(harness.store, "submit", self.submit)
        monkeypatch.setattr(harness.store, "ask", self.ask)

    async def submit(self, new: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        await self._hold(len(new))
        outcomes = await self._submit(new)
        assert len(self.woken) < len(self.groups), "woken before it is stored"
        return outcomes

    async def ask(self, shard: int, entries: Sequence[tuple[str, bytes]]) -> None:
        await self._hold(len(entries))
        await self._ask(shard, entries)

    async def _hold(self, count: int) -> None:
        assert len(self.woken) == len(self.groups), "woken once for each group"
        self.groups.append(count)
        self.begun.set()
        await self.go.wait()


@pytest.fixture
def writes(harness: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(harness, monkeypatch)


async def test_a_submission_wakes_the_leader_once_it_is_stored(
    harness: EngineHarness, writes: Writes
) -> None:
    writes.go.set()
    outcome = await writes.group.submit(harness.new())
    assert isinstance(outcome, Submitted)
    assert writes.woken == [SHARD]
    harness.clock.time += 2.0
    writes.stages.taken_up([outcome.id], harness.clock.time)
    assert writes.stages.seconds["inbox"] == 2.0, "its time in the inbox began when it was stored"


async def test_members_that_arrive_during_a_write_are_written_together_next(
    harness: EngineHarness, writes: Writes
) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        answers = [group.create_task(writes.group.submit(harness.new(branch="0")))]
        await writes.begun.wait()
        answers += [
            group.create_task(writes.group.submit(harness.new(branch=str(n)))) for n in range(1, 4)
        ]
        writes.go.set()
    assert writes.groups == [1, 3]
    ids = [one.result().id for one in answers if isinstance(one.result(), Submitted)]
    assert [(await harness.look(id_)).branch for id_ in ids] == ["0", "1", "2", "3"]


async def test_a_group_has_a_maximum_of_members_and_of_bytes(
    harness: EngineHarness, writes: Writes
) -> None:
    large = attrs.evolve(harness.new(), message="m" * GROUP_BYTES_AT_MOST)
    asked = [harness.new(branch=str(n)) for n in range(GROUP_AT_MOST + 1)] + [large, large]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for new in asked:
            group.create_task(writes.group.submit(new))
        writes.go.set()
    assert writes.groups == [GROUP_AT_MOST, 1, 1, 1]


@pytest.mark.parametrize("what", ["submission", "command"])
async def test_a_node_that_stops_waits_for_pending_writes(
    harness: EngineHarness, writes: Writes, what: str
) -> None:
    """The caller of the write is gone; the write continues."""
    if what == "submission":
        caller = asyncio.create_task(_submits(writes, harness))
    else:
        caller = asyncio.create_task(writes.group.ask(SHARD, inbox.PauseEnded("one", "ann")))
    await writes.begun.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    draining = asyncio.create_task(writes.group.drain())
    await harness.store.ping()
    assert not draining.done()
    writes.go.set()
    async with asyncio.timeout(20):
        await draining
    assert writes.woken == [SHARD]
    if what == "submission":
        assert len(await harness.store.unfinished()) == 1


async def _submits(writes: Writes, harness: EngineHarness) -> None:
    await writes.group.submit(harness.new())
