"""A shard as the store has it: its settings, its Boxes, and all that a leader loads to begin."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import attrs

from boxsched.model import (
    BoxId,
    Cancellation,
    JobId,
    Kind,
    Policy,
    ProjectId,
    WorkerId,
    WorkloadId,
)
from boxsched.protocol.workers import Pulse
from boxsched.states import JobState, Result, State, StopCause

PAGE_WORKLOADS = 1_000  # of a load, and of other long reads
SHARD = 1  # the default organization's; the only one there is on SQLite


@attrs.frozen
class Organization:
    """One organization's queue: its policy, plan (``max_boxes``) and ageing."""

    id: int
    name: str
    policy: Policy
    max_boxes: int | None
    priority_aging: float | None
    shard: int = 1  # one organization a shard at most


@attrs.frozen
class Project:
    """A project; ``settings`` is the JSON of ``PUT /projects/{project}`` without its secret.

    ``version`` grows with each change of the settings: a submission names the version it was
    checked against, so that none is stored under settings that it was not checked against.
    """

    id: ProjectId
    name: str
    settings: str
    max_boxes: int | None
    version: int
    webhook_secret: str | None = attrs.field(repr=False, default=None)


@attrs.frozen
class Box:
    id: BoxId
    worker: WorkerId
    ordinal: int  # 1, 2, ... on its worker
    box_type: str
    retired: bool  # it goes when its job ends
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float

    # For people: where it is and what runs on it.
    worker_name: str = ""
    workload: WorkloadId | None = None
    job_name: str | None = None


class LoadedJob(NamedTuple):
    """A job of an unfinished workload as the engine needs it again. A tuple: a takeover makes very
    many at once."""

    name: str
    box_type: str
    timeout_seconds: float
    expected_seconds: float
    state: JobState
    result: Result | None
    box: BoxId | None
    attempt: int
    lease_token: int | None
    started_at: float | None
    reason: str | None
    given_at: float | None = None


class LoadedWorkload(NamedTuple):
    """An unfinished workload as the engine needs it again; jobs in order."""

    id: WorkloadId
    project: ProjectId
    number: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    priority: int
    cancellation: Cancellation
    fail_fast: bool
    state: State
    created_at: float
    queued_at: float | None
    started_at: float | None
    stop_cause: StopCause | None
    jobs: tuple[LoadedJob, ...]
    reason: str | None = None
    promise: float | None = None


@attrs.frozen
class ShardState:
    """All that a leader starts from, but for the unfinished workloads.

    ``organization`` is None in a shard that has none yet. ``pulses`` are those of its workers.
    """

    shard: int
    epoch: int
    batch: int
    organization: Organization | None
    projects: tuple[Project, ...]
    boxes: tuple[Box, ...]
    durations: Mapping[tuple[ProjectId, str], tuple[float, ...]]
    pulses: tuple[Pulse, ...]


class ShardLoading(Protocol):
    """Who loads a shard. Each call may take some ten milliseconds."""

    def begin(self, state: ShardState) -> None: ...

    def add(self, workloads: Sequence[LoadedWorkload]) -> None:
        """The next of the unfinished workloads, at most PAGE_WORKLOADS, by id."""
