"""A scenario as values: the events with their times, and how each job will end (unknown to the
core)."""

from collections.abc import Mapping, Sequence

import attrs

from boxsched.model import ProjectId, WorkloadId
from boxsched.scheduling.interface import (
    BoxesWanted,
    JobAsk,
    Pause,
    Planned,
    QueueRules,
    Reprioritize,
    Resume,
    Stop,
    Submit,
)
from boxsched.states import Result

DEFAULT_BOX_TYPE = "default"


@attrs.frozen(eq=False)
class JobGroup:
    """Jobs of one workload, by their places in it, with the same duration and result."""

    jobs: tuple[int, ...]
    seconds: float
    result: Result
    boxes: tuple[tuple[str, int], ...]  # how many Boxes of each type they hold


@attrs.frozen(eq=False)
class PlanRead:
    """The jobs of a build that was submitted without them, and how they will end."""

    planned: Planned
    course: tuple[JobGroup, ...]


Asked = Submit | PlanRead | Stop | BoxesWanted | Pause | Resume | Reprioritize


@attrs.frozen(eq=False)
class Scenario:
    """``names[i]`` and ``course[i]`` are of the workload with the id i + 1; see ``workload_id``.
    The course of a build that is submitted without jobs is empty.

    ``boxes``: Boxes wanted at first, of each type; the first type is the default. ``events`` are
    in order of time. Workloads are numbered in the order in which they are submitted.
    """

    rules: QueueRules
    boxes: Mapping[str, int]
    project_limits: Mapping[ProjectId, int]
    names: Sequence[str]
    course: Sequence[tuple[JobGroup, ...]]
    events: Sequence[tuple[float, Asked]]


def workload_id(index: int) -> WorkloadId:
    return WorkloadId(index + 1)


def workload_index(workload: WorkloadId) -> int:
    return workload - 1


def held(jobs: Sequence[int], asks: Sequence[JobAsk]) -> tuple[tuple[str, int], ...]:
    """Count the Boxes that these jobs hold, by type."""
    counts: dict[str, int] = {}
    for job in jobs:
        box_type = asks[job].box_type
        counts[box_type] = counts.get(box_type, 0) + 1
    return tuple(counts.items())
