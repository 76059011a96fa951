"""The durable commands that wait for a shard's leader: their kinds, and how they are written.

A command is a JSON array (a msgspec struct, ``array_like``), since there may be thousands a second.
``Submit`` is written by ``Store.submit``; the others by the API and the gateway for workers.
"""

import enum

import msgspec

from boxsched.states import Result


class SubmitJob(msgspec.Struct, array_like=True, frozen=True):
    name: str
    box_type: str
    timeout_seconds: float
    expected_seconds: float


class Submit(msgspec.Struct, array_like=True, frozen=True):
    """A workload that is stored, to be registered; kind ``submit``."""

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


class Stop(msgspec.Struct, array_like=True, frozen=True):
    """Someone asks to cancel or stop a workload; kind ``stop``."""

    workload: int
    by: str  # the name of who asks, for people (``api.asker``)


class Resolution(enum.StrEnum):
    """What a person says of a job whose worker is away."""

    PASSED = "passed"
    FAILED = "failed"
    AGAIN = "again"  # give it another attempt


class Resolve(msgspec.Struct, array_like=True, frozen=True):
    """A person resolves a job; under another lease token it changes nothing; kind ``resolve``."""

    job: int
    lease_token: int  # of the attempt that the person saw
    result: Resolution
    by: str
    note: str


class ProjectSet(msgspec.Struct, array_like=True, frozen=True):
    """A project was created, changed or deleted; kind ``project``."""

    project: int
    name: str
    max_boxes: int | None
    deleted: bool = False  # it has no unfinished workloads


class BoxesSet(msgspec.Struct, array_like=True, frozen=True):
    """A worker connected with these Boxes (id, ordinal, box_type): others of it go; ``boxes``."""

    worker: int
    boxes: tuple[tuple[int, int, str], ...]
    node: str = ""  # the node that it is connected to
    connection: int = 0  # which of its connections: an older one's word is late
    problem: str | None = None  # why it can begin no jobs at present


class WorkerForgotten(msgspec.Struct, array_like=True, frozen=True):
    """A worker that is away will not come again: its Boxes go."""

    worker: int
    connection: int  # its last one: where it has connected anew since, it stays
    by: str


class JobStarted(msgspec.Struct, array_like=True, frozen=True, tag="started"):
    """``at`` is the worker's wall clock: only nodes of earlier versions go by it."""

    job: int
    lease_token: int
    at: float


class JobFinished(msgspec.Struct, array_like=True, frozen=True, tag="finished"):
    """``seconds`` is what its supervisor measured; None from a worker of an earlier version and
    where nothing was measured. ``at`` is as in ``JobStarted``."""

    job: int
    lease_token: int
    at: float
    result: Result
    exit_status: int | None
    reason: str | None
    commit: str | None = None  # what was checked out, where the workload named none
    lost: bool = False  # ended since no node was heard for too long: a build may have another try
    seconds: float | None = None  # from its first step to its end, by its supervisor's own clock
    not_begun: bool = False  # its commands never began, for a cause of the worker: ``reason``


class Reports(msgspec.Struct, array_like=True, frozen=True):
    """What a worker has to say, in order; kind ``reports``. An old lease token changes nothing."""

    worker: int
    reports: tuple[JobStarted | JobFinished, ...]


class CommitFixed(msgspec.Struct, array_like=True, frozen=True):
    """The store has fixed the commit that all jobs of a workload run; kind ``commit``."""

    workload: int
    commit: str


class Reload(msgspec.Struct, array_like=True, frozen=True):
    """The organization's queue settings were changed in the store; kind ``reload``."""


Command = (
    Submit
    | Stop
    | Resolve
    | ProjectSet
    | BoxesSet
    | WorkerForgotten
    | Reports
    | CommitFixed
    | Reload
)

RESOLVE = "resolve"
KINDS: dict[str, type[Command]] = {
    "submit": Submit,
    "stop": Stop,
    RESOLVE: Resolve,
    "project": ProjectSet,
    "boxes": BoxesSet,
    "worker_forgotten": WorkerForgotten,
    "reports": Reports,
    "commit": CommitFixed,
    "reload": Reload,
}
_NAMES = {command: kind for kind, command in KINDS.items()}
_DECODERS = {kind: msgspec.json.Decoder(command) for kind, command in KINDS.items()}
_encode = msgspec.json.Encoder().encode


def written(command: Command) -> tuple[str, bytes]:
    """(kind, payload) as ``Store.ask`` takes them."""
    return _NAMES[type(command)], _encode(command)


def read(kind: str, payload: bytes) -> Command:
    """The command; raises msgspec.DecodeError on a payload that no version of ours wrote."""
    return _DECODERS[kind].decode(payload)
