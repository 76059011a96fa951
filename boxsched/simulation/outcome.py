"""The result of a scenario: each workload's times and result, and the figures over all of them."""

import math
from collections.abc import Mapping, Sequence

import attrs

from boxsched.simulation.scenario import Scenario
from boxsched.states import Result

# Below this a run counts as this long, so that short jobs do not swamp the mean slowdown.
SLOWDOWN_BOUND_SECONDS = 10.0


@attrs.define(eq=False)
class SimulatedTimes:
    """One workload's times in seconds, and its result; None for a phase that it never reached."""

    registered_at: float
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: Result | None = None


@attrs.frozen
class Summary:
    """The figures of a run (docs/simulation.md, "Output")."""

    workloads: int
    jobs: int
    makespan: float
    mean_wait: float
    mean_bounded_slowdown: float
    utilization: float


@attrs.frozen(eq=False)
class Outcome:
    """``records[i]`` is of the workload ``scenario.names[i]``."""

    scenario: Scenario
    records: Sequence[SimulatedTimes]
    summary: Summary

    @property
    def workloads(self) -> Mapping[str, SimulatedTimes]:
        return dict(zip(self.scenario.names, self.records, strict=True))


def summarize(
    records: Sequence[SimulatedTimes], jobs: int, makespan: float, utilization: float
) -> Summary:
    waits, slowdowns = [], []
    for record in records:
        if record.started_at is not None and record.finished_at is not None:
            wait = record.started_at - record.registered_at
            run = record.finished_at - record.started_at
            waits.append(wait)
            slowdowns.append(max(1.0, (wait + run) / max(run, SLOWDOWN_BOUND_SECONDS)))
    return Summary(
        workloads=len(records),
        jobs=jobs,
        makespan=makespan,
        mean_wait=math.fsum(waits) / len(waits) if waits else 0.0,
        mean_bounded_slowdown=math.fsum(slowdowns) / len(slowdowns) if slowdowns else 1.0,
        utilization=utilization,
    )
