"""Absent Boxes and lost jobs, at random. After each step the core's own check passes, no Box has
two jobs, and no absent Box gets a job; at the end every workload has finished."""

from hypothesis import given, settings
from hypothesis import strategies as st

from boxsched.model import BoxId, Kind, Policy, ProjectId, WorkloadId
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
    Promised,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.scheduling.prediction import forecast
from boxsched.scheduling.why import why
from boxsched.states import Result, State

PER_WORKER = 2
WORKERS = 3

STEP = st.tuples(
    st.sampled_from(
        ("submit", "submit", "end", "end", "away", "back", "lost", "found", "retire", "add", "stop")
    ),
    st.integers(0, 30),
    st.integers(1, 4),
)


def boxes_of(worker: int) -> tuple[BoxId, ...]:
    return tuple(BoxId(worker * PER_WORKER + n) for n in range(PER_WORKER))


class RecordedCore:
    """A core and its decisions: which Box each job has."""

    def __init__(self, policy: Policy) -> None:
        self.core = Scheduler(QueueRules(policy, None, None))
        self.has: dict[tuple[int, int], BoxId] = {}
        self.away: set[BoxId] = set()
        self.now = 0.0
        self.last = 0
        for worker in range(WORKERS):
            for box in boxes_of(worker):
                self.core.apply(BoxAdded(box, "default"), 0.0)

    def step(self, what: str, which: int, size: int) -> None:
        self.now += 1.0
        boxes = boxes_of(which % WORKERS)
        running = [w for w in self.core.workloads.values() if w.run is not None]
        decisions = []
        if what == "submit":
            self.last += 1
            asks = (JobAsk("default", float(size), float(size)),) * size
            event = Submit(
                WorkloadId(self.last), Kind.BUILD, ProjectId(1), None, None, 50, self.now, asks
            )
            decisions += self.core.apply(event, self.now)
        elif what == "away":
            self.away |= {box for box in boxes if box in self.core.boxes}
            self.core.apply(BoxesAway(boxes), self.now)
        elif what == "back":
            self.away -= set(boxes)
            self.core.apply(BoxesBack(boxes), self.now)
        elif what == "retire":
            for box in boxes:
                decisions += self.core.apply(BoxRetired(box), self.now)
        elif what == "add":
            for box in boxes:
                decisions += self.core.apply(BoxAdded(box, "default"), self.now)
        elif running:
            workload = running[which % len(running)]
            assert workload.run is not None
            jobs = workload.run.live_jobs()[:size]
            event = {
                "end": JobsEnded(workload.id, jobs, Result.PASSED),
                "lost": JobsLost(workload.id, jobs),
                "found": JobsFound(workload.id, jobs),
                "stop": Stop(workload.id),
            }[what]
            if what == "end":
                for job in jobs:
                    del self.has[workload.id, job]
            decisions += self.core.apply(event, self.now)
        self.note(decisions + self.core.settle(self.now))

    def note(self, decisions: list) -> None:
        for decision in decisions:
            if isinstance(decision, BoxFreed) and decision.gone:
                self.away.discard(decision.box)
            elif isinstance(decision, Admitted):
                assert not self.away & set(decision.boxes)
                for job, box in enumerate(decision.boxes):
                    self.has[decision.workload, job] = box
            elif isinstance(decision, GivenAgain):
                assert decision.box not in self.away
                self.has[decision.workload, decision.job] = decision.box
            elif isinstance(decision, Finished):
                assert not any(workload == decision.workload for workload, _ in self.has)
            else:
                assert not isinstance(decision, StopJobs) or decision.jobs
        assert len(set(self.has.values())) == len(self.has)
        self.core.check()
        for workload in self.core.workloads.values():
            if workload.state is State.QUEUED:
                assert why(self.core, workload.id, self.now) is not None


@settings(max_examples=200, deadline=None)
@given(policy=st.sampled_from(Policy), steps=st.lists(STEP, max_size=60))
def test_random_absences_and_returns_leave_nothing_stuck(
    policy: Policy, steps: list[tuple[str, int, int]]
) -> None:
    recorded = RecordedCore(policy)
    for what, which, size in steps:
        recorded.step(what, which, size)
    # At the end all workers are back: nothing is stuck.
    for worker in range(WORKERS):
        recorded.step("add", worker, 1)
        recorded.step("back", worker, 1)
    for _ in range(5 * recorded.last + 5):
        recorded.step("end", 0, 4)
    assert not recorded.core.workloads


def submitted(id_: int, jobs: int, expected: float, limit: float, at: float) -> Submit:
    asks = (JobAsk("default", expected, limit),) * jobs
    return Submit(WorkloadId(id_), Kind.BUILD, ProjectId(1), None, None, 50, at, asks)


def test_a_repeated_job_has_its_full_expected_duration_again() -> None:
    """If its start counted from its workload's start, it would be late at once."""
    core = Scheduler(QueueRules(Policy.BACKFILL, None, None))
    for box in (1, 2):
        core.apply(BoxAdded(BoxId(box), "default"), 0.0)
    core.decide([submitted(1, 2, 10.0, 100.0, 0.0)], 0.0)
    core.decide([JobsLost(WorkloadId(1), (1,), ended=True)], 50.0)
    core.decide([JobsEnded(WorkloadId(1), (0,), Result.PASSED)], 51.0)
    (promised,) = core.decide([submitted(2, 2, 5.0, 5.0, 52.0)], 52.0)[1:]
    assert isinstance(promised, Promised) and promised.at == 60.0
    assert forecast(core, WorkloadId(2), 52.0) == 60.0
    assert forecast(core, WorkloadId(2), 61.0) == 150.0, "late: to the limit of this attempt"
    # Only work that ends by 60 may pass the head.
    later = core.decide([submitted(3, 1, 8.0, 8.0, 52.0), submitted(4, 1, 9.0, 9.0, 52.0)], 52.0)
    assert [d.workload for d in later if isinstance(d, Admitted)] == [3]
