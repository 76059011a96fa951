"""The service's answers as typed values. Fields of newer services are ignored."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from boxsched.model import Kind
from boxsched.states import JobState, Result, State

Settings = dict[str, Any]  # a project's settings; only the API checks them


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """How often a job was tried again in its Box, by the cause that ended the attempt before."""

    lost: int = 0
    exit: dict[str, int] = {}  # by exit status
    any: int = 0  # after any other failure


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    state: JobState
    result: Result | None
    box: str | None
    attempt: int
    retries: int = 0  # how often it was tried again in its Box
    retried: Retried | None = None  # why it was tried again; None also from an older service
    flaky: bool = False  # it passed only when it was tried again
    started_at: datetime | None
    finished_at: datetime | None
    exit_status: int | None
    reason: str | None = None  # why it failed, was stopped or was canceled
    box_type: str | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause of everything or of a part (docs/scheduling.md, "Pauses")."""

    name: str
    project: str | None
    branch: str | None
    server: str | None
    automatic: bool
    note: str
    by: str
    since: datetime
    until: datetime | None


class SshEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How an open SSH session is reached. ``host`` and ``port``: None: only through the service."""

    host: str | None
    port: int | None
    user: str
    host_key: str


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A build, a deploy or an SSH session. Lists may leave ``jobs`` empty."""

    id: str
    project: str
    number: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    message: str | None
    author: str | None
    state: State
    result: Result | None
    priority: int
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None = None  # why it failed, was stopped or was canceled
    jobs: tuple[Job, ...] = ()
    flaky: bool = False  # it passed, and a job of it only when it was tried again
    boxes: int | UnsetType = UNSET
    build: str | None = None  # the id of the build of a deploy or a session
    rebuild_of: str | None = None  # the id of the workload that it repeats
    automatic: bool = False  # an automatic deploy
    rollback: bool = False  # a deploy of a build that is older than what was live
    compare_url: str | None = None  # the code host's page of the changes
    event_at: datetime | None = None  # when the code host says that it happened
    from_fork: bool = False  # its jobs get no secrets
    # for a change request: the branch that it would be merged into
    target_branch: str | None = None
    submitted_by: str | None = None  # a token's name or role, "webhook", "automatic" or "schedule"
    spared: bool = False  # no newer build of its branch cancels or stops it
    priority_by: str | None = None  # who gave it another priority
    priority_note: str | None = None  # why
    why: str | None = None  # why it waits; in lists and in the activity
    ssh: SshEndpoint | UnsetType | None = UNSET

    @property
    def finished(self) -> bool:
        return self.state is State.FINISHED

    @property
    def passed(self) -> bool:
        return self.result is Result.PASSED

    @property
    def place(self) -> str:
        """Its server, branch or tag."""
        return self.server or self.branch or self.tag or ""

    @property
    def title(self) -> str:
        return f"{self.project}#{self.number}"


class Page(msgspec.Struct, frozen=True):
    """Some workloads, newest first. Pass ``next_cursor`` as ``cursor`` for the next page."""

    workloads: tuple[Workload, ...]
    next_cursor: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    settings: Settings

    @classmethod
    def read(cls, answer: Settings) -> "Project":
        """Make a project from an answer, whose settings contain the name."""
        rest = {key: value for key, value in answer.items() if key != "name"}
        return cls(name=answer["name"], settings=rest)


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    number: int
    kind: Kind
    project: str
    boxes: int
    expected_end: datetime | None
    usual_end: datetime | None = None  # by its usual durations; may be in the past


class PausedBy(msgspec.Struct, frozen=True, kw_only=True):
    """A pause that a workload waits for."""

    name: str
    note: str
    by: str
    until: datetime | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a workload waits or runs."""

    phase: str
    reason: str
    text: str
    blocked_by: tuple[Blocker, ...]
    needs: dict[str, int]
    free: dict[str, int]
    position: int | None
    expected_start: datetime | None
    promised_start: datetime | None = None  # the first start reserved for it; may be in the past
    overtaken_by: int | None = None  # later workloads admitted before it; None: not counted
    pause: PausedBy | None = None  # the first pause that covers it
    pauses: tuple[PausedBy, ...] = ()  # all that cover it, by name


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """Who drains a worker, since when and why. ``done``: it has no jobs any more."""

    note: str
    since: datetime
    by: str
    stop_at: datetime | None = None  # when the jobs that still run are stopped
    done: bool = False


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    address: str
    state: str
    boxes: int
    builds: int
    deploys: int
    ssh_sessions: int
    seen_at: datetime | None = None  # its last heartbeat; None: not known
    token: str | None = None  # the id of the token that it uses
    problem: str | None = None  # why it cannot begin jobs now
    drain: Drain | None = None
    fingerprint: str = ""
    differs: tuple[str, ...] = ()  # how it differs from what its leader requires
    notes: tuple[str, ...] = ()  # what an operator should look at on it
    enforced: str = ""  # what it enforces of its jobs: isolation and limits


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the cluster. ``me``: it is the node that answered."""

    id: str
    name: str
    url: str
    version: str
    requires: str = ""  # required parts of workers' fingerprints
    alive: bool
    shards: tuple[int, ...]  # the shards that it leads
    me: bool
    started_at: datetime
    seen_at: datetime | None = None  # its last sign of life; None: not known


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organization and the settings of its queue. ``max_boxes``: its plan; None: no limit.
    ``priority_aging``: in seconds; None: off.
    """

    name: str
    policy: str
    max_boxes: int | None
    priority_aging: float | None
    lost_retries: int
    shard: int
    created_at: datetime | None


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the scheduler could not execute. ``payload``: its content, as stored."""

    id: str
    kind: str
    workload: str | None  # the id of the workload that it concerns, if any
    error: str
    at: datetime
    payload: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A commit status or a hook's request.

    ``kind``: status or hook. ``state``: waiting, delivered or dead. ``status``: the HTTP status of
    the last answer. ``error``: of the last try. ``signed``: whether the hook has a secret; None for
    a status and for a removed target.
    """

    id: str
    workload: str
    number: int | None = None  # the workload's number in its project; None: an earlier service
    project: str
    kind: str
    provider: str | None
    url: str | None
    host: str
    event: str
    at: datetime
    state: str
    attempts: int
    next_try_at: datetime | None
    status: int | None
    error: str | None
    done_at: datetime | None
    signed: bool | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A code host's delivery. ``event``: the host's name for it. ``result``: created, canceled,
    duplicate or ignored. ``reason``: why nothing, or not all of it, was done. ``workloads``: those
    that it created, canceled or stopped.
    """

    id: str
    provider: str
    event: str
    project: str
    received_at: datetime
    result: str
    reason: str | None
    workloads: tuple[str, ...]
    numbers: tuple[int | None, ...] = ()  # the workloads' numbers in their project; None: deleted


