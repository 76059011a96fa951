"""The values that the store takes and returns: frozen, and never a driver's rows.

Times are seconds since the epoch as doubles, UTC. Ids are integers; the outside sees texts of them
(``model.workload_text``). ``None`` means "never came" for a time and "does not apply" for a name.
"""

from collections.abc import Mapping, Sequence

import attrs

from boxsched.model import (
    BoxId,
    Cancellation,
    JobId,
    Kind,
    ProjectId,
    ServerQueue,
    WorkerId,
    WorkloadId,
)
from boxsched.protocol.schedules import Firing
from boxsched.states import JobState, Result, State


@attrs.frozen
class JobSpec:
    """The settings of a job; ``commands`` are one script for ``bash -e``."""

    name: str
    box_type: str
    timeout_seconds: float
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    show_commands: bool = True  # in its log, before what they put out


@attrs.frozen
class IdempotencyKey:
    """``scope`` has the token and the path, so that the keys of two callers never meet."""

    scope: str
    key: str
    body_sha256: str


ROW_BYTES = 500  # of a workload or a job, besides what is long


@attrs.frozen
class NewWorkload:
    """A checked submission, complete but for its id and number."""

    project: ProjectId
    project_version: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    message: str | None
    author: str | None
    priority: int
    cancellation: Cancellation
    fail_fast: bool
    jobs: tuple[JobSpec, ...]
    created_at: float
    rebuild_of: WorkloadId | None = None
    build: WorkloadId | None = None  # the build that a deploy or a session takes its code from
    public_key: str | None = None
    from_fork: bool = False  # its code is of a fork: its jobs get no secrets
    compare_url: str | None = None  # the code host's page of the changes
    event_at: float | None = None  # when the code host says that it happened
    target_branch: str | None = None  # of a change request: the branch that it would go to
    spare_after: int | None = None  # ``model.CancellationRule``
    automatic: bool = False  # a deploy that nobody asked for
    rollback: bool = False  # a deploy of a build that is older than what is live
    queue: ServerQueue = ServerQueue.ALL  # of its server
    submitted_by: str = ""  # a token's name or role, "webhook", "automatic" or "schedule"
    firing: Firing | None = None  # of the schedule that asks for it
    idempotency: IdempotencyKey | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes in the store."""
        scripts = sum(
            sum(map(len, job.commands)) + sum(map(len, job.environment.values()))
            for job in self.jobs
        )
        return ROW_BYTES * (1 + len(self.jobs)) + len(self.message or "") + scripts


@attrs.frozen
class Submitted:
    """It is durable; ``repeated`` = its idempotency key was seen before with the same body.

    ``rollback``: it deploys an older build than what is live.
    """

    id: WorkloadId
    number: int
    repeated: bool
    rollback: bool = False


@attrs.frozen
class KeyTaken:
    """The idempotency key was seen before with another body (409)."""


@attrs.frozen
class SweptProjects:
    """One slice of the projects: behind which id the next begins (None = the first), and how many
    deleted ones of this one are gone."""

    place: ProjectId | None
    dropped: int


@attrs.frozen
class ProjectChanged:
    """The project's settings or the plan changed, or it went, since the submission was checked:
    check again."""


SubmitOutcome = Submitted | KeyTaken | ProjectChanged


@attrs.frozen
class Job:
    id: JobId
    name: str
    box_type: str
    timeout_seconds: float
    expected_seconds: float
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    state: JobState
    result: Result | None
    box: BoxId | None
    attempt: int
    lease_token: int | None
    started_at: float | None
    finished_at: float | None
    exit_status: int | None
    reason: str | None  # why it ended as it did, for a person: "time limit of 60 s", ...
    show_commands: bool


@attrs.frozen
class Workload:
    id: WorkloadId
    project: ProjectId
    project_name: str
    number: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    message: str | None
    author: str | None
    priority: int
    cancellation: Cancellation
    fail_fast: bool
    state: State
    result: Result | None
    created_at: float
    queued_at: float | None
    started_at: float | None
    finished_at: float | None
    boxes: int  # how many jobs, so how many Boxes it asks for
    rebuild_of: WorkloadId | None
    build: WorkloadId | None
    public_key: str | None
    reason: str | None = None  # why it failed, was stopped or canceled, for a person
    automatic: bool = False  # a deploy that nobody asked for
    rollback: bool = False  # a deploy of a build that is older than what was live
    from_fork: bool = False  # it runs what a stranger wrote: it gets no secrets
    compare_url: str | None = None  # the code host's page of the changes
    event_at: float | None = None  # when the code host says that it happened
    target_branch: str | None = None  # of a change request: the branch that it would go to
    submitted_by: str | None = None  # whose request it was; None: an earlier program stored it
    jobs: tuple[Job, ...] = ()  # empty in lists, unless they are requested


@attrs.frozen
class ServerState:
    """The deploys of a server: what is live, the last that began, and those that have not begun."""

    live: WorkloadId | None
    last: WorkloadId | None
    waiting: tuple[WorkloadId, ...]


@attrs.frozen
class History:
    """A history that began in the database: a backup was restored, or a later timeline began."""

    restored: bool
    timeline: int | None
    began_at: float


@attrs.frozen
class ActivitySnapshot:
    """The workloads of the page, read in one snapshot: each stands in exactly one of the two lists.

    ``places`` has the (batch, n) of the newest event of each shard at that moment.
    """

    places: Mapping[int, tuple[int, int]]
    unfinished: Sequence[Workload]  # by id; without jobs, as are the finished ones
    finished: Sequence[Workload]  # latest first
    history: History | None = None  # where it is not the first one


@attrs.frozen
class WorkloadFilter:
    """Newest first; ``before`` is the id that the page goes on behind."""

    kind: Kind | None = None
    state: State | None = None
    result: Result | None = None
    project: ProjectId | None = None
    branch: str | None = None
    server: str | None = None
    before: WorkloadId | None = None
    limit: int = 50


@attrs.frozen
class WorkloadPage:
    """Newest first, without what their jobs run (commands, environment). It may be short, or empty,
    with more behind it: ``next`` is the id to go on behind, None at the end."""

    workloads: tuple[Workload, ...]
    next: WorkloadId | None


@attrs.frozen
class NodeInfo:
    """A node that was started at least once; ``url`` is the address that it announces.

    ``seen_at``: when it lived last, by the database's clock; None: not known.
    """

    id: int
    name: str
    url: str
    version: str
    started_at: float
    seen_at: float | None = None


@attrs.frozen
class ShardHead:
    """A shard's leadership (``epoch``) and its last committed transaction (``batch``)."""

    id: int
    epoch: int
    batch: int
    node: str


