"""The core's input and output: events and decisions, all of them values."""

from collections.abc import Hashable
from typing import NamedTuple

import attrs

from boxsched.model import (
    BoxId,
    Cancellation,
    Kind,
    Policy,
    ProjectId,
    ServerQueue,
    WorkloadId,
)
from boxsched.states import Result, StopCause

# Plain slotted classes on the hot path: frozen ones cost three times as much to make.


@attrs.frozen
class QueueRules:
    """One organization's queue. ``max_boxes`` is its plan; ``priority_aging`` is in seconds."""

    policy: Policy = Policy.BACKFILL
    max_boxes: int | None = None
    priority_aging: float | None = None


class JobAsk(NamedTuple):
    """A job as the core sees it: the type of Box it needs, and two durations in seconds.

    ``expected`` is how long it should run; ``limit``, at least as long, is its time limit: a job
    that is still running after ``expected`` is taken to run until then.

    A named tuple, since a gang's asks are hashed as a whole to find its shape.
    """

    box_type: str
    expected: float
    limit: float


# --- Events: what happened ------------------------------------------------------------------


@attrs.define(eq=False)
class Submit:
    """A workload is registered. ``id`` grows along registrations: it breaks ties in the queue.

    ``lane`` is None for an SSH session. ``jobs`` should be one shared tuple for equal asks; it is
    empty for a build whose jobs are not known yet (``Planned``). ``spare_after``: see
    ``CancellationRule``. ``automatic``: a deploy that started automatically; ``queue``: its
    server's setting.
    """

    id: WorkloadId
    kind: Kind
    project: ProjectId
    branch: str | None
    lane: Hashable | None
    priority: int
    created_at: float
    jobs: tuple[JobAsk, ...]
    cancellation: Cancellation = Cancellation.NONE
    fail_fast: bool = False
    spare_after: int | None = None
    automatic: bool = False
    queue: ServerQueue = ServerQueue.ALL


@attrs.define(eq=False)
class Planned:
    """The jobs of a build that was registered without them; None: they could not be read.

    For a workload that has its jobs, or is finished or unknown: nothing.
    """

    workload: WorkloadId
    jobs: tuple[JobAsk, ...] | None


@attrs.frozen
class Pause:
    """From now on, no workload that the pause covers is admitted. It replaces one of its name.

    It covers everything, or one project, and there the builds of the branches that match
    ``branch``, or the workloads of one ``lane`` (a server's); with ``automatic`` only automatic
    deploys.
    """

    name: str
    project: ProjectId | None = None
    branch: str | None = None
    lane: Hashable | None = None
    automatic: bool = False


@attrs.define(eq=False)
class Resume:
    """The pause of this name ends; an unknown name: nothing."""

    name: str


@attrs.define(eq=False)
class Reprioritize:
    """A workload that holds no Boxes has another priority; for any other one: nothing."""

    workload: WorkloadId
    priority: int


@attrs.define(eq=False)
class Stop:
    """Someone asks to cancel or stop a workload; one that is finished or unknown: nothing."""

    workload: WorkloadId


@attrs.define(eq=False)
class JobsEnded:
    """Jobs (by their place in the workload) have really ended, all with this result."""

    workload: WorkloadId
    jobs: tuple[int, ...]
    result: Result


@attrs.define(eq=False)
class BoxAdded:
    """A free Box was added; it is warm for what it ran last, if that is known.

    For a known Box that was retired while busy: it stays after all.
    """

    box: BoxId
    box_type: str
    last_project: ProjectId | None = None
    last_branch: str | None = None


@attrs.define(eq=False)
class BoxRetired:
    """This Box is removed: at once if it is free, else when its job ends."""

    box: BoxId


@attrs.define(eq=False)
class BoxesAway:
    """The worker of these Boxes is silent: they exist, and none of them is free."""

    boxes: tuple[BoxId, ...]


@attrs.define(eq=False)
class BoxesBack:
    """The worker of these Boxes is back."""

    boxes: tuple[BoxId, ...]