class Ghost(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that a worker holds, and that is not its attempt for the scheduler.

    ``state``: running or ended. ``refusal``: why its job cannot be given back to the worker; None:
    it can. ``killed_by``: who decided to end it.
    """

    id: str
    worker: str
    worker_name: str
    connected: bool
    job: str
    attempt: int
    lease_token: int
    state: str
    since: datetime
    workload: str | None
    project: str | None
    number: int | None
    kind: str | None
    job_name: str | None
    job_state: str | None
    job_result: str | None
    killed_by: str | None
    refusal: str | None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a job has kept. ``path``: where it was in the job's workspace."""

    path: str
    size: int
    sha256: str


class Artifacts(msgspec.Struct, frozen=True):
    """The artifacts of a job's last attempt."""

    artifacts: tuple[Artifact, ...]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its text. ``of_file``: it is a node's admin token.

    ``projects``, ``servers``: the patterns that it is limited to; None: all. ``organization``: the
    organization's that it belongs to; None: it is the instance's.
    """

    id: str
    role: str
    name: str
    organization: str | None = None
    projects: tuple[str, ...] | None = None
    servers: tuple[str, ...] | None = None
    last_used_at: datetime | None = None  # about a minute exact; None: never
    created_at: datetime
    expires_at: datetime | None
    of_file: bool = False
    max_workers: int | None = None  # how many workers may use it
    bound: bool = False  # only the first worker that connects with it may use it


class NewToken(Token, frozen=True, kw_only=True):
    """A new token. Only this answer contains its text (``token``)."""

    token: str

    def __repr__(self) -> str:
        return f"NewToken(id={self.id!r}, role={self.role!r})"  # never the text


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's token, and its rights within ``projects`` and ``servers`` (None: all)."""

    id: str
    name: str
    role: str
    rights: tuple[str, ...]
    organization: str | None
    projects: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    expires_at: datetime | None


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a project, without its value.

    ``masked``: whether job logs hide it; None: not known.
    """

    name: str
    file: bool
    version: int
    updated_at: datetime
    masked: bool | None = None


class Rotated(msgspec.Struct, frozen=True):
    """``resealed``: how many values were sealed again.

    ``unusable``: the values that cannot be opened with the service's keys.
    """

    resealed: int
    unusable: tuple[str, ...] = ()


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """One job slot and what runs on it.

    ``job`` None: it is free, or its job is not in the scope of the caller's token. ``busy``: which
    of both; None: the service is of an earlier version.
    """

    id: str
    worker: str
    box_type: str
    busy: bool | None = None
    job: str | None = None
    workload: str | None = None
    worker_name: str | None = None
    number: int | None = None  # its number among its worker's Boxes
    retired: bool = False  # it is removed when its job has ended
    job_name: str | None = None


class Boxes(msgspec.Struct, frozen=True):
    """``total`` and ``busy`` include Boxes of workers that are away."""

    total: int
    busy: int
    away: int = 0
    away_busy: int = 0


class Notice(msgspec.Struct, frozen=True):
    """A notice to users about the database."""

    at: datetime
    text: str


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """All unfinished workloads by phase, each list in queue order, and recently finished ones.

    ``cursor`` is an event's id: ``events(after=cursor)`` continues from this answer.
    """

    boxes: Boxes
    upcoming: tuple[Workload, ...]
    blocked: tuple[Workload, ...]
    running: tuple[Workload, ...]
    finished: tuple[Workload, ...] = ()
    cursor: str | None = None
    notice: Notice | None = None  # for a week after a failover or a restored backup


class Event(msgspec.Struct, frozen=True):
    """One change. ``id``: where to resume. ``data``: the type, the time, ids and new values."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def workload(self) -> str | None:
        value = self.data.get("workload")
        return value if isinstance(value, str) else None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server of a project.

    ``live``: the live deploy. ``last``: the deploy that began last. ``waiting``: deploys that have
    not begun. ``pauses``: all pauses that cover the server; ``paused``: the first of them.
    ``problem``: why no automatic deploy can be made.
    """

    name: str
    strategy: str
    live: Workload | None
    last: Workload | None
    waiting: tuple[Workload, ...]
    build_number: int | None = None  # the number of the live build
    paused: Pause | None
    pauses: tuple[Pause, ...] = ()
    problem: str | None = None
