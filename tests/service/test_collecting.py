"""Garbage collections are short, and garbage is still freed."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from boxsched import collecting, discarding
from boxsched.collecting import Collector
from boxsched.engine.loading import Loading
from boxsched.model import Cancellation, Kind, ProjectId, WorkloadId
from boxsched.protocol.shards import LoadedJob, LoadedWorkload, ShardState
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import BoxAdded, JobsEnded, Submit
from boxsched.scheduling.prediction import forecast
from boxsched.states import JobState, Result, State

LOOKED_AT_MOST = 50_000  # objects in one collection: about 12 ms


class Cycle:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    one.begin()
    one.settle()
    try:
        yield one
    finally:
        one.end()


def garbage() -> weakref.ref[Cycle]:
    return weakref.ref(Cycle())


def test_no_collection_looks_at_a_large_heap(collector: Collector) -> None:
    looked: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            looked.append(len(gc.get_objects()))

    gc.callbacks.append(note)
    try:
        heap = [[number] for number in range(500_000)]
    finally:
        gc.callbacks.remove(note)
    assert len(heap) == 500_000
    assert len(looked) > 5
    assert max(looked) <= LOOKED_AT_MOST


def test_a_young_cycle_is_freed_automatically(collector: Collector) -> None:
    lost = garbage()
    heap = [[number] for number in range(collecting.THRESHOLDS[0] * 10)]
    assert lost() is None
    assert heap


def test_a_frozen_cycle_is_freed_by_a_full_collection(collector: Collector) -> None:
    cycle = Cycle()
    lost = weakref.ref(cycle)
    gc.collect()  # and frozen
    del cycle
    gc.collect()
    assert lost() is not None, "it was not frozen"
    assert collector.collect_whole() >= 1
    assert lost() is None


@pytest.mark.parametrize(("seconds", "freezes"), [(0.0, 1_000), (3_600.0, 1)])
async def test_a_full_collection_runs_automatically(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, seconds: float, freezes: int
) -> None:
    monkeypatch.setattr(collecting, "WHOLE_SECONDS", seconds)
    monkeypatch.setattr(collecting, "FREEZES_AT_MOST", freezes)
    monkeypatch.setattr(collecting, "GARBAGE_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(collecting, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(collecting, "PATIENCE_SECONDS", 0.0)
    cycle = Cycle()
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    weakref.finalize(cycle, loop.call_soon_threadsafe, gone.set).atexit = False
    gc.collect()
    del cycle
    chore = asyncio.create_task(collector.run())
    try:
        async with asyncio.timeout(20):
            await gone.wait()
    finally:
        chore.cancel()


def test_earlier_settings_are_restored() -> None:
    before = gc.get_threshold()
    one = Collector()
    one.begin()
    assert gc.get_threshold() == collecting.THRESHOLDS
    one.end()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


# --- Code that creates no cycles ----------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> Counter[str]:
    """Return our objects that only the garbage collector would free, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = (type(one) for one in gc.garbage)
        return Counter(kind.__name__ for kind in kinds if kind.__module__.startswith("boxsched."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def submit(id_: int, asks: tuple[JobAsk, ...]) -> Submit:
    return Submit(
        WorkloadId(id_), Kind.BUILD, ProjectId(1), "main", ("web", id_ % 3), 50, 0.0, asks
    )


def test_an_ended_workload_is_freed_at_once(no_collector: None) -> None:
    core = Scheduler(QueueRules())
    for box in range(4):
        core.apply(BoxAdded(box, "default", None, None), 0.0)  # type: ignore[arg-type]
    asks = (JobAsk("default", 5.0, 10.0),) * 2
    core.decide([submit(n, asks) for n in range(1, 7)], 0.0)
    ended = [weakref.ref(run) for w in core.workloads.values() if (run := w.run) is not None]
    ended_group = weakref.ref(core.workloads[WorkloadId(1)].run.groups()[0])  # type: ignore[union-attr]
    assert ended
    now = 0.0
    while core.workloads:
        now += 20.0  # late workloads, too
        running = [w.id for w in core.workloads.values() if w.run is not None]
        core.settle(now)
        core.decide([JobsEnded(id_, (0, 1), Result.PASSED) for id_ in running], now)
    core.decide([submit(9, asks)], now)  # the Boxes belong to another run by now
    core.decide([JobsEnded(WorkloadId(9), (0, 1), Result.PASSED)], now)
    assert ended_group() is None
    assert not left()


def loaded(id_: int) -> LoadedWorkload:
    job = LoadedJob(
        "test", "default", 60.0, 60.0, None, JobState.WAITING, None, None, 0, None, None, None
    )
    return LoadedWorkload(
        WorkloadId(id_), ProjectId(1), id_, Kind.BUILD, f"b{id_ % 50}", None, None, 50,
        Cancellation.NONE, False, State.REGISTERED if id_ >= 50 else State.QUEUED, 1.0,
        1.0 if id_ < 50 else None, None, None, (job,),
    )  # fmt: skip


async def test_unused_books_are_freed_in_slices(no_collector: None) -> None:
    await discarding.run_once()
    loading = Loading()
    loading.begin(ShardState(1, 1, 1, None, (), (), {}, ()))
    loading.add([loaded(n) for n in range(3_000)])
    books = loading.finish()
    books.core.check()
    known = weakref.ref(books)
    core = books.core
    del books, loading
    assert known() is None
    assert len(core.workloads) == 3_000
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await discarding.run_once()
    other.cancel()
    assert steps > 10
    assert not core.workloads
    del core
    assert not left().keys() & {"Workload", "LiveWorkload", "Lane", "Shape"}


def test_a_forecast_leaves_no_garbage(no_collector: None) -> None:
    core = Scheduler(QueueRules())
    for box in range(4):
        core.apply(BoxAdded(box, "default", None, None), 0.0)  # type: ignore[arg-type]
    asks = (JobAsk("default", 5.0, 10.0),) * 2
    core.decide([submit(n, asks) for n in range(1, 20)], 0.0)
    assert forecast(core, WorkloadId(19), 1.0) is not None
    assert not left()


async def test_books_in_use_stay_complete(no_collector: None) -> None:
    loading = Loading()
    loading.begin(ShardState(1, 1, 1, None, (), (), {}, ()))
    loading.add([loaded(1)])
    books = loading.finish()
    del loading
    await discarding.run_once()
    assert list(books.workloads) == [1]
    books.core.check()
