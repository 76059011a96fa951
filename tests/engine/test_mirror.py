"""A mirror of a shard: when it loads, when it does not, and for which callers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.cluster.mirror import Mirror
from boxsched.errors import StoreAway
from tests.engine.harness import EngineHarness

PATIENCE_SECONDS = 20.0


class Counted:
    """A store that counts its loads, and takes time on the mirror's clock."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.loads = 0
        self.pulses_read = 0
        self.now = 100.0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def shards(self) -> Any:
        if self.away:
            raise StoreAway("away for the test")
        return await self._store.shards()

    async def mirror(self, shard: int, loading: Any) -> None:
        self.loads += 1
        self.begun.set()
        await self.gate.wait()
        self.now += 0.25
        await self._store.mirror(shard, loading)

    async def pulses(self, shard: int) -> Any:
        self.pulses_read += 1
        return await self._store.pulses(shard)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


@pytest.fixture
def store(harness: EngineHarness) -> Counted:
    return Counted(harness.store)


@pytest.fixture
def mirror(store: Counted) -> Mirror:
    """A mirror whose clock advances by 1 s per read, so that it never rests for long."""

    def clock() -> float:
        store.now += 1.0
        return store.now

    return Mirror(store, 1, lambda node: True, clock)  # type: ignore[arg-type]


async def test_an_unchanged_shard_is_loaded_once(store: Counted, mirror: Mirror) -> None:
    first = await mirror.books()
    assert await mirror.books() is first
    assert store.loads == 1
    assert store.pulses_read == 1, "a worker's row changes without a batch of the shard"


async def test_another_batch_is_loaded(
    harness: EngineHarness, store: Counted, mirror: Mirror
) -> None:
    first = await mirror.books()
    build = await harness.build()
    second = await mirror.books()
    assert second is not first and store.loads == 2
    assert build in second.core.workloads


async def test_another_leadership_is_loaded_even_with_the_same_batch(
    harness: EngineHarness, store: Counted, mirror: Mirror
) -> None:
    first = await mirror.books()
    await harness.restart()  # raises the epoch, commits nothing
    assert await mirror.books() is not first
    assert store.loads == 2


async def test_requests_during_a_load_share_the_next_one(store: Counted, mirror: Mirror) -> None:
    """They get no state from before their request."""
    store.gate.clear()
    first = asyncio.create_task(mirror.books())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.begun.wait()
    rest = [asyncio.create_task(mirror.books()) for _ in range(3)]
    await asyncio.sleep(0)
    heads = store.shards
    looks: list[int] = []

    async def looked() -> Any:
        looks.append(1)
        return await heads()

    store.shards = looked  # type: ignore[method-assign]
    store.gate.set()
    answers = await asyncio.gather(first, *rest)
    assert store.loads == 1 and len(set(map(id, answers))) == 1
    assert len(looks) == 1, "one look behind the load, for all three"


async def test_a_cancelled_caller_leaves_the_answer_to_the_others(
    store: Counted, mirror: Mirror
) -> None:
    store.gate.clear()
    goes, stays = (asyncio.create_task(mirror.books()) for _ in range(2))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.begun.wait()
    goes.cancel()
    await asyncio.gather(goes, return_exceptions=True)
    store.gate.set()
    assert (await stays).core is not None


async def test_after_a_failure_the_mirror_is_loaded_again(store: Counted, mirror: Mirror) -> None:
    await mirror.books()
    store.away = True
    for _ in range(2):
        with pytest.raises(StoreAway):
            await mirror.books()
    store.away = False
    assert (await mirror.books()).core is not None


async def test_the_mirror_rests_as_long_as_a_load_took(store: Counted) -> None:
    mirror = Mirror(store, 1, lambda node: True, lambda: store.now)  # type: ignore[arg-type]
    await mirror.books()
    assert mirror._rest_until == store.now + 0.25


async def test_a_caller_waits_only_for_the_remaining_rest(
    store: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("boxsched.cluster.mirror.asyncio.sleep", paused)
    mirror = Mirror(store, 1, lambda node: True, lambda: store.now)  # type: ignore[arg-type]
    await mirror.books()
    store.now += 0.05
    await mirror.books()
    store.now += 100.0
    await mirror.books()
    assert pauses == [0.0, pytest.approx(0.2), 0.0]
