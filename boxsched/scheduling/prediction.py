"""Predictions: how long a job should run, and when a waiting workload should start."""

import math
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

import attrs

from boxsched.model import BoxId, WorkloadId
from boxsched.scheduling.interface import (
    Admitted,
    BoxAdded,
    BoxesAway,
    BoxesWanted,
    BoxRetired,
    Event,
    JobsEnded,
    Pause,
    ProjectLimited,
    QueueRules,
    Submit,
)
from boxsched.scheduling.scheduler import Scheduler
from boxsched.scheduling.workload import Workload
from boxsched.states import Result, State

RUNS_REMEMBERED = 10
_STEPS_A_DOUBLING = 4  # powers of 2^(1/4): few shapes, at most 19 % over
SHORTEST_EXPECTED_SECONDS = 2**-10
FORECAST_WORKLOADS = 500  # no forecast if more workloads wait


def expected_duration(passed_runs: Sequence[float]) -> float:
    """Seconds to expect: the median of the last runs, rounded up to a power of 2^(1/4) seconds.

    docs/scheduling.md, "Expected durations". At least a thousandth of a second.
    """
    seconds = max(median(passed_runs[-RUNS_REMEMBERED:]), SHORTEST_EXPECTED_SECONDS)
    step = math.ceil(_STEPS_A_DOUBLING * math.log2(seconds))
    while 2 ** (step / _STEPS_A_DOUBLING) < seconds:  # log2 may round down
        step += 1
    rounded: float = 2 ** (step / _STEPS_A_DOUBLING)
    return rounded


def forecast(scheduler: Scheduler, id_: WorkloadId, now: float) -> float | None:
    """Return when a waiting workload should start, in seconds (see ``Outlook``).

    None if it would never start, or if more than FORECAST_WORKLOADS wait.
    """
    run = scheduler.workloads[id_].run
    if run is not None:
        return run.started_at
    ahead = outlook(scheduler, now)
    return None if ahead is None else ahead.expected_starts((id_,)).get(id_)


def outlook(scheduler: Scheduler, now: float) -> "Outlook | None":
    """Copy the core for a forecast; None if more than FORECAST_WORKLOADS wait."""
    waiting = (w for w in scheduler.workloads.values() if w.run is None)
    if sum(1 for _ in islice(waiting, FORECAST_WORKLOADS + 1)) > FORECAST_WORKLOADS:
        return None
    return Outlook(_image(scheduler), now)


@attrs.frozen
class Outlook:
    """A copy of a core at one moment, as values, so that another thread may run it ahead."""

    image: "QueueSnapshot"
    now: float

    def expected_starts(self, ids: Iterable[WorkloadId]) -> dict[WorkloadId, float]:
        """When these waiting workloads should start, in seconds, by id.

        Assumes that nothing else is submitted, that every job takes its expected duration, and a
        late job its time limit. Boxes that are away stay away, and their jobs do not end. Leaves
        out workloads that would never start: paused ones, those without jobs, and those that wait
        for them.
        """
        twin = _twin(self.image)
        starts = _run_ahead(twin, set(ids), self.now)
        for _ in twin.take_apart():
            pass
        return starts


def _run_ahead(twin: Scheduler, ids: set[WorkloadId], now: float) -> dict[WorkloadId, float]:
    ends: list[tuple[float, int, tuple[int, ...]]] = []
    for workload in twin.workloads.values():
        if workload.run is not None:
            _push_ends(ends, workload, workload.run.jobs_in_sight(), now)
    starts: dict[WorkloadId, float] = {}
    time = now
    while True:
        ended: list[JobsEnded] = []
        while ends and ends[0][0] <= time:
            _, workload_id, jobs = heappop(ends)
            ended.append(JobsEnded(WorkloadId(workload_id), jobs, Result.PASSED))
        for decision in twin.decide(ended, time):
            if isinstance(decision, Admitted):
                if decision.workload in ids:
                    starts[decision.workload] = time
                admitted = twin.workloads[decision.workload]
                _push_ends(ends, admitted, tuple(range(len(decision.boxes))), time)
        if not ends or len(starts) == len(ids):
            return starts
        time = max(time, ends[0][0])


def _push_ends(
    ends: list[tuple[float, int, tuple[int, ...]]],
    workload: Workload,
    jobs: tuple[int, ...],
    now: float,
) -> None:
    assert workload.run is not None
    at: dict[float, list[int]] = {}
    for job in jobs:
        box = workload.run.boxes[job]
        assert box is not None and box.group is not None
        at.setdefault(box.group.taken_to_end(now), []).append(job)
    for end, members in at.items():
        heappush(ends, (end, workload.id, tuple(members)))


class Standing(NamedTuple):
    """The state of a workload; ``started_at``, ``boxes`` and ``given_again`` only if it runs."""

    submit: Submit
    state: State
    started_at: float | None = None
    boxes: tuple[BoxId | None, ...] = ()
    promise: float | None = None
    given_again: Mapping[int, float] = MappingProxyType({})


@attrs.frozen
class QueueSnapshot:
    """All values that are needed to copy a core."""

    rules: QueueRules
    pools: tuple[str, ...]
    boxes: tuple[BoxAdded, ...]
    projects: tuple[ProjectLimited, ...]
    pauses: tuple[Pause, ...]
    workloads: tuple[Standing, ...]
    retired: tuple[BoxRetired, ...]
    away: BoxesAway
    wanted: tuple[BoxesWanted, ...]


def _image(scheduler: Scheduler) -> QueueSnapshot:
    boxes = scheduler.boxes.values()
    return QueueSnapshot(
        scheduler.rules,
        tuple(scheduler.pools),
        tuple([BoxAdded(b.id, b.pool.box_type, b.last_project, b.last_branch) for b in boxes]),
        tuple([ProjectLimited(p.id, p.limit) for p in scheduler.register.projects.values()]),
        scheduler.pauses.in_order(),
        tuple([_standing(workload) for workload in scheduler.workloads.values()]),
        tuple([BoxRetired(box.id) for box in boxes if box.retired]),
        BoxesAway(tuple([box.id for box in boxes if box.away])),
        tuple([BoxesWanted(pool.box_type, pool.wanted) for pool in scheduler.pools.values()]),
    )


def _standing(workload: Workload) -> Standing:
    lane = workload.lane.key if workload.lane is not None else None
    submit = Submit(
        workload.id, workload.kind, workload.project.id, workload.branch, lane,
        workload.priority, workload.created_at, workload.ask.jobs,
        automatic=workload.automatic,
    )  # fmt: skip
    run = workload.run
    if run is None:
        return Standing(submit, workload.state, promise=workload.promise)
    boxes = tuple([b.id if b is not None else None for b in run.boxes])
    again = run.given_again(workload.ask)
    return Standing(submit, State.RUNNING, run.started_at, boxes, given_again=again)


def _twin(image: QueueSnapshot) -> Scheduler:
    """Return a core in the state of the image."""
    twin = Scheduler(image.rules, image.pools)
    before: tuple[Event, ...] = (*image.boxes, *image.projects, *image.pauses)
    behind: tuple[Event, ...] = (*image.retired, image.away, *image.wanted)
    for event in before:
        twin.apply(event, 0.0)
    for each in sorted(image.workloads, key=lambda one: one.submit.id):
        twin.restore(
            each.submit, each.state, each.started_at, each.boxes,
            promise=each.promise, given_again=each.given_again,
        )  # fmt: skip
    for event in behind:
        twin.apply(event, 0.0)
    return twin
