"""Jobs that were lost with their workers: when the core gives them again, and on which Box."""

import pytest

from boxsched.model import BoxId, Kind, ProjectId, WorkloadId
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import (
    Admitted,
    BoxAdded,
    BoxesAway,
    BoxesBack,
    BoxFreed,
    BoxRetired,
    Finished,
    GivenAgain,
    JobsEnded,
    JobsFound,
    JobsLost,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.states import Result

BUILD, OTHER = WorkloadId(1), WorkloadId(2)


class SteppedCore:
    """A core with some Boxes; each call is its own instant, one second apart."""

    def __init__(self, boxes: int) -> None:
        self.core = Scheduler(QueueRules())
        self.now = 0.0
        self.ask(*(BoxAdded(BoxId(n + 1), "default") for n in range(boxes)))

    def ask(self, *events: object) -> list:
        self.now += 1.0
        decisions = self.core.decide(events, self.now)  # type: ignore[arg-type]
        self.core.check()
        return decisions

    def build(self, id_: WorkloadId = BUILD, jobs: int = 1, project: int = 1) -> list:
        asks = (JobAsk("default", 10.0, 60.0),) * jobs
        lane = (project, id_)
        return self.ask(
            Submit(id_, Kind.BUILD, ProjectId(project), "main", lane, 50, self.now, asks)
        )

    def given(self, decisions: list) -> list[tuple[int, BoxId]]:
        return [(d.job, d.box) for d in decisions if isinstance(d, GivenAgain)]


def test_a_lost_job_takes_the_next_free_box_before_waiting_work():
    lost = SteppedCore(boxes=2)
    lost.build(jobs=2)
    lost.build(OTHER, project=2)
    lost.ask(JobsLost(BUILD, (1,)))
    decisions = lost.ask(BoxAdded(BoxId(3), "default"))
    assert lost.given(decisions) == [(1, 3)]
    freed = [(d.box, d.gone) for d in decisions if isinstance(d, BoxFreed)]
    assert freed == [(2, False)]
    # Its old Box is free at the same instant, and goes to waiting work.
    assert [(d.workload, d.boxes, d.warm) for d in decisions if isinstance(d, Admitted)] == [
        (OTHER, (2,), 0)
    ]
    assert lost.core.boxes[BoxId(3)].group is not None
    assert lost.core.boxes[BoxId(3)].group.started_at == lost.now
    assert lost.core.lost.items() == {}.items()


def test_its_old_box_is_warm_for_its_project():
    lost = SteppedCore(boxes=2)
    lost.build()
    lost.ask(JobsLost(BUILD, (0,)))
    lost.ask(BoxAdded(BoxId(3), "default"))
    old = lost.core.boxes[BoxId(1)]
    assert (old.last_project, old.last_branch) == (1, "main")
    (admitted,) = [d for d in lost.build(OTHER) if isinstance(d, Admitted)]
    assert (admitted.boxes, admitted.warm) == ((1,), 1)


def test_a_job_that_ended_as_lost_may_get_the_same_box_again():
    lost = SteppedCore(boxes=1)
    lost.build()
    assert lost.given(lost.ask(JobsLost(BUILD, (0,), ended=True))) == [(0, 1)]
    (finished,) = [
        d for d in lost.ask(JobsEnded(BUILD, (0,), Result.PASSED)) if isinstance(d, Finished)
    ]
    assert finished.result is Result.PASSED


def test_a_job_that_may_still_run_there_waits_for_another_box():
    lost = SteppedCore(boxes=1)
    lost.build()
    assert lost.given(lost.ask(JobsLost(BUILD, (0,)))) == []
    assert lost.given(lost.ask(BoxAdded(BoxId(2), "default"))) == [(0, 2)]


def test_an_absent_box_is_not_assigned_until_it_returns():
    lost = SteppedCore(boxes=1)
    lost.build()
    lost.ask(BoxesAway((BoxId(1),)))
    assert lost.given(lost.ask(JobsLost(BUILD, (0,), ended=True))) == []
    assert lost.given(lost.ask(BoxesBack((BoxId(1),)))) == [(0, 1)]


def test_a_retired_box_is_not_assigned_again():
    lost = SteppedCore(boxes=1)
    lost.build()
    lost.ask(BoxRetired(BoxId(1)))
    assert lost.given(lost.ask(JobsLost(BUILD, (0,), ended=True))) == []
    decisions = lost.ask(BoxAdded(BoxId(2), "default"))
    assert lost.given(decisions) == [(0, 2)]
    assert [(d.box, d.gone) for d in decisions if isinstance(d, BoxFreed)] == [(1, True)]
    assert set(lost.core.boxes) == {2}


@pytest.mark.parametrize(
    "event",
    [JobsFound(BUILD, (0,)), JobsEnded(BUILD, (0,), Result.FAILED), Stop(BUILD)],
    ids=["found", "ended", "stopped"],
)
def test_a_job_that_was_found_ended_or_stopped_is_not_repeated(event):
    lost = SteppedCore(boxes=2)
    lost.build(jobs=2)
    lost.ask(JobsLost(BUILD, (0, 1)))
    decisions = lost.ask(event, BoxAdded(BoxId(3), "default"))
    given = lost.given(decisions)
    if isinstance(event, Stop):
        assert given == []
        assert [d.jobs for d in decisions if isinstance(d, StopJobs)] == [(0, 1)]
        assert not lost.core.lost
    else:
        assert [job for job, _ in given] == [1]


def test_an_ended_job_is_no_longer_lost():
    lost = SteppedCore(boxes=2)
    lost.build(jobs=2)
    lost.ask(JobsEnded(BUILD, (0,), Result.PASSED))
    assert lost.given(lost.ask(JobsLost(BUILD, (0, 1)))) == [(1, 1)]
    lost.ask(JobsLost(OTHER, (0,)))  # unknown
    assert not lost.core.lost


def test_a_lost_job_whose_type_is_busy_does_not_delay_one_of_another_type():
    core = Scheduler(QueueRules())
    types = ("linux", "mac")
    core.decide([BoxAdded(BoxId(n), types[n - 1]) for n in (1, 2)], 0.0)
    asks = tuple(JobAsk(box_type, 10.0, 60.0) for box_type in types)
    core.decide([Submit(BUILD, Kind.BUILD, ProjectId(1), "main", None, 50, 0.0, asks)], 0.0)
    core.decide([JobsLost(BUILD, (0, 1))], 1.0)
    decisions = core.decide([BoxAdded(BoxId(3), "mac")], 2.0)
    assert [(d.job, d.box) for d in decisions if isinstance(d, GivenAgain)] == [(1, 3)]
    assert [key for key, _ in core.lost.items()] == [(BUILD, 0)]
    core.check()
