"""The chore that deletes old data: when it does, how much at once, and when it does not."""

import logging
from collections.abc import Callable, Sequence

import pytest

from boxsched.node import pruning
from boxsched.node.pruning import CUT_SECONDS, DAY_SECONDS, LEAST_DAYS, Pruning
from boxsched.node.retention import KEY_SECONDS
from boxsched.protocol.batches import LaneChange
from boxsched.states import Result
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, build
from tests.contract.test_pruning import left, ran, said_last
from tests.engine.harness import HeldClock


def test_keys_are_deleted_before_their_workloads() -> None:
    assert LEAST_DAYS * DAY_SECONDS > KEY_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    """The clocks of the node and of the database."""
    held = HeldClock(NOW)

    async def time(_: Store) -> float:
        return held.now()

    monkeypatch.setattr("boxsched.store.store.Store.time", time)
    return held


def chore(
    leader: Leader,
    clock: HeldClock,
    history: float = 90,
    logs: float = 30,
    idle: Callable[[Sequence[str]], None] = lambda lanes: None,
) -> Pruning:
    return Pruning(
        leader.store,
        clock,  # type: ignore[arg-type]
        lambda: True,
        keep_history=history,
        keep_logs=logs,
        idle=idle,
    )


async def all_rounds(one: Pruning) -> int:
    rounds = 1
    while await one.run_once():
        rounds += 1
    return rounds


@pytest.fixture
async def old(leader: Leader) -> Leader:
    """Three failed builds with logs, and one more."""
    project = await leader.project()
    for _ in range(4):
        await ran(leader, project, Result.FAILED)
    await said_last(leader)
    return leader


async def test_logs_are_deleted_first_and_the_history_later(old: Leader, clock: HeldClock) -> None:
    one = chore(old, clock)
    for days, counts in (
        (29, {}),
        (31, {"log_chunk": 4}),
        (89, {"log_chunk": 4}),
        (91, {"log_chunk": 4, "workload": 3, "event": 20}),
    ):
        clock.time = NOW + days * DAY_SECONDS
        await all_rounds(one)
        assert +one.pruned == counts
    assert len(await left(old.store)) == 1


async def test_lanes_without_a_build_for_long_are_named(
    leader: Leader, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LANES_A_SLICE", 2)
    project = await leader.project()
    lanes = [f"{project.id}/branch/{name}" for name in ("a", "a/b", "old", "passed", "waits")]
    await leader.commit(lanes=tuple(LaneChange(lane, project.id, 1) for lane in lanes))
    await ran(leader, project, Result.FAILED, branch="old")
    await ran(leader, project, branch="passed")  # it stays, as the last one that passed
    await leader.submit(build(project, branch="waits"))
    named: list[str] = []
    one = chore(leader, clock, idle=named.extend)
    clock.time = NOW + 89 * DAY_SECONDS
    await all_rounds(one)
    assert named == [lanes[0], lanes[1]]
    clock.time = NOW + 91 * DAY_SECONDS
    await all_rounds(one)
    assert named == [*lanes[:2], *lanes[:4]], "not the one with an unfinished build"


async def test_zero_days_keep_everything(old: Leader, clock: HeldClock) -> None:
    one = chore(old, clock, 0, 0)
    clock.time = NOW + 1e9
    assert not await one.run_once()
    assert len(await left(old.store)) == 4
    assert not +one.pruned


async def test_nothing_is_deleted_while_the_clocks_differ(
    old: Leader,
    clock: HeldClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One of them is years ahead."""
    caplog.set_level(logging.WARNING, logger="boxsched")

    async def ahead(_: Store) -> float:
        return clock.now() + 1e9

    monkeypatch.setattr("boxsched.store.store.Store.time", ahead)
    one = chore(old, clock)
    assert not await one.run_once()
    assert len(await left(old.store)) == 4
    assert "the database's clock was changed" in caplog.text


async def test_slices_are_small_until_nothing_is_left(
    old: Leader, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "EVENTS_A_SLICE", 6)
    one = chore(old, clock)
    clock.time = NOW + 91 * DAY_SECONDS
    assert await one.run_once()
    assert 0 < one.pruned["event"] <= 6
    assert await all_rounds(one) > 2
    assert len(await left(old.store)) == 1


async def test_a_slow_slice_is_followed_by_a_smaller_one(
    old: Leader, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    prune = Store.prune_history

    async def slow(self: Store, shard: int, before: float, limit: int) -> object:
        asked.append(limit)
        clock.time += 1.0 if len(asked) < 9 else 0.0
        return await prune(self, shard, before, limit)

    monkeypatch.setattr(Store, "prune_history", slow)
    one = chore(old, clock)
    for _ in range(14):
        await one.run_once()
    assert asked == [500, 250, 125, 62, 50, 50, 50, 50, 50, 100, 200, 400, 500, 500]


async def test_what_stayed_is_checked_again_at_intervals(old: Leader, clock: HeldClock) -> None:
    project = await old.store.project("web")
    assert project is not None
    await ran(old, project)
    await said_last(old)
    one = chore(old, clock)
    clock.time = NOW + 91 * DAY_SECONDS
    await all_rounds(one)
    (stays,) = await left(old.store)
    await ran(old, project)
    await said_last(old)
    await all_rounds(one)
    assert stays in await left(old.store), "not yet"
    clock.time += CUT_SECONDS
    await all_rounds(one)
    assert stays not in await left(old.store)
