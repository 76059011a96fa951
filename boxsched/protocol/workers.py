"""A worker's connections and heartbeats, for the store, the gateway and the leader."""

import attrs

from boxsched.model import DEFAULT_ORGANIZATION, BoxId, OrganizationId, WorkerId

IN_PROCESS = "in-process"  # the address of a node's own worker, and its name for a token


@attrs.frozen
class BoxRow:
    """A Box that a connecting worker brings."""

    id: BoxId
    worker: WorkerId
    ordinal: int
    box_type: str


@attrs.frozen
class NewWorker:
    """A worker that connects.

    ``identity`` is a random text in its folder, which never changes. ``node`` is the name of the
    node that it connects to. ``box_types`` has one entry for each Box. ``lost_after``: its builds
    continue for this many seconds without a node; None: not known. ``token``: the id of its token,
    or IN_PROCESS. ``problem``: why it cannot begin jobs at present; None: it can. ``stop_grace``:
    the seconds that it leaves a job between SIGTERM and SIGKILL; None: it did not say.
    ``fingerprint``: see ``protocol.fingerprint``.
    ``start``: a random text, new at each start of its process; None: it did not say, or no
    other process can be this worker.
    """

    identity: str
    name: str
    address: str
    node: str
    box_types: tuple[str, ...]
    organization: OrganizationId = DEFAULT_ORGANIZATION
    lost_after: float | None = None
    token: str | None = None
    problem: str | None = None
    stop_grace: float | None = None
    fingerprint: str = ""
    start: str | None = None


@attrs.frozen
class Drain:
    """The drain of a worker: it finishes its jobs, gets no new ones, and then ends.

    Times are seconds since 1970. ``stop_at``: when the jobs that still run are stopped; None:
    never. ``done``: the worker's last job has ended; it gets no jobs until it connects again, even
    if the drain is cancelled.
    """

    by: str
    since: float
    note: str = ""
    stop_at: float | None = None
    done: bool = False
    automatic: bool = False  # because the worker is incompatible


@attrs.frozen
class WorkerConnection:
    """One connection of a worker. ``number`` grows by one with each connection."""

    worker: WorkerId
    number: int


@attrs.frozen
class Connected:
    """The store's answer to a worker that connects. ``boxes`` are the Boxes that it should have."""

    connection: WorkerConnection
    shard: int
    boxes: tuple[BoxRow, ...]


@attrs.frozen
class Pulse:
    """The values of a worker that show the leader whether it is alive.

    ``beat`` grows while a node hears from the worker. ``lost_after``: the longest time, in seconds,
    that its builds may go on without a node, as of that beat; None: not known.
    """

    worker: WorkerId
    node: str
    connected: bool
    beat: int
    connection: int
    lost_after: float | None
    name: str = ""
    problem: str | None = None  # why it cannot begin jobs at present
    stop_grace: float | None = None  # seconds between SIGTERM and SIGKILL
    fingerprint: str = ""
    differs: tuple[str, ...] = ()  # from what the leader requires, as the leader stored it
