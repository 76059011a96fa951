"""The durable commands that wait for a shard's leader: their kinds, and how they are written.

A command is a JSON array (a msgspec struct, ``array_like``), since there may be thousands a second.
``Submit`` is written by ``Store.submit``; the others by the API and the gateway for workers.
"""

import enum

import msgspec

from boxsched.protocol.retries import Retries
from boxsched.states import Result


class SubmitJob(msgspec.Struct, array_like=True, frozen=True):
    """What the leader needs to know of a job; its commands stay in the store."""

    name: str
    box_type: str
    timeout_seconds: float
    expected_seconds: float
    retry: Retries | None = None


class Submit(msgspec.Struct, array_like=True, frozen=True):
    """Register a workload that is stored already; kind ``submit``. Times are seconds since 1970."""

    workload: int
    project: int
    number: int
    kind: str
    branch: str | None
    tag: str | None
    server: str | None
    message: str | None
    author: str | None
    commit: str | None
    priority: int
    created_at: float
    cancellation: str
    fail_fast: bool
    jobs: tuple[SubmitJob, ...]
    spare_after: int | None = None  # ``model.CancellationRule``
    automatic: bool = False  # an automatic deploy
    queue: str = "all"  # its server's setting (``model.ServerQueue``)


class Planned(msgspec.Struct, array_like=True, frozen=True):
    """The jobs of a build that was submitted without them were read; kind ``plan``.

    The store has them, and their ``commit``. ``jobs`` is None if they could not be read; then
    ``reason`` says why, and ``commit`` is None if it was not found.
    """

    workload: int
    jobs: tuple[SubmitJob, ...] | None
    commit: str | None
    reason: str | None


class Stop(msgspec.Struct, array_like=True, frozen=True):
    """Someone asks to cancel or stop a workload; kind ``stop``."""

    workload: int
    by: str  # the name of the person or token that asks, to be shown (``api.auth.actor``)


class Reprioritize(msgspec.Struct, array_like=True, frozen=True):
    """Someone gives a waiting workload another priority; kind ``reprioritize``."""

    workload: int
    priority: int
    by: str
    note: str


class PauseSet(msgspec.Struct, array_like=True, frozen=True):
    """A pause begins, or replaces the one of its name; kind ``pause``. The store has it already.

    Times are seconds since 1970.
    """

    name: str
    project: int | None
    branch: str | None
    server: str | None
    automatic: bool
    note: str
    by: str
    since: float
    until: float | None


class PauseEnded(msgspec.Struct, array_like=True, frozen=True):
    """Someone ends a pause; kind ``resume``. The store has forgotten it already."""

    name: str
    by: str


class Resolution(enum.StrEnum):
    """A person's decision about a job on an absent worker."""

    PASSED = "passed"
    FAILED = "failed"
    AGAIN = "again"  # give it another attempt


class Resolve(msgspec.Struct, array_like=True, frozen=True):
    """A person decides about a job on an absent worker; kind ``resolve``.

    It changes nothing if the job has another lease token now.
    """

    job: int
    lease_token: int  # the lease token of the attempt that the person saw
    result: Resolution
    by: str
    note: str


class ProjectSet(msgspec.Struct, array_like=True, frozen=True):
    """A project was created, changed or deleted; kind ``project``."""

    project: int
    name: str
    max_boxes: int | None
    deleted: bool = False  # it has no unfinished workloads
    followed: dict[str, tuple[str, ...]] = {}  # ``protocol.followed``
    notifies: bool = False  # it has commit statuses or hooks


class BoxesSet(msgspec.Struct, array_like=True, frozen=True):
    """A worker connected and has these Boxes (id, ordinal, box_type); kind ``boxes``.

    Its other Boxes are retired.
    """

    worker: int
    boxes: tuple[tuple[int, int, str], ...]
    node: str = ""  # the node that it is connected to
    connection: int = 0  # the number of this connection: a command of an older one is ignored
    problem: str | None = None  # why the worker cannot begin jobs at present; None: it can
    name: str = ""  # the worker's name, for users
    fingerprint: str = ""


class WorkerForgotten(msgspec.Struct, array_like=True, frozen=True):
    """An operator says that an absent worker will not come back; kind ``worker_forgotten``.

    Its Boxes are removed.
    """

    worker: int
    connection: int  # the last one: the worker stays if it has connected again since
    by: str


class DrainSet(msgspec.Struct, array_like=True, frozen=True):
    """An operator drains a worker, or changes its drain; kind ``drain``.

    Times are seconds since 1970. ``stop_at``: when the jobs that still run are stopped; None:
    never.
    """

    worker: int
    by: str
    note: str
    since: float
    stop_at: float | None


class DrainEnded(msgspec.Struct, array_like=True, frozen=True):
    """An operator takes a drain back; kind ``drain_ended``."""

    worker: int
    by: str


class RefusedWorker(msgspec.Struct, array_like=True, frozen=True):
    """A node refused a worker because of its token or its identity; kind ``worker_refused``."""

    name: str  # as the worker said
    token: str  # the id of the token that it has
    address: str
    code: str
    message: str


