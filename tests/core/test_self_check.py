"""``Scheduler.check`` notices when structures of the core disagree; other tests rely on it."""

from collections.abc import Callable

import pytest

from boxsched.scheduling import Scheduler
from boxsched.states import State
from tests.core.world import World

Breaks = Callable[[Scheduler], object]


@pytest.fixture
def world() -> World:
    """A world with a late, a running, a queued and a paused workload, and one in ordering."""
    w = World(boxes=5)
    w.build("late", {"seconds": 90, "expected": 10, "limit": 100}, branch="a")
    w.build("runs", 60, 60, branch="b")
    w.run_until(20)
    w.build("waits", 5, 5, 5, branch="c")
    w.pause("freeze", "web", branch="d")
    w.build("held", 5, branch="d")
    w.build("behind", 5, branch="d")
    w.build("small", 100, branch="e")  # it passes the head, or waits
    return w


def of(core: Scheduler, state: State) -> object:
    return next(w for w in core.workloads.values() if w.state is state)


def pool(core: Scheduler) -> object:
    (only,) = core.pools.values()
    return only


def run(core: Scheduler) -> object:
    return next(w.run for w in core.workloads.values() if w.run is not None)


BREAKS: dict[str, Breaks] = {
    "a Box counts as free twice": lambda c: setattr(pool(c), "free", pool(c).free + 1),
    "a Box is wanted that is not there": lambda c: setattr(pool(c), "wanted", 9),
    "a Box counts as away": lambda c: setattr(pool(c), "away", 1),
    "a free Box is busy": lambda c: setattr(pool(c).first_free(), "busy", True),
    "a Box is lost": lambda c: c.boxes.popitem(),
    "a Box in use is not counted": lambda c: setattr(c.usage, "boxes", c.usage.boxes - 1),
    "a late group is lost": lambda c: c.usage.late.clear(),
    "a running group is lost": lambda c: c.usage.running.clear(),
    "a group's end moved": lambda c: setattr(c.usage.running[0][3], "end", 7.0),
    "a late group's limit moved": lambda c: setattr(c.usage.late[0][3], "last", 7.0),
    "a job is counted twice": lambda c: setattr(c.usage.running[0][3], "jobs", 5),
    "more Boxes come back than there are": lambda c: setattr(c.usage.running[0][3], "returning", 5),
    "a run has another job": lambda c: setattr(run(c), "live", run(c).live + 1),
    "a workload is in no queue": lambda c: c.queue.remove(of(c, State.QUEUED)),
    "a workload left ordering unseen": lambda c: setattr(
        of(c, State.REGISTERED), "state", State.QUEUED
    ),
    "a workload lost its place in its lane": lambda c: setattr(
        of(c, State.REGISTERED), "ahead", None
    ),
    "two are spared in one lane": lambda c: [
        setattr(w, "spared", True) for w in c.workloads.values()
    ],
    "a lane's count is below one": lambda c: c.lanes._superseded.update({"lane": -1}),
    "a pause covers a workload in the queue": lambda c: c.pauses._of.clear(),
    "a project uses a Box more": lambda c: setattr(run_project(c), "used", run_project(c).used + 1),
    "a project has a workload more": lambda c: setattr(run_project(c), "unfinished", 9),
    "a shape's head is not its first": lambda c: c.queue._heads.clear(),
    "the queue's length is wrong": lambda c: setattr(c.queue, "_length", 7),
}


def run_project(core: Scheduler) -> object:
    return next(iter(core.workloads.values())).project


def test_a_correct_core_passes_its_check(world: World) -> None:
    world.core.check()
    states = {w.state for w in world.core.workloads.values()}
    assert states == {State.RUNNING, State.QUEUED, State.REGISTERED}
    assert world.core.usage.late and world.core.usage.running and world.core.queue.paused == 1


@pytest.mark.parametrize("broken", BREAKS)
def test_a_core_with_a_contradiction_fails_its_check(world: World, broken: str) -> None:
    BREAKS[broken](world.core)
    with pytest.raises(AssertionError):
        world.core.check()
