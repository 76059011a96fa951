"""The values that the store takes and returns. They are frozen, and never a driver's rows.

Times are seconds since the epoch as doubles, UTC. Ids are integers; the API shows them as texts
(``model.workload_text``). ``None`` means "not yet" for a time and "does not apply" for a name.
"""

from collections.abc import Mapping, Sequence

import attrs

from boxsched.model import (
    DEFAULT_ORGANIZATION,
    BoxId,
    Cancellation,
    JobId,
    Kind,
    OrganizationId,
    ProjectId,
    ServerQueue,
    WorkerId,
    WorkloadId,
)
from boxsched.protocol.retries import Retries
from boxsched.protocol.schedules import Firing
from boxsched.protocol.shards import SHARD
from boxsched.states import JobState, Result, State


@attrs.frozen
class JobSpec:
    """The settings of a job; ``commands`` are one script for ``bash -e``."""

    name: str
    box_type: str
    timeout_seconds: float
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    show_commands: bool = True  # each command in the log, before its output
    retry: Retries | None = None  # which ends give it another attempt in its Box
    artifacts: tuple[str, ...] = ()  # patterns of the files that are kept
    image: str | None = None  # the system that it sees; None: the worker's


@attrs.frozen
class IdempotencyKey:
    """``scope`` contains the token and the path, so that keys of different callers differ."""

    scope: str
    key: str
    body_sha256: str


ROW_BYTES = 500  # size of a workload or a job, without long texts


@attrs.frozen
class NewWorkload:
    """A checked submission, complete except for its id and number."""

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
    from_fork: bool = False  # its code is from a fork: its jobs get no secrets
    compare_url: str | None = None  # the code host's page of the changes
    event_at: float | None = None  # when the code host says that it happened
    # for a change request: the branch that it would be merged into
    target_branch: str | None = None
    spare_after: int | None = None  # ``model.CancellationRule``
    ssh_forwarding: bool = False  # whether a session may forward ports and agents
    automatic: bool = False  # an automatic deploy
    rollback: bool = False  # a deploy of a build that is older than what is live
    queue: ServerQueue = ServerQueue.ALL  # the setting of its server
    submitted_by: str = ""  # a token's name or role, "webhook", "automatic" or "schedule"
    firing: Firing | None = None  # the firing of the schedule that created it
    shard: int = SHARD  # of its organization, when it was checked
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
    """A durable submission. ``repeated``: its idempotency key was used before with the same body.

    ``rollback``: it deploys an older build than what is live.
    """

    id: WorkloadId
    number: int
    repeated: bool
    rollback: bool = False


@attrs.frozen
class KeyTaken:
    """The idempotency key was used before with another body (409)."""


@attrs.frozen
class SweptProjects:
    """The result of a slice of projects: after which id the next slice begins (None = at the
    first), and how many rows of deleted projects were removed.
    """

    place: ProjectId | None
    dropped: int


@attrs.frozen
class ProjectChanged:
    """The project or the plan has changed, or the project was deleted, since the submission was
    checked; or an automatic deploy is not the newest of its server any more: check again.
    """


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
    reason: str | None  # why it ended with this result, for a person: "time limit of 60 s", ...
    show_commands: bool
    # The lease token of its attempt before a person gave it back to its worker.
    restored_from: int | None = None
    retry: Retries | None = None  # as in ``JobSpec``
    retried: Retries | None = None  # the retries that it has used
    artifacts: tuple[str, ...] = ()
    image: str | None = None

    @property
    def retries(self) -> int:
        return 0 if self.retried is None else self.retried.total

    @property
    def is_flaky(self) -> bool:
        """Whether it passed only when it was tried again."""
        return self.result is Result.PASSED and self.retries > 0


@attrs.frozen
class SshPlace:
    """How a session is reached. ``host`` and ``port``: of its worker; None: only through a node.

    ``host_key``: the public key of its server, such as ``ssh-ed25519 AAAA...``.
    """

    host: str | None
    port: int | None
    host_key: str


@attrs.frozen
class SshWorker:
    """The worker of a session. ``node``: the name of the node that it was last connected to, and
    ``url``: where that node is reached; None: not known.
    """

    job: JobId
    lease_token: int
    worker: WorkerId
    node: str
    url: str | None
    is_connected: bool


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
    boxes: int  # the number of its jobs and of the Boxes that it needs
    rebuild_of: WorkloadId | None
    build: WorkloadId | None
    public_key: str | None
    reason: str | None = None  # why it failed, was stopped or canceled, for a person
    automatic: bool = False  # an automatic deploy
    rollback: bool = False  # a deploy of a build that is older than what was live
    from_fork: bool = False  # its code is from a fork: its jobs get no secrets
    compare_url: str | None = None  # the code host's page of the changes
    event_at: float | None = None  # when the code host says that it happened
    # for a change request: the branch that it would be merged into
    target_branch: str | None = None
    submitted_by: str | None = None  # whose request it was; None: an earlier program stored it
    spared: bool = False  # no newer build of its branch cancels or stops it
    priority_by: str | None = None  # who gave it another priority
    priority_note: str | None = None  # why
    organization: OrganizationId = DEFAULT_ORGANIZATION
    jobs: tuple[Job, ...] = ()  # empty in lists, unless they are requested
    ssh: SshPlace | None = None  # of a session that can be entered; only where jobs are, too