class GhostKilled(msgspec.Struct, array_like=True, frozen=True):
    """A person decided to end a ghost (``protocol.ghosts``); kind ``ghost_killed``. The store knows
    it already.
    """

    worker: int
    name: str  # the worker's
    job: int
    attempt: int
    lease_token: int
    by: str


class Restore(msgspec.Struct, array_like=True, frozen=True):
    """A person gives a job back to the worker that holds an attempt at it; kind ``restore``.

    It changes nothing if the job may not continue there any more.
    """

    worker: int
    job: int
    attempt: int
    lease_token: int  # under which the worker began the attempt
    by: str


class JobStarted(msgspec.Struct, array_like=True, frozen=True, tag="started"):
    """The first step of a job has begun.

    ``at`` is a time of the worker's wall clock, which only nodes of earlier versions use.
    """

    job: int
    lease_token: int
    at: float


class JobFinished(msgspec.Struct, array_like=True, frozen=True, tag="finished"):
    """An attempt of a job has ended.

    ``seconds`` is its duration as the supervisor measured it; None if nothing was measured, or if
    the worker is of an earlier version. ``at`` is as in ``JobStarted``.
    """

    job: int
    lease_token: int
    at: float
    result: Result
    exit_status: int | None
    reason: str | None
    commit: str | None = None  # the commit that was checked out, if the workload named none
    lost: bool = False  # the supervisor ended it because no node answered for too long
    seconds: float | None = None  # from its first step to its end, by the supervisor's clock
    not_begun: bool = False  # the worker could not begin its commands; ``reason`` says why


class GhostMove(enum.StrEnum):
    """What happens to a ghost."""

    FOUND = "found"
    ENDED = "ended"  # its commands have ended by themselves; the worker keeps their result
    GONE = "gone"  # its worker does not hold it any more


class GhostCause(enum.StrEnum):
    """Why a worker does not hold a ghost any more."""

    KILLED = "killed"  # a person decided to end it
    RESTORED = "restored"  # it is the worker's attempt again
    REPORTED = "reported"  # its end had been stored already
    ENDED = "ended"  # the worker has ended it, as it does with those of builds


class GhostMoved(msgspec.Struct, array_like=True, frozen=True):
    """A change of a ghost (``protocol.ghosts``), which the store has already. ``cause`` and ``by``:
    only if it is gone; ``by``: the person, if one decided.
    """

    move: GhostMove
    name: str  # the worker's
    job: int
    attempt: int
    lease_token: int
    build: bool
    running: bool
    cause: GhostCause | None = None
    by: str | None = None


class Reports(msgspec.Struct, array_like=True, frozen=True):
    """Reports of one worker, in their order; kind ``reports``.

    A report with an old lease token changes nothing. ``ghosts``: only for the history; a leader of
    an earlier version ignores them.
    """

    worker: int
    reports: tuple[JobStarted | JobFinished, ...]
    ghosts: tuple[GhostMoved, ...] = ()


class CommitFixed(msgspec.Struct, array_like=True, frozen=True):
    """The store has fixed the commit that all jobs of a workload run; kind ``commit``."""

    workload: int
    commit: str


class Reload(msgspec.Struct, array_like=True, frozen=True):
    """The organization's queue settings were changed in the store; kind ``reload``."""


Command = (
    Submit
    | Planned
    | Stop
    | Reprioritize
    | PauseSet
    | PauseEnded
    | Resolve
    | ProjectSet
    | BoxesSet
    | WorkerForgotten
    | DrainSet
    | DrainEnded
    | RefusedWorker
    | GhostKilled
    | Restore
    | Reports
    | CommitFixed
    | Reload
)

RESOLVE = "resolve"
KINDS: dict[str, type[Command]] = {
    "submit": Submit,
    "plan": Planned,
    "stop": Stop,
    "reprioritize": Reprioritize,
    "pause": PauseSet,
    "resume": PauseEnded,
    RESOLVE: Resolve,
    "project": ProjectSet,
    "boxes": BoxesSet,
    "worker_forgotten": WorkerForgotten,
    "drain": DrainSet,
    "drain_ended": DrainEnded,
    "worker_refused": RefusedWorker,
    "ghost_killed": GhostKilled,
    "restore": Restore,
    "reports": Reports,
    "commit": CommitFixed,
    "reload": Reload,
}
_NAMES = {command: kind for kind, command in KINDS.items()}
_DECODERS = {kind: msgspec.json.Decoder(command) for kind, command in KINDS.items()}
_encode = msgspec.json.Encoder().encode


def written(command: Command) -> tuple[str, bytes]:
    """Return (kind, payload) as ``Store.ask`` takes them."""
    return _NAMES[type(command)], _encode(command)


def read(kind: str, payload: bytes) -> Command:
    """Return the command. Raises KeyError for an unknown kind and msgspec.DecodeError for a payload
    that does not fit."""
    return _DECODERS[kind].decode(payload)
