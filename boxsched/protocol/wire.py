"""What an external worker and a node say to each other: JSON texts over a WebSocket.

The worker connects out to ``PATH`` with its token, and says ``Hello``; the node answers ``Welcome``
or ``Refused``. From then on the node sends ``Level``, all that the worker should run or end, at the
connect, whenever something changed, and every LEVEL_SECONDS; never a difference to an earlier one.
The worker sends ``Beat`` every HEARTBEAT_SECONDS, ``Said`` (reports), ``Logged`` (output) and
``Found`` (a commit), each with a number that its ``Ack`` repeats when they are durable; without it
they are said again, on this connection or another: lease tokens, offsets and the first commit make
that harmless. Messages are numbered by their sender and acknowledged in any order. ``Hello`` is a
heartbeat too, answered by ``Welcome``.
"""

from typing import Annotated

import msgspec

from boxsched.model import MAX_STOP_GRACE_SECONDS, Kind
from boxsched.protocol.inbox import JobFinished, JobStarted

PATH = "/api/v1/worker"
VERSION = 1

MAX_MESSAGE_BYTES = 8 << 20  # a level of 10,000 jobs; what a worker sends is bounded by the next
MAX_SAID_BYTES = 1 << 20
MAX_BOXES = 10_000


def fingerprint() -> str:
    """What of their set-up a worker and a node must agree on: so far the protocol alone."""
    return f"boxsched-worker/{VERSION}"


# No control characters, no line ends, nothing that turns the direction of text or is not seen: a
# name stands in logs, lists and on the page. ``$`` would let a newline at the end through.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
_CLEAN = rf"^[^{_UNSEEN}]+(?![\s\S])"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=_CLEAN)]


StopGrace = Annotated[float, msgspec.Meta(ge=0, le=MAX_STOP_GRACE_SECONDS)]

# Why a worker can begin no jobs.
Problem = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_CLEAN)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """``identity`` is the worker's own for good; ``boot`` names the boot of its machine;
    ``holds`` are the (job, lease token) of what it has running, adopted or to report; ``problem``
    says why it can begin no jobs at present; ``stop_grace`` is how many seconds it leaves to a job
    that is to end (None: an older worker)."""

    version: int
    identity: Name
    name: Name
    box_types: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MAX_BOXES)]
    fingerprint: str
    boot: str
    holds: tuple[tuple[int, int], ...] = ()
    problem: Problem | None = None
    stop_grace: StopGrace | None = None


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    worker: int
    cluster: str
    lost_after: float  # seconds after the last answered heartbeat that end a build's job
    fixes_commits: bool = False  # it answers ``Found``


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The node does not take this worker; ``again``: whether another try may do better."""

    code: str
    message: str
    again: bool


class Task(msgspec.Struct, frozen=True, array_like=True):
    """``assignments.Assignment`` as it is sent."""

    job: int
    attempt: int
    lease_token: int
    box: int
    ordinal: int
    stop: bool
    timeout_seconds: float
    name: str
    commands: tuple[str, ...]
    environment: dict[str, str]
    workload: int
    number: int
    kind: Kind
    project: str
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    repository: str | None
    started: bool
    stop_reason: str | None = None
    show_commands: bool = True


class Level(msgspec.Struct, frozen=True, tag="level"):
    """All that the worker should be running now, and what of it should be ended."""

    tasks: tuple[Task, ...]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The worker is alive; answered by ``Ack`` once the store knows. ``problem``: why it can begin
    no jobs at present; its Boxes get none until a beat without it."""

    number: int
    problem: Problem | None = None


class Said(msgspec.Struct, frozen=True, tag="said"):
    number: int
    reports: Annotated[tuple[JobStarted | JobFinished, ...], msgspec.Meta(max_length=20_000)]


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Output of an attempt from byte ``offset`` on; base64 in JSON, at most 64 KiB."""

    job: int
    attempt: int
    offset: int
    data: bytes


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    number: int
    chunks: Annotated[tuple[Chunk, ...], msgspec.Meta(max_length=64)]


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A job's supervisor found this commit, and waits to be told which one it runs: the first that
    any job of the workload found. Its ``Ack`` says so. Only to a node that fixes commits."""

    number: int
    job: int
    lease_token: int
    commit: str  # the whole hash


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Durable. ``stale``: (job, lease token) of those that are the worker's no more, and that
    changed nothing; whatever of them runs is to be killed, its output kept."""

    number: int
    stale: tuple[tuple[int, int], ...] = ()
    commit: str | None = None  # what a ``Found`` came to


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """The node stops: connect to another one, at once."""


FromWorker = Hello | Beat | Said | Logged | Found
FromNode = Welcome | Refused | Level | Ack | Leave

encode = msgspec.json.Encoder().encode
from_worker = msgspec.json.Decoder(FromWorker)
from_node = msgspec.json.Decoder(FromNode)
