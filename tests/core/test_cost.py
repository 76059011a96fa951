"""Cost depends on what changes, not on what waits: counted in lines of Python, not in seconds."""

import sys

import pytest

from boxsched.model import Kind
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import Admitted, BoxesWanted, JobsEnded, Stop, Submit
from boxsched.scheduling.why import why
from boxsched.states import Result

FEW, MANY = 1_000, 100_000
BOXES = 100
SHAPES = [(JobAsk("linux", 10.0 * size, 10.0 * size),) * size for size in range(1, 9)]


def submit(number, priority=50):
    size = number % len(SHAPES)
    lane = ("branch", number)
    return Submit(number, Kind.BUILD, number % 50, "b", lane, priority, 0.0, SHAPES[size])


def crowded(waiting):
    """A core with all Boxes busy and many waiting workloads of eight shapes."""
    core = Scheduler(QueueRules(), box_types=("linux",))
    core.apply(BoxesWanted("linux", BOXES), 0.0)
    for number in range(1, waiting + 1):
        core.apply(submit(number), 0.0)
    core.settle(0.0)
    return core


@pytest.fixture(scope="module")
def cores():
    return crowded(FEW), crowded(MANY)


def lines(act):
    """Return how many lines of Python run; each round of a loop counts."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def some_job_ends(core):
    first = next(w for w in core.workloads.values() if w.run is not None)
    ended = JobsEnded(first.id, first.run.live_jobs(), Result.PASSED)
    decisions = core.decide([ended], 5.0)
    assert any(isinstance(d, Admitted) for d in decisions)


def one_is_submitted(core):
    core.decide([submit(10**6)], 5.0)


def one_overtakes_all(core):
    core.decide([submit(10**6 + 1, priority=90)], 5.0)


def one_in_the_middle_is_canceled(core):
    core.decide([Stop(len(core.workloads) // 2)], 5.0)


def someone_asks_why(core):
    why(core, len(core.workloads) - 9, 5.0)


@pytest.mark.parametrize(
    "act",
    [
        some_job_ends,
        one_is_submitted,
        one_overtakes_all,
        one_in_the_middle_is_canceled,
        someone_asks_why,
    ],
)
@pytest.mark.slow
def test_an_event_costs_the_same_with_a_hundred_times_as_many_waiting(cores, act):
    few, many = cores
    assert lines(lambda: act(many)) <= 2 * lines(lambda: act(few))
