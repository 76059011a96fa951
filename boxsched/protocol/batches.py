"""What a shard's leader takes out of the store and puts into it: commands, batches, and all of the
shard when it begins. Frozen values, as those of ``values``.
"""

from collections.abc import Sequence

import attrs

from boxsched.model import BoxId, JobId, ProjectId, WorkloadId
from boxsched.protocol.assignments import Assignment
from boxsched.states import JobState, Result, State, StopCause


@attrs.frozen
class InboxEntry:
    """A durable command for the shard's leader; ``payload`` is JSON (``protocol.inbox``)."""

    id: int
    kind: str
    payload: bytes
    workload: WorkloadId | None = None  # that a submission is of


# The reason of a workload whose submission could not be carried out.
SUBMISSION_SET_ASIDE = "its submission was set aside"


@attrs.frozen
class SetAside:
    """A command that raised, or that nobody can read: it is kept apart with its error.

    ``id`` is its inbox entry's; ``workload`` is the one that it is about, if it is about one.
    """

    id: int
    kind: str
    error: str
    at: float
    workload: int | None


@attrs.frozen
class WorkloadChange:
    """A workload's row as the batch leaves it: everything that moves, in one statement."""

    id: WorkloadId
    state: State
    result: Result | None
    stop_cause: StopCause | None
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    commit: str | None = None  # what its jobs found checked out, where none was asked for
    reason: str | None = None  # why it failed, was stopped or canceled, for a person
    promise: float | None = None  # the first time that was reserved for it as the queue's head


@attrs.frozen
class JobChange:
    """A job's row as the batch leaves it."""

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
    given_at: float | None = None  # when its attempt was given; None: with its workload


@attrs.frozen
class BoxChange:
    """What runs on a Box, and what ran there last (warm Boxes, longest free)."""

    id: BoxId
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float


@attrs.frozen
class DurationChange:
    """The last passed runs of a job name in a project, and what they let one expect. Without runs:
    the name is forgotten."""

    project: ProjectId
    job_name: str
    recent: tuple[float, ...]
    expected_seconds: float


@attrs.frozen
class Event:
    """One entry of the durable history; ``data`` is a JSON object.

    Its id is shard.batch.n: the number that the batch gives the shard, and n = 1, 2, ...
    """

    type: str
    at: float
    workload: WorkloadId | None
    job: JobId | None
    data: bytes


@attrs.frozen
class StoredEvent:
    shard: int
    batch: int
    n: int
    type: str
    data: bytes  # the whole SSE data: type, at, ids and new values


@attrs.frozen
class Batch:
    """One engine transaction. ``batch`` is the number that the shard has before it."""

    shard: int
    epoch: int
    batch: int
    inbox: tuple[int, ...]
    ended: tuple[WorkloadChange, ...]  # written before the others: unique indexes look row by row
    workloads: tuple[WorkloadChange, ...]
    jobs: tuple[JobChange, ...]
    freed: tuple[BoxChange, ...]  # likewise before ``taken``; a Box in it is not retired (any more)
    taken: tuple[BoxChange, ...]
    gone: tuple[BoxId, ...]
    retired: tuple[BoxId, ...]
    durations: tuple[DurationChange, ...]
    events: tuple[Event, ...]
    set_aside: tuple[SetAside, ...] = ()  # of ``inbox``


@attrs.frozen
class Committed:
    """What was read along with a batch's commit, of the database as it is behind it.

    ``inbox``: the oldest commands. ``level``: all that the worker that was asked for should be
    running; None: it was not read.
    """

    inbox: Sequence[InboxEntry] = ()
    level: Sequence[Assignment] | None = None
