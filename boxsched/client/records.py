"""The service's answers as typed values. Fields that a newer service adds are ignored."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from boxsched.model import Kind
from boxsched.states import JobState, Result, State

Settings = dict[str, Any]  # a project's settings: the API checks them, nobody else


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    state: JobState
    result: Result | None
    box: str | None
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    exit_status: int | None
    reason: str | None = None  # why it failed, was stopped or was canceled
    box_type: str | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause, of everything or of a part (docs/scheduling.md, "Pauses")."""

    name: str
    project: str | None
    branch: str | None
    server: str | None
    automatic: bool
    note: str
    by: str
    since: datetime
    until: datetime | None


class SessionDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running SSH session answers."""

    host: str
    port: int
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
    boxes: int | UnsetType = UNSET
    build: str | None = None  # the id of the build that a deploy or a session is of
    rebuild_of: str | None = None  # the id of the workload that it repeats
    automatic: bool = False  # a deploy that nobody asked for
    rollback: bool = False  # a deploy of a build that is older than what was live
    compare_url: str | None = None  # the code host's page of the changes
    event_at: datetime | None = None  # when the code host says that it happened
    from_fork: bool = False  # its jobs get no secrets
    target_branch: str | None = None  # of a change request: the branch that it would go to
    why: str | None = None  # why it waits; in the activity
    ssh: SessionDoor | UnsetType | None = UNSET

    @property
    def finished(self) -> bool:
        return self.state is State.FINISHED

    @property
    def passed(self) -> bool:
        return self.result is Result.PASSED

    @property
    def place(self) -> str:
        """What it is for: its server, branch or tag."""
        return self.server or self.branch or self.tag or ""

    @property
    def title(self) -> str:
        return f"{self.project}#{self.number}"


class Page(msgspec.Struct, frozen=True):
    """Some workloads, newest first; ``next_cursor`` asks for those behind them."""

    workloads: tuple[Workload, ...]
    next_cursor: str | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    settings: Settings

    @classmethod
    def read(cls, answer: Settings) -> "Project":
        """A project answers with its name among its settings."""
        rest = {key: value for key, value in answer.items() if key != "name"}
        return cls(name=answer["name"], settings=rest)


class Blocker(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    number: int
    kind: Kind
    project: str
    boxes: int
    expected_end: datetime | None
    usual_end: datetime | None = None  # by its usual durations; stays when it has passed


class PausedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The pause that a workload waits for."""

    name: str
    note: str
    by: str
    until: datetime | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a workload is where it is."""

    phase: str
    reason: str
    text: str
    blocked_by: tuple[Blocker, ...]
    needs: dict[str, int]
    free: dict[str, int]
    position: int | None
    expected_start: datetime | None
    promised_start: datetime | None = (
        None  # the first one reserved for it; stays when it has passed
    )
    overtaken_by: int | None = None  # later ones admitted while it was queued; None: not counted
    pause: PausedBy | None = None  # the pause that covers it


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    address: str
    state: str
    boxes: int
    builds: int
    deploys: int
    ssh_sessions: int
    seen_at: datetime | None = None  # when it was heard last; None = not known
    token: str | None = None  # the id of the token that it is bound to
    problem: str | None = None  # why it can begin no jobs at present


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the cluster; ``me`` is True for the node that answered."""

    id: str
    name: str
    url: str
    version: str
    alive: bool
    shards: tuple[int, ...]  # that it leads
    me: bool
    started_at: datetime
    seen_at: datetime | None = None  # when it was known last to live; None = not known


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the scheduler could not carry out; ``payload`` is what it said, as stored."""

    id: str
    kind: str
    workload: str | None  # that it is about, if it is about one
    error: str
    at: datetime
    payload: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A commit status or a hook's request. ``kind``: status or hook; ``state``: waiting, delivered
    or dead; ``status``: of the last answer; ``error``: what went wrong last."""

    id: str
    workload: str
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


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A code host's delivery. ``event``: as the host names it; ``result``: created, canceled,
    duplicate or ignored; ``reason``: why nothing, or not all, was done; ``workloads``: what it
    created, or else canceled or stopped."""

    id: str
    provider: str
    event: str
    project: str
    received_at: datetime
    result: str
    reason: str | None
    workloads: tuple[str, ...]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its text. ``of_file``: a node has it in its data folder."""

    id: str
    role: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    of_file: bool = False
    max_workers: int | None = None  # that may use it


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new token with its text (``token``), which no later call returns."""

    id: str
    token: str
    role: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    max_workers: int | None = None  # that may use it

    def __repr__(self) -> str:
        return f"NewToken(id={self.id!r}, role={self.role!r})"  # never the text


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a project, never its value. ``masked``: whether job logs hide it; None: not
    said."""

    name: str
    file: bool
    version: int
    updated_at: datetime
    masked: bool | None = None


class Rotated(msgspec.Struct, frozen=True):
    """How many values were sealed again, and which do not open with the keys of the service."""

    resealed: int
    unusable: tuple[str, ...] = ()


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """One execution slot, and what runs on it; ``job`` None = it is free."""

    id: str
    worker: str
    box_type: str
    job: str | None = None
    workload: str | None = None
    worker_name: str | None = None
    number: int | None = None  # of its worker's Boxes
    retired: bool = False  # it goes when its job has ended
    job_name: str | None = None


class Boxes(msgspec.Struct, frozen=True):
    """``total`` and ``busy`` count Boxes of workers that are ``away``, too."""

    total: int
    busy: int
    away: int = 0
    away_busy: int = 0


class Notice(msgspec.Struct, frozen=True):
    """A notice about the database for people: a time, and one or two sentences."""

    at: datetime
    text: str


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """All unfinished workloads by phase, each list in queue order, and what finished lately.

    ``cursor`` is an event's id: ``events(after=cursor)`` goes on from this answer.
    """

    boxes: Boxes
    upcoming: tuple[Workload, ...]
    blocked: tuple[Workload, ...]
    running: tuple[Workload, ...]
    finished: tuple[Workload, ...] = ()
    cursor: str | None = None
    notice: Notice | None = None  # for a week after a failover or a restored backup


class Event(msgspec.Struct, frozen=True):
    """One change. ``id`` is where to resume; ``data`` has the type, the time, ids, new values."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def workload(self) -> str | None:
        value = self.data.get("workload")
        return value if isinstance(value, str) else None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server of a project: the deploys that are live, began last and have not begun."""

    name: str
    strategy: str
    live: Workload | None
    last: Workload | None
    waiting: tuple[Workload, ...]
    paused: Pause | None
