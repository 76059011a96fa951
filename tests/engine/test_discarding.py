"""Unused books are freed in slices, without the garbage collector."""

import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from boxsched import discarding
from boxsched.engine import loading
from boxsched.protocol.shards import Pause
from boxsched.scheduling import scheduler
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    discarding._discarded.clear()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
async def test_books_with_running_waiting_and_paused_workloads_are_freed_in_slices(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (loading, scheduler):
        monkeypatch.setattr(module, "APART_AT_ONCE", 2)
    project, _ = harness.projects["web"]
    held = Pause("freeze", project, "held-*", None, False, "n", "ann", harness.clock.now(), None)
    await harness.store.put_pause(held)
    for n in range(5):
        await harness.build(branch=f"b{n}")
        await harness.build(branch=f"held-{n}")
        await harness.build(branch="lane")
    await harness.restart()
    books = harness.engine.books
    assert books is not None
    live, core = books.workloads, books.core
    assert len(live) == 15 and core.queue.paused == 5
    del books
    discarding._discarded.clear()  # the books of the first engine
    await harness.restart()
    (parts,) = discarding._discarded
    discarding._discarded.clear()
    left = [len(live)]
    for _ in parts:
        left.append(len(live))
    assert max(before - after for before, after in itertools.pairwise(left)) == 2
    assert (len(live), len(core.workloads), len(core.boxes)) == (0, 0, 0)
    assert (core.queue.paused, len(core.queue._shapes)) == (0, 0)
