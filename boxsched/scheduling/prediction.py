"""What the past and the present let one expect: durations of jobs, and the start of a workload."""

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from statistics import median

from boxsched.model import BoxId, WorkloadId
from boxsched.scheduling.scheduler import Scheduler
from boxsched.scheduling.values import (
    Admitted,
    BoxAdded,
    BoxesAway,
    BoxesWanted,
    BoxRetired,
    Finished,
    JobsEnded,
    ProjectLimited,
    Submit,
)
from boxsched.scheduling.workload import Workload
from boxsched.states import Result, State

RUNS_REMEMBERED = 10
_STEPS_A_DOUBLING = 4  # powers of 2^(1/4): few shapes, at most 19 % over
SHORTEST_EXPECTED_SECONDS = 2**-10
FORECAST_WORKLOADS = 500  # a forecast looks at no more that wait than this


def expected_duration(passed_runs: Sequence[float]) -> float:
    """Seconds to expect: the median of the last runs, rounded up to a power of 2^(1/4) seconds.

    Contract, section 1, "Expected durations in the service". At least a thousandth of a second.
    """
    seconds = max(median(passed_runs[-RUNS_REMEMBERED:]), SHORTEST_EXPECTED_SECONDS)
    step = math.ceil(_STEPS_A_DOUBLING * math.log2(seconds))
    while 2 ** (step / _STEPS_A_DOUBLING) < seconds:  # log2 may round down
        step += 1
    rounded: float = 2 ** (step / _STEPS_A_DOUBLING)
    return rounded


def forecast(scheduler: Scheduler, id_: WorkloadId, now: float) -> float | None:
    """When a waiting workload starts if nothing else is asked and every job runs as expected; what
    is late already, to its time limit.

    None where it never would (no such Boxes), or where more than FORECAST_WORKLOADS wait in all.
    Boxes that are away stay away, and when their jobs end nobody knows.
    """
    target = scheduler.workloads[id_]
    if target.run is not None:
        return target.run.started_at
    waiting = [w for w in scheduler.workloads.values() if w.run is None]
    if len(waiting) > FORECAST_WORKLOADS:
        return None
    twin = _twin(scheduler)
    ends: list[tuple[float, int, tuple[int, ...]]] = []
    for workload in twin.workloads.values():
        if workload.run is not None:
            _push_ends(ends, workload, workload.run.jobs_in_sight(), workload.run.started_at, now)
    time = now
    while True:
        ended: list[JobsEnded] = []
        while ends and ends[0][0] <= time:
            _, workload_id, jobs = heappop(ends)
            ended.append(JobsEnded(WorkloadId(workload_id), jobs, Result.PASSED))
        finished = False
        for decision in twin.decide(ended, time):
            if isinstance(decision, Admitted):
                if decision.workload == id_:
                    return time
                admitted = twin.workloads[decision.workload]
                _push_ends(ends, admitted, tuple(range(len(decision.boxes))), time, time)
            finished = finished or isinstance(decision, Finished)
        if not ends:
            return None
        time = max(time, ends[0][0])


def _push_ends(
    ends: list[tuple[float, int, tuple[int, ...]]],
    workload: Workload,
    jobs: tuple[int, ...],
    started_at: float,
    now: float,
) -> None:
    at: dict[float, list[int]] = {}
    for job in jobs:
        asked = workload.ask.jobs[job]
        end = started_at + asked.expected
        if end < now:
            end = max(started_at + asked.limit, now)
        at.setdefault(end, []).append(job)
    for end, members in at.items():
        heappush(ends, (end, workload.id, tuple(members)))


def _twin(scheduler: Scheduler) -> Scheduler:
    """A core in the same state, to run ahead with."""
    twin = Scheduler(scheduler.rules, tuple(scheduler.pools))
    for box in scheduler.boxes.values():
        twin.apply(BoxAdded(box.id, box.pool.box_type, box.last_project, box.last_branch), 0.0)
    for project in scheduler.register.projects.values():
        twin.apply(ProjectLimited(project.id, project.limit), 0.0)
    for workload in sorted(scheduler.workloads.values(), key=lambda w: w.id):
        run = workload.run
        lane = workload.lane.key if workload.lane is not None else None
        submit = Submit(
            workload.id, workload.kind, workload.project.id, workload.branch, lane,
            workload.priority, workload.created_at, workload.ask.jobs,
        )  # fmt: skip
        if run is None:
            twin.restore(submit, workload.state, promise=workload.promise)
        else:
            boxes: list[BoxId | None] = [b.id if b is not None else None for b in run.boxes]
            twin.restore(submit, State.RUNNING, run.started_at, boxes)
    for box in scheduler.boxes.values():
        if box.retired:
            twin.apply(BoxRetired(box.id), 0.0)
    twin.apply(BoxesAway(tuple(b.id for b in scheduler.boxes.values() if b.away)), 0.0)
    for pool in scheduler.pools.values():
        twin.apply(BoxesWanted(pool.box_type, pool.wanted), 0.0)
    return twin