@attrs.define(eq=False)
class JobsLost:
    """These jobs (by their place) have lost their worker: each gets the next free Box of its type,
    before any admission. Until then its old Box counts as in use. ``ended``: nothing runs on the
    old Box any more, so the job may get the same one again."""

    workload: WorkloadId
    jobs: tuple[int, ...]
    ended: bool = False


@attrs.define(eq=False)
class JobsFound:
    """These jobs run after all, on the Boxes that they had: they are no longer lost."""

    workload: WorkloadId
    jobs: tuple[int, ...]


@attrs.define(eq=False)
class BoxesWanted:
    """``count`` Boxes of a type are wanted; if more are busy, Boxes go as jobs end (simulator)."""

    box_type: str
    count: int


@attrs.define(eq=False)
class ProjectLimited:
    """A project has another ``max_boxes`` from now on; None = no limit."""

    project: ProjectId
    max_boxes: int | None


@attrs.define(eq=False)
class LaneIdle:
    """The lane had no build for a long time: its count of superseded builds begins again, unless it
    has unfinished workloads.
    """

    lane: Hashable


Event = (
    Submit
    | Planned
    | Stop
    | Pause
    | Resume
    | Reprioritize
    | JobsEnded
    | BoxAdded
    | BoxRetired
    | BoxesAway
    | BoxesBack
    | JobsLost
    | JobsFound
    | BoxesWanted
    | ProjectLimited
    | LaneIdle
)


# --- Decisions: what follows ----------------------------------------------------------------


@attrs.define(eq=False)
class Refused:
    """It needs more than the plan or its project allows at all; nothing else changes."""

    workload: WorkloadId


@attrs.define(eq=False)
class Canceled:
    """It finished without having run; ``by`` is the newer build that superseded it, if any."""

    workload: WorkloadId
    by: WorkloadId | None


@attrs.define(eq=False)
class PlanFailed:
    """It finished as failed, without having run: ``jobs`` are too many, or None was found."""

    workload: WorkloadId
    jobs: tuple[JobAsk, ...] | None


@attrs.define(eq=False)
class Spared:
    """No strategy cancels or stops it any more: too many before it were canceled or stopped."""

    workload: WorkloadId


@attrs.define(eq=False)
class LaneCounted:
    """How many builds of the lane were superseded since one of it last passed or failed.

    The caller passes the last count in when it restores the core (``Scheduler.restore_lane``).
    """

    lane: Hashable
    superseded: int


@attrs.define(eq=False)
class Prioritized:
    """It waits with another priority from now on."""

    workload: WorkloadId
    priority: int


@attrs.define(eq=False)
class Queued:
    """It left ordering and waits for Boxes now."""

    workload: WorkloadId


@attrs.define(eq=False)
class Admitted:
    """It has Boxes for all its jobs: ``boxes[i]`` runs job i. ``warm`` of them ran its project."""

    workload: WorkloadId
    boxes: tuple[BoxId, ...]
    warm: int


@attrs.define(eq=False)
class Promised:
    """It is the head for the first time: ``at`` is the time reserved for it, in seconds.

    The promise stays; the caller passes it in when it restores the core (``Scheduler.restore``).
    """

    workload: WorkloadId
    at: float


@attrs.define(eq=False)
class GivenAgain:
    """A lost job has a Box: another one, after its old one was freed (``BoxFreed``), or the same
    one again."""

    workload: WorkloadId
    job: int
    box: BoxId


@attrs.define(eq=False)
class StopJobs:
    """These jobs must be ended; they keep their Boxes until ``JobsEnded``."""

    workload: WorkloadId
    jobs: tuple[int, ...]
    cause: StopCause
    by: WorkloadId | None = None


@attrs.define(eq=False)
class BoxFreed:
    """A Box is free, or (``gone``) was removed, because it was retired or no longer wanted."""

    box: BoxId
    gone: bool


@attrs.define(eq=False)
class Finished:
    """All its jobs have ended."""

    workload: WorkloadId
    result: Result


Decision = (
    Refused
    | Canceled
    | PlanFailed
    | Spared
    | LaneCounted
    | Prioritized
    | Queued
    | Promised
    | Admitted
    | GivenAgain
    | StopJobs
    | BoxFreed
    | Finished
)
