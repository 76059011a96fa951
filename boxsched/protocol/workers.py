"""A worker as the store, the gateway and its shard's leader know it: connections and beats."""

import attrs

from boxsched.model import BoxId, WorkerId

IN_PROCESS = "in-process"  # the address of a node's own worker, and what it is bound to


@attrs.frozen
class BoxRow:
    """A Box that comes into being."""

    id: BoxId
    worker: WorkerId
    ordinal: int
    box_type: str


@attrs.frozen
class NewWorker:
    """A worker that connects. ``identity`` is its own for good (a random text in its folder).

    ``node`` is the name of the node that it is connected to, ``box_types`` one for each Box.
    ``lost_after``: so many seconds without a node its builds go on, it is told there (None: for
    how long is not known). ``token``: the id of the token that it comes with; IN_PROCESS of a
    node's own worker. ``problem``: why it can begin no jobs at present, None: it can.
    ``stop_grace``: seconds that it leaves to a job that is to end, None: it does not say.
    """

    identity: str
    name: str
    address: str
    node: str
    box_types: tuple[str, ...]
    organization: int = 1
    lost_after: float | None = None
    token: str | None = None
    problem: str | None = None
    stop_grace: float | None = None


@attrs.frozen
class Connection:
    """One connection of a worker; ``number`` grows with each."""

    worker: WorkerId
    number: int


@attrs.frozen
class Connected:
    """What came of a worker's connecting: ``boxes`` are those that it should have."""

    connection: Connection
    shard: int
    boxes: tuple[BoxRow, ...]


@attrs.frozen
class Pulse:
    """A worker as its shard's leader watches it: ``beat`` grows while a node hears from it.

    ``lost_after``: the longest that it may go by, as of that beat; None: not known.
    """

    worker: WorkerId
    node: str
    connected: bool
    beat: int
    connection: int
    lost_after: float | None
    name: str = ""
    problem: str | None = None  # why it can begin no jobs at present
    stop_grace: float | None = None  # seconds that it leaves to a job that is to end
