"""The messages between an external worker and a node: JSON texts over a WebSocket.

Where a proxy refuses WebSockets, the same texts go over long polling.

The worker connects to ``PATH`` with its token and sends ``Hello``. The node answers ``Welcome`` or
``Refused``. After that the node sends ``Level``: everything that the worker should run or end. It
sends a level at the connect, whenever something changed, and every LEVEL_SECONDS; a level is always
complete, never a difference to an earlier one.

The worker sends ``Beat`` every HEARTBEAT_SECONDS, ``Said`` (reports), ``Logged`` (output),
``Found`` (a commit) and ``Opened`` (how an SSH session is reached). Each has a number, and the
``Ack`` with that number says that it is durable. Without an ``Ack`` the worker sends it again, on
this connection or on another one. Lease tokens, offsets and the rule of the first commit make the
repetition harmless. The sender numbers its messages; they may be acknowledged in any order.
``Hello`` is a heartbeat too, and ``Welcome`` acknowledges it.
"""

from typing import Annotated

import msgspec

from boxsched.model import MAX_STOP_GRACE_SECONDS, Kind
from boxsched.protocol.assignments import CloneOptions, GitCredentials, JobCache, JobSecret
from boxsched.protocol.fingerprint import MAX_CHARACTERS
from boxsched.protocol.ghosts import MAX_GHOSTS, MAX_NOTES, HeldAttempt, Lease
from boxsched.protocol.inbox import JobFinished, JobStarted

PATH = "/api/v1/worker"
POLLS = f"{PATH}/polls"  # long polling, where a proxy refuses WebSockets (gateway.long_polls)
TUNNELS = f"{PATH}/tunnels"  # with /NAME; with /NAME/polls where a proxy refuses WebSockets
OPEN = b"open"  # the first message of a tunnel
VERSION = 1

MAX_MESSAGE_BYTES = 8 << 20  # limit of a node's message: a level of 10,000 jobs
# Limits of a worker's messages:
MAX_WORKER_MESSAGE_BYTES = 1 << 20
MAX_POLL_BYTES = MAX_WORKER_MESSAGE_BYTES + 1  # a request of long polling; each line has an end
MAX_POLL_MESSAGES = 1_000  # of such a request
MAX_BOXES = 10_000


# Names are shown in logs, in lists and on the page. So they have no control characters, no line
# ends, and no characters that are invisible or change the direction of text. (``$`` in place of the
# end of the pattern would accept a newline at the end.)
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000e0000-\U000e007f"
)
_CLEAN = rf"^[^{_UNSEEN}]+(?![\s\S])"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=_CLEAN)]


StopGrace = Annotated[float, msgspec.Meta(ge=0, le=MAX_STOP_GRACE_SECONDS)]

# Why a worker cannot begin jobs.
Problem = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_CLEAN)]


Fingerprint = Annotated[str, msgspec.Meta(max_length=MAX_CHARACTERS)]


_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class CacheCounts(msgspec.Struct, frozen=True, array_like=True):
    """What a worker's cache has done since the worker's start.

    ``saved_milliseconds``: how much less time passed jobs that found a cache took than the same
    jobs without one; ``lost_milliseconds``: how much more. 0 of earlier workers.
    """

    hits: _Count = 0
    misses: _Count = 0
    damaged: _Count = 0
    restored_bytes: _Count = 0
    kept_bytes: _Count = 0
    saved_milliseconds: _Count = 0
    lost_milliseconds: _Count = 0


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message of a worker.

    ``identity`` is the worker's own and never changes. ``boot`` names the boot of its machine.
    ``holds`` are the (job, lease token) of the attempts that it runs or has yet to report.
    ``problem`` says why it cannot begin jobs at present; None: it can. ``stop_grace`` is the number
    of seconds that it leaves a job between SIGTERM and SIGKILL; None: an older worker.
    ``takes_secrets``: whether it gives jobs the secrets of a ``Task``, and masks them.
    ``ends_when_drained``: whether it understands ``Drained``. ``keeps_ghosts``: whether it keeps
    deploys and sessions that its level does not contain, and names them in its heartbeats.
    ``keeps_artifacts``: whether it keeps the artifacts of jobs, and gives them to deploys.
    ``knows_images``: whether it runs a job with an image in that, or not at all.
    ``start``: a random text, new at each start of its process; "": an earlier worker.
    """

    version: int
    identity: Name
    name: Name
    box_types: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=MAX_BOXES)]
    fingerprint: Fingerprint
    boot: str
    holds: tuple[tuple[int, int], ...] = ()
    problem: Problem | None = None
    stop_grace: StopGrace | None = None
    takes_secrets: bool = False
    ends_when_drained: bool = False
    keeps_ghosts: bool = False
    keeps_artifacts: bool = False
    cache: CacheCounts = CacheCounts()
    knows_images: bool = False
    start: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Asks whether the node would accept this Hello. It is the only message of its connection: the
    answer is ``WouldAccept`` or ``Refused``, and nothing is registered or taken. A node of an
    earlier version ends the connection instead, because it expects a Hello.
    """

    version: int
    hello: Hello