@attrs.frozen
class Concern:
    """Whose a workload is: it never changes. ``project``: its name."""

    organization: OrganizationId
    project: str
    server: str | None


@attrs.frozen
class ServerState:
    """The deploys of a server: what is live, the last that began, and those that have not begun."""

    live: WorkloadId | None
    last: WorkloadId | None
    waiting: tuple[WorkloadId, ...]


@attrs.frozen
class DatabaseHistory:
    """A history of the database: it began when a backup was restored, or with a later timeline."""

    restored: bool
    timeline: int | None
    began_at: float


@attrs.frozen
class ActivitySnapshot:
    """The workloads of the page, read in one snapshot: each is in exactly one of the two lists.

    ``places`` has the (batch, n) of the newest event of each shard at that moment.
    """

    places: Mapping[int, tuple[int, int]]
    unfinished: Sequence[Workload]  # by id; without jobs, like the finished ones
    finished: Sequence[Workload]  # latest first
    history: DatabaseHistory | None = None  # None for the first one
    flaky: frozenset[WorkloadId] = frozenset()  # of the finished: a job passed only when retried


@attrs.frozen
class WorkloadFilter:
    """A filter for pages, newest first. ``before``: the page begins after this id."""

    kind: Kind | None = None
    state: State | None = None
    result: Result | None = None
    project: ProjectId | None = None
    branch: str | None = None
    server: str | None = None
    before: WorkloadId | None = None
    limit: int = 50
    organization: OrganizationId = DEFAULT_ORGANIZATION


@attrs.frozen
class WorkloadPage:
    """A page, newest first, without the jobs' commands and environments. It may be short or empty
    although more pages follow. ``next``: the next page begins after this id; None at the end.
    """

    workloads: tuple[Workload, ...]
    next: WorkloadId | None


@attrs.frozen
class NodeInfo:
    """A node that was started at least once; ``url`` is the address that it announces.

    ``seen_at``: its last sign of life, by the database's clock; None: not known. ``schema``: the
    schema that its program knows; None: one before the seventh.
    """

    id: int
    name: str
    url: str
    version: str
    requires: str  # required parts of workers' fingerprints (``protocol.fingerprint``)
    started_at: float
    seen_at: float | None = None
    schema: int | None = None


@attrs.frozen
class ShardHead:
    """A shard's leadership (``epoch``) and its last committed transaction (``batch``)."""

    id: int
    epoch: int
    batch: int
    node: str


MAX_WORKERS = 100  # the default limit of a token


@attrs.frozen
class Token:
    """An API token, stored only as its SHA-256 sum.

    ``role``: viewer | developer | operator | admin | worker. ``projects``, ``servers``: patterns of
    what it concerns; None: all. ``instance``: it is not limited to its organization.
    """

    id: str
    digest: str = attrs.field(repr=False)
    role: str
    name: str
    created_at: float
    expires_at: float | None = None
    organization: OrganizationId = DEFAULT_ORGANIZATION
    max_workers: int = MAX_WORKERS  # how many workers may be bound to it
    # For one worker: the first that connects with it takes it, and no other may use it any more.
    bound: bool = False
    taken_by: str | None = None  # the identity of that worker
    projects: tuple[str, ...] | None = None
    servers: tuple[str, ...] | None = None
    instance: bool = False
    last_used_at: float | None = None  # about a minute exact


@attrs.frozen
class Worker:
    id: WorkerId
    name: str
    address: str
    state: str  # connected | draining | disconnected
    boxes: int
    builds: int  # workloads of this kind with a job on it now
    deploys: int
    ssh_sessions: int
    seen_at: float | None  # its last heartbeat, by the database's clock; None: not known
    token: str | None = None  # the id of the token that it is bound to
    problem: str | None = None  # why it cannot begin jobs at present
    # ``protocol.workers.Drain``; None: it is not drained.
    drain_by: str | None = None
    drain_since: float | None = None
    drain_note: str | None = None
    drain_stop_at: float | None = None
    drain_done: bool = False
    drain_automatic: bool = False
    fingerprint: str = ""
    differs: tuple[str, ...] = ()  # how it differs from what the leader requires
    notes: tuple[str, ...] = ()  # what an operator should know: records in its quarantine


@attrs.frozen
class SetAsideCommand:
    """A command that raised an error when the leader applied it, or that could not be decoded."""

    id: int
    kind: str
    payload: str
    workload: WorkloadId | None  # the workload that it concerns, if any
    error: str
    at: float
