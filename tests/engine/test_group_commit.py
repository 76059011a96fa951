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
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


class Writes:
    """Holds the store's writes until ``go`` is set, and remembers the groups."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.groups: list[int] = []
        self.woken: list[int] = []
        self.stages = Stages(shop.clock.monotonic)
        self.group = GroupCommit(shop.store, self.stages, self.woken.append)
        self._store = shop.store
        self._submit, self._ask = shop.store.submit, shop.store.ask
        monkeypatch.setattr(shop.store, "submit", self.submit)
        monkeypatch.setattr(shop.store, "ask", self.ask)

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
def writes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(shop, monkeypatch)


async def test_a_submission_wakes_the_leader_once_it_is_stored(shop: Shop, writes: Writes) -> None:
    writes.go.set()
    outcome = await writes.group.submit(shop.new())
    assert isinstance(outcome, Submitted)
    assert writes.woken == [SHARD]
    shop.clock.time += 2.0
    writes.stages.taken_up([outcome.id], shop.clock.time)
    assert writes.stages.seconds["inbox"] == 2.0, "its time in the inbox began when it was stored"


async def test_members_that_arrive_during_a_write_are_written_together_next(
    shop: Shop, writes: Writes
) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        answers = [group.create_task(writes.group.submit(shop.new(branch="0")))]
        await writes.begun.wait()
        answers += [
            group.create_task(writes.group.submit(shop.new(branch=str(n)))) for n in range(1, 4)
        ]
        writes.go.set()
    assert writes.groups == [1, 3]
    ids = [one.result().id for one in answers if isinstance(one.result(), Submitted)]
    assert [(await shop.look(id_)).branch for id_ in ids] == ["0", "1", "2", "3"]


async def test_a_group_has_its_most_members_and_its_most_bytes(shop: Shop, writes: Writes) -> None:
    large = attrs.evolve(shop.new(), message="m" * GROUP_BYTES_AT_MOST)
    asked = [shop.new(branch=str(n)) for n in range(GROUP_AT_MOST + 1)] + [large, large]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for new in asked:
            group.create_task(writes.group.submit(new))
        writes.go.set()
    assert writes.groups == [GROUP_AT_MOST, 1, 1, 1]


@pytest.mark.parametrize("what", ["submission", "command"])
async def test_a_node_that_ends_waits_for_what_was_added(
    shop: Shop, writes: Writes, what: str
) -> None:
    """Its caller has gone away; the write goes on."""
    if what == "submission":
        caller = asyncio.create_task(_submits(writes, shop))
    else:
        caller = asyncio.create_task(writes.group.ask(SHARD, inbox.PauseEnded("one", "ann")))
    await writes.begun.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    draining = asyncio.create_task(writes.group.drain())
    await shop.store.ping()
    assert not draining.done()
    writes.go.set()
    async with asyncio.timeout(20):
        await draining
    assert writes.woken == [SHARD]
    if what == "submission":
        assert len(await shop.store.unfinished()) == 1


async def _submits(writes: Writes, shop: Shop) -> None:
    await writes.group.submit(shop.new())