MAX_WORKERS = 100  # of a token that says nothing else


@attrs.frozen
class Token:
    """An API token, known by its SHA-256 sum alone. ``role``: admin | worker."""

    id: str
    digest: str = attrs.field(repr=False)
    role: str
    name: str
    created_at: float
    expires_at: float | None = None
    organization: int = 1
    max_workers: int = MAX_WORKERS  # that may be bound to it


@attrs.frozen
class Worker:
    id: WorkerId
    name: str
    address: str
    state: str  # connected | draining | disconnected
    boxes: int
    builds: int  # workloads of that kind with a job on it now
    deploys: int
    ssh_sessions: int
    seen_at: float | None  # its last heartbeat, by the database's clock; None: not known
    token: str | None = None  # the id of the token that it is bound to
    problem: str | None = None  # why it can begin no jobs at present
    # ``protocol.workers.Drain``; None: it is not drained.
    drain_by: str | None = None
    drain_since: float | None = None
    drain_note: str | None = None
    drain_stop_at: float | None = None
    drain_done: bool = False


@attrs.frozen
class SetAsideCommand:
    """A command that raised when the leader applied it, or that it could not read."""

    id: int
    kind: str
    payload: str
    workload: WorkloadId | None  # that it is about, if it is about one
    error: str
    at: float
