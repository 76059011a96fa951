"""A shard's stored values: settings, Boxes, and everything that a new leader loads."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import attrs

from boxsched.model import (
    DEFAULT_ORGANIZATION,
    BoxId,
    Cancellation,
    JobId,
    Kind,
    OrganizationId,
    Policy,
    ProjectId,
    WorkerId,
    WorkloadId,
)
from boxsched.protocol.retries import Retries
from boxsched.protocol.workers import Drain, Pulse
from boxsched.states import JobState, Result, State, StopCause

PAGE_WORKLOADS = 1_000  # workloads in one page of a load, and of other long reads
SHARD = 1  # the shard of the default organization
LOST_RETRIES = 2  # the default of ``Organization.lost_retries``


@attrs.frozen
class Organization:
    """One organization's queue: its policy, plan (``max_boxes``) and ageing.

    ``lost_retries``: how often a lost job of a build gets another Box.
    """

    id: OrganizationId
    name: str
    policy: Policy
    max_boxes: int | None
    priority_aging: float | None
    shard: int = SHARD  # a shard has at most one organization
    lost_retries: int = LOST_RETRIES
    created_at: float | None = None  # None: with the database

    @property
    def ref(self) -> "OrganizationRef":
        return OrganizationRef(self.id, self.name, self.shard)


@attrs.frozen
class OrganizationRef:
    """What never changes of an organization, and finds what belongs to it."""

    id: OrganizationId
    name: str
    shard: int


DEFAULT = OrganizationRef(DEFAULT_ORGANIZATION, "default", SHARD)


@attrs.frozen
class Project:
    """A project, with its name within its organization.

    ``settings`` is the JSON of ``PUT /projects/{project}`` without its secret.

    ``version`` grows with each change of the settings: a submission names the version it was
    checked against, so that none is stored under settings that it was not checked against.
    """

    id: ProjectId
    name: str
    settings: str
    max_boxes: int | None
    version: int
    webhook_secret: str | None = attrs.field(repr=False, default=None)
    webhook_secret_before: str | None = attrs.field(repr=False, default=None)
    webhook_secret_until: float | None = None  # until then the previous secret is also valid
    organization: OrganizationId = DEFAULT_ORGANIZATION


@attrs.frozen
class Box:
    """A job slot. ``freed_at`` is when its last job ended, in seconds since 1970."""

    id: BoxId
    worker: WorkerId
    ordinal: int  # 1, 2, ... on its worker
    box_type: str
    retired: bool  # it is removed when its job ends
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float

    # For people: where it is and what runs on it.
    worker_name: str = ""
    workload: WorkloadId | None = None
    job_name: str | None = None


@attrs.frozen
class Pause:
    """A pause (docs/scheduling.md, "Pauses"). Times are seconds since 1970; ``until``: when it ends
    automatically, None: never."""

    name: str
    project: ProjectId | None
    branch: str | None
    server: str | None
    automatic: bool
    note: str
    by: str
    since: float
    until: float | None


class LoadedJob(NamedTuple):
    """A job of an unfinished workload, as a new leader loads it.

    It is a tuple because a takeover makes very many of them at once. Times are seconds since 1970.
    """

    name: str
    box_type: str
    timeout_seconds: float
    expected_seconds: float
    retry: Retries | None
    state: JobState
    result: Result | None
    box: BoxId | None
    attempt: int
    lease_token: int | None
    started_at: float | None
    reason: str | None
    given_at: float | None = None
    restored_from: int | None = None
    retried: Retries | None = None


class LoadedWorkload(NamedTuple):
    """An unfinished workload, as a new leader loads it; its jobs in order."""

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
    automatic: bool = False
    spared: bool = False


@attrs.frozen
class ShardState:
    """Everything that a leader starts from, except the unfinished workloads.

    ``organization`` is None in a shard that has none yet. ``pulses`` are of the shard's workers.
    ``durations`` are seconds of the last passed runs, by project and job name.
    """

    shard: int
    epoch: int
    batch: int
    organization: Organization | None
    projects: tuple[Project, ...]
    boxes: tuple[Box, ...]
    durations: Mapping[tuple[ProjectId, str], tuple[float, ...]]
    pulses: tuple[Pulse, ...]
    pauses: tuple[Pause, ...] = ()
    superseded: Mapping[str, int] = attrs.field(factory=dict)  # by lane: ``LaneChange``
    notifying: frozenset[ProjectId] = frozenset()  # projects with commit statuses or hooks
    drains: Mapping[WorkerId, Drain] = attrs.field(factory=dict)


class ShardLoading(Protocol):
    """Receives a shard while it is loaded. Each call may take some tens of milliseconds."""

    def begin(self, state: ShardState) -> None:
        """Called once, first."""

    def add(self, workloads: Sequence[LoadedWorkload]) -> None:
        """Called with the next unfinished workloads, at most PAGE_WORKLOADS, ordered by id."""
