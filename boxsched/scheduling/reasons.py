"""Why a workload does not run yet, as values; the API, the page and the tests read them."""

import attrs

from boxsched.model import WorkloadId


@attrs.frozen
class WaitsForLane:
    """Earlier workloads of its lane are unfinished: ``ahead``, in order."""

    ahead: tuple[WorkloadId, ...]


@attrs.frozen
class AwaitsPlan:
    """Its jobs are not known yet."""


@attrs.frozen
class Paused:
    """Pauses cover it: the first one by ``name``, and the names of ``others``, in order."""

    name: str
    others: tuple[str, ...] = ()


@attrs.frozen
class NoSuchBoxes:
    """It needs more Boxes of a type than exist."""

    box_type: str
    asked: int
    existing: int


@attrs.frozen
class NeedsBoxes:
    """Too few Boxes of a type are free now. It is the head of the queue, or would be."""

    box_type: str
    asked: int
    free: int


@attrs.frozen
class PlanLimit:
    """Boxes are free, but the plan would be exceeded."""

    asked: int
    used: int
    limit: int


@attrs.frozen
class ProjectLimit:
    """Its project's ``max_boxes`` would be exceeded."""

    asked: int
    used: int
    limit: int


@attrs.frozen
class BehindReservation:
    """It would fit now, but it would delay the head, which gets its Boxes at ``at``.

    ``by_limit``: the head waits much longer than was promised, so the time limits of later
    workloads count instead of their expected durations (docs/scheduling.md, "Guard").
    """

    head: WorkloadId
    at: float
    by_limit: bool = False


@attrs.frozen
class QueueOrder:
    """It would fit now, but the policy holds it behind the head, or its project's first."""

    behind: WorkloadId


@attrs.frozen
class Runs:
    """It has its Boxes."""


Reason = (
    WaitsForLane
    | AwaitsPlan
    | Paused
    | NoSuchBoxes
    | NeedsBoxes
    | PlanLimit
    | ProjectLimit
    | BehindReservation
    | QueueOrder
    | Runs
)
