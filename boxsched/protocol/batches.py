"""What a shard's leader reads from the store and writes to it in each turn: commands and batches.

Times are seconds since 1970.
"""

from collections.abc import Sequence

import attrs

from boxsched.model import BoxId, JobId, ProjectId, WorkerId, WorkloadId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.retries import Retries
from boxsched.protocol.workers import Drain
from boxsched.states import JobState, Result, State, StopCause


@attrs.frozen
class InboxEntry:
    """A durable command for the shard's leader; ``payload`` is JSON (``protocol.inbox``)."""

    id: int
    kind: str
    payload: bytes
    workload: WorkloadId | None = None  # the workload of a submission


# The reason of a workload whose submission was set aside.
SUBMISSION_SET_ASIDE = "its submission was set aside"


@attrs.frozen
class SetAside:
    """A command that raised, or that cannot be read: it is kept with its error.

    ``id`` is the id of its inbox entry. ``workload`` is the workload that it is about, if any.
    """

    id: int
    kind: str
    error: str
    at: float
    workload: int | None


@attrs.frozen
class WorkloadChange:
    """The columns of a workload's row that can change, as the batch leaves them."""

    id: WorkloadId
    state: State
    result: Result | None
    stop_cause: StopCause | None
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    commit: str | None = None  # the commit that its jobs found, if none was asked for
    reason: str | None = None  # why it failed, was stopped or canceled, for a person
    promise: float | None = None  # the first time that was reserved for it at the queue's head
    priority: int | None = None  # another one than it was submitted with
    spared: bool = False  # no strategy cancels or stops it any more
    priority_by: str | None = None  # who set ``priority``
    priority_note: str | None = None


@attrs.frozen
class JobChange:
    """The columns of a job's row that can change, as the batch leaves them."""

    id: JobId
    state: JobState
    result: Result | None
    box: BoxId | None
    attempt: int
    lease_token: int | None
    started_at: float | None
    finished_at: float | None
    exit_status: int | None
    reason: str | None
    given_at: float | None = None  # when this attempt was given; None: when the workload started
    restored_from: int | None = None  # ``Assignment.restores``
    retried: Retries | None = None  # the retries in place that it has used


@attrs.frozen
class BoxChange:
    """What runs on a Box, and what ran there last."""

    id: BoxId
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float


@attrs.frozen
class DurationChange:
    """The durations of the last passed runs of a job name in a project, in seconds.

    ``expected_seconds`` is the expected duration of the next run. Without runs the name is
    forgotten.
    """

    project: ProjectId
    job_name: str
    recent: tuple[float, ...]
    expected_seconds: float


@attrs.frozen
class LaneChange:
    """How many builds of a lane were superseded since one last passed or failed."""

    lane: str
    project: ProjectId
    superseded: int


@attrs.frozen
class PauseOver:
    """A pause that ended automatically, at its end time."""

    name: str
    until: float


@attrs.frozen
class DrainChange:
    """A worker's drain; None: it is not drained.

    ``connection``: the connection of ``drain.done``; on a later one the worker is not ending.
    """

    worker: WorkerId
    drain: Drain | None
    connection: int


@attrs.frozen
class Differences:
    """How a worker differs from what the leader requires; empty: it fits."""

    worker: WorkerId
    differs: tuple[str, ...]


@attrs.frozen
class Live:
    """A deploy that passed: it is live on its server from now on."""

    project: ProjectId
    server: str
    workload: WorkloadId


@attrs.frozen
class DeployDue:
    """A build that passed, and a server that follows its branch."""

    build: WorkloadId
    server: str


@attrs.frozen
class Event:
    """One entry of the durable history; ``data`` is a JSON object.

    Its id is shard.batch.n, where batch is the number of the batch and n = 1, 2, ...
    """

    type: str
    at: float
    workload: WorkloadId | None
    job: JobId | None
    data: bytes


@attrs.frozen
class Notice:
    """An event of a workload that the targets of its project may ask for."""

    workload: WorkloadId
    event: str
    at: float


@attrs.frozen
class StoredEvent:
    """An event with its id, as readers get it."""

    shard: int
    batch: int
    n: int
    type: str
    data: bytes  # the whole SSE data: type, at, ids and new values


@attrs.frozen
class Batch:
    """One transaction of the engine. ``batch`` is the number that the shard has before it.

    ``inbox`` are the ids of the commands that it applies and deletes.
    """

    shard: int
    epoch: int
    batch: int
    inbox: tuple[int, ...]
    ended: tuple[WorkloadChange, ...]  # written first: unique indexes are checked row by row
    workloads: tuple[WorkloadChange, ...]
    jobs: tuple[JobChange, ...]
    freed: tuple[BoxChange, ...]  # written before ``taken``; these Boxes are not retired
    taken: tuple[BoxChange, ...]
    gone: tuple[BoxId, ...]
    retired: tuple[BoxId, ...]
    durations: tuple[DurationChange, ...]
    events: tuple[Event, ...]
    set_aside: tuple[SetAside, ...] = ()  # the commands of ``inbox`` that are not applied
    lanes: tuple[LaneChange, ...] = ()
    pauses_over: tuple[PauseOver, ...] = ()
    notices: tuple[Notice, ...] = ()
    live: tuple[Live, ...] = ()
    deploys_due: tuple[DeployDue, ...] = ()
    drains: tuple[DrainChange, ...] = ()
    differences: tuple[Differences, ...] = ()


@attrs.frozen
class Committed:
    """What a commit read in the same transaction, after the batch was written.

    ``inbox``: the oldest commands that are left. ``level``: everything that the worker in question
    should be running; None: it was not read.
    """

    inbox: Sequence[InboxEntry] = ()
    level: Sequence[Assignment] | None = None