class WouldAccept(msgspec.Struct, frozen=True, tag="would_accept"):
    """The node would accept the worker. ``differs``: as in ``Welcome``."""

    differs: tuple[str, ...] = ()


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The node accepts the worker. ``worker`` is its id, ``cluster`` names the installation."""

    worker: int
    cluster: str
    lost_after: float  # seconds after the last answered heartbeat when a build's job is ended
    fixes_commits: bool = False  # whether the node answers ``Found``
    differs: tuple[str, ...] = ()  # how the worker differs from what this node requires
    opens_sessions: bool = False  # whether the node takes ``Opened``, and asks with ``Dial``


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The node refuses this worker. ``again``: whether another try may succeed."""

    code: str
    message: str
    again: bool


class Task(msgspec.Struct, frozen=True, array_like=True):
    """An ``assignments.Assignment`` in the format of the message."""

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
    secrets: tuple[JobSecret, ...] = ()
    refusal: str | None = None
    clone: CloneOptions | None = None
    credentials: GitCredentials | None = None
    public_key: str | None = None
    ssh_forwarding: bool = False
    restores: int | None = None
    artifacts: tuple[str, ...] = ()
    is_given_artifacts: bool = False
    kept_cache: JobCache | None = None
    image: str | None = None


class Level(msgspec.Struct, frozen=True, tag="level"):
    """Every job that the worker should be running now, those that it should end included."""

    tasks: tuple[Task, ...]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A heartbeat. The ``Ack`` comes when the store has it.

    ``problem`` says why the worker cannot begin jobs at present. Its Boxes get no jobs until a beat
    without a problem. ``ghosts`` are attempts that it holds although its level does not contain
    them; None: it has no level yet, or keeps none. ``notes``: what an operator should know of the
    worker, such as records in its quarantine; sent together with ``ghosts``.
    """

    number: int
    problem: Problem | None = None
    ghosts: Annotated[tuple[HeldAttempt, ...], msgspec.Meta(max_length=MAX_GHOSTS)] | None = None
    cache: CacheCounts | None = None
    notes: Annotated[tuple[Problem, ...], msgspec.Meta(max_length=MAX_NOTES)] = ()


class Said(msgspec.Struct, frozen=True, tag="said"):
    """Reports of jobs that began or ended, in their order."""

    number: int
    reports: Annotated[tuple[JobStarted | JobFinished, ...], msgspec.Meta(max_length=20_000)]


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Output of an attempt from byte ``offset`` on: at most 64 KiB, in base64."""

    job: int
    attempt: int
    offset: int
    data: bytes


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    """Output of jobs, in order for each attempt."""

    number: int
    chunks: Annotated[tuple[Chunk, ...], msgspec.Meta(max_length=64)]


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A job's supervisor found this commit.

    It waits for the ``Ack``, which says which commit to run: the first one that any job of the
    workload found. Workers send this only to a node that fixes commits.
    """

    number: int
    job: int
    lease_token: int
    commit: str  # the whole hash


# The public key of a session's server.
HostKey = Annotated[
    str, msgspec.Meta(pattern=r"^ssh-ed25519 [A-Za-z0-9+/]{40,100}={0,2}(?![\s\S])")
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """An SSH session can be entered: at this host and port, or through a node.

    Workers send this only to a node that opens sessions.
    """

    number: int
    job: int
    lease_token: int
    host: Name | None
    port: Port | None
    host_key: HostKey


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """The message with this number is durable.

    ``stale`` are the (job, lease token) of attempts that no longer belong to the worker. Its
    messages about them changed nothing. It kills the remaining processes of a build and keeps the
    output; other attempts are ghosts from then on. ``end`` are the ghosts that it ends: a person
    has decided it, or nothing is left to decide.
    """

    number: int
    stale: tuple[tuple[int, int], ...] = ()
    commit: str | None = None  # the answer to ``Found``
    end: tuple[Lease, ...] = ()


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """The node stops: the worker must connect to another one at once."""


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """An operator drained the worker, and no job is assigned to it: it is to end.

    Sent behind each heartbeat until the worker ends. It gets no job on this connection any more.
    """


class Dial(msgspec.Struct, frozen=True, tag="dial"):
    """Somebody enters a session through the node: open a tunnel for it.

    The worker opens another WebSocket, to ``TUNNELS`` with the name of the tunnel, and joins it to
    the server of the session. Its first message is OPEN, or why the session cannot be entered. All
    further ones are the bytes of the connection. All are binary. A worker whose own connection uses
    long polling uses it for the tunnel, too.
    """

    tunnel: str
    job: int
    lease_token: int


FromWorker = Hello | Beat | Said | Logged | Found | Opened | Check
FromNode = Welcome | Refused | Level | Ack | Leave | Drained | Dial | WouldAccept

encode = msgspec.json.Encoder().encode
from_worker = msgspec.json.Decoder(FromWorker)
from_node = msgspec.json.Decoder(FromNode)
