"""The store's contract: what every side (SQLite; PostgreSQL) does, and tests/contract proves.

Rules that hold for every call:

* A write that returned is durable, and so is all that it found. One that raised ``StoreAway`` was
  not done; one that raised ``OutcomeUnknown`` may have been, and may be repeated with the same key.
* Groups go in one transaction: a refused member is left out, never the group.
* An engine transaction begins with the fence: ``UPDATE shard SET batch = batch + 1 WHERE id, epoch,
  batch``; no row hit raises ``Fenced`` and nothing is written.
* Reads see what was committed before they began.
* Three uses have connections of their own (``driver``): the engine's calls never wait for reads of
  the API, which may raise ``TooLong``.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from boxsched.model import JobId, ProjectId, WorkerId, WorkloadId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch, InboxEntry, StoredEvent
from boxsched.protocol.inbox import Resolve, Stop
from boxsched.protocol.shards import Box, LoadedWorkload, Organization, Project, ShardState
from boxsched.protocol.workers import Connected, Connection, NewWorker, Pulse
from boxsched.states import JobState
from boxsched.store.records import (
    ActivitySnapshot,
    IdempotencyKey,
    KeyTaken,
    NewWorkload,
    NodeInfo,
    SetAsideCommand,
    ShardHead,
    SubmitOutcome,
    Submitted,
    SweptKeys,
    SweptProjects,
    Token,
    Worker,
    Workload,
    WorkloadFilter,
    WorkloadPage,
)

if TYPE_CHECKING:
    from boxsched.store.postgres.servers import Servers

PAGE_WORKLOADS = 1_000
OVERTAKING_SEEN = 1_000
NO_PROBLEMS: Mapping[WorkerId, str] = {}
SHARD = 1  # the default organization's; the only one there is on SQLite


class ShardLoading(Protocol):
    """Who loads a shard. Each call may take some ten milliseconds."""

    def begin(self, state: ShardState) -> None: ...

    def add(self, workloads: Sequence[LoadedWorkload]) -> None:
        """The next of the unfinished workloads, at most PAGE_WORKLOADS, by id."""


class Store(Protocol):
    """See the module; every method may raise ``StoreAway``."""

    @property
    def round_trips(self) -> Mapping[str, int]:
        """To the database, since the start, by what they were for; none on SQLite."""

    @property
    def servers(self) -> "Servers | None":
        """Where the database is; None on SQLite."""

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Answers if the store can read; raises StoreAway otherwise."""

    async def settle(self) -> None:
        """All that was read before is durable when this returns, also on a synchronous standby."""

    async def ready(self) -> None:
        """Answers if the store can read, and can write, too, if the last write failed."""

    async def cluster(self) -> str:
        """Names this database: chosen at random when it was made."""

    # --- The cluster -----------------------------------------------------------------------

    async def open_shards(self, count: int) -> list[ShardHead]:
        """Makes the shards 1 to ``count`` that are not there yet; returns all, by id.

        The number only grows: an organization stays in the shard that it was given.
        """

    async def shards(self) -> list[ShardHead]:
        """Each shard's epoch, last batch and leader: one small query, asked often."""

    async def put_node(self, name: str, url: str, version: str) -> NodeInfo:
        """The node of that name (one row for good), started now; its id names its lock."""

    async def nodes(self) -> list[NodeInfo]:
        """All that ever were, by id; who is alive is known from the locks alone."""

    async def forget_node(self, name: str) -> None: ...

    async def drop_old_nodes(self, away: Sequence[str], older_than: float) -> list[str]:
        """Delete those of these nodes, which are away, that started and were seen more than
        ``older_than`` seconds ago, with their in-process workers; returns their names."""

    # --- Tokens ----------------------------------------------------------------------------

    async def put_token(self, token: Token) -> None:
        """Keep a token's SHA-256 sum; one with that digest already changes nothing."""

    async def token(self, digest: str) -> Token | None:
        """A token that was not revoked; whether it has expired is the caller's to see."""

    async def tokens(self) -> list[Token]:
        """All that were not revoked, oldest first."""

    async def revoke_token(self, id: str) -> bool:
        """False where there is none of that id."""

    async def drop_old_tokens(self, older_than: float, limit: int) -> int:
        """Delete tokens that expired, and tokens that were revoked, more than ``older_than``
        seconds ago, at most ``limit`` of each; returns how many. A revoked token of a data folder
        (its id begins with ``file-``) stays, so that no start of its node brings it back."""

    # --- Settings --------------------------------------------------------------------------

    async def set_organization(self, organization: Organization) -> None:
        """Replace the default organization's queue settings. Tells the leader: inbox ``reload``."""

    async def organization(self) -> Organization: ...

    async def put_project(
        self,
        name: str,
        settings: str,
        max_boxes: int | None,
        *,
        secret: str | None,
        keep_secret: bool,
    ) -> tuple[Project, bool]:
        """Create or replace; True where it was created. Tells the leader (inbox ``project``)."""

    async def project(self, name: str) -> Project | None: ...

    async def project_id(self, name: str) -> ProjectId | None: ...

    async def projects(self) -> list[Project]:
        """All of them, by name."""

    async def delete_project(self, name: str) -> bool:
        """False where there is none; raises Conflict while it has unfinished workloads. Tells the
        leader, as ``put_project`` does."""

    # --- Submissions and other commands (any node) -----------------------------------------

    async def submit(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        """Store a group in one transaction: numbers, rows, inbox entries, idempotency keys.

        Outcomes are in the group's order. What was checked against another version of its project,
        or asks for more than the plan, is ``ProjectChanged``. Expected durations are looked up here
        and stored with the jobs (before a first passed run: the time limit), so that a replay
        decides the same.
        Projects' rows are locked in the order of their ids; numbers follow the group's order.
        """

    async def ask(self, shard: int, entries: Sequence[tuple[str, bytes]]) -> None:
        """Put commands (kind, payload) into the shard's inbox, in one transaction."""

    async def idempotency(
        self, key: IdempotencyKey, *, living: bool = False
    ) -> Submitted | KeyTaken | None:
        """What came under the key before, and is durable; None where it is new. ``living``: a key
        that a deleted project had counts as new."""

    async def sweep_projects(self, after: ProjectId, limit: int) -> SweptProjects:
        """Look at the next projects behind that id, at most ``limit``; delete the deleted ones that
        no workload refers to. The numbers that a name has used are remembered: the row with the
        highest number stays."""

    async def sweep_keys(self, after: tuple[str, str], older_than: float, limit: int) -> SweptKeys:
        """Look at the next keys behind (scope, key), at most ``limit``; delete those that were kept
        more than ``older_than`` seconds ago."""

    async def ask_once(
        self, command: Stop | Resolve, workload: WorkloadId, number: int, key: IdempotencyKey
    ) -> Submitted | KeyTaken:
        """Put a command about that workload into the inbox and keep its key, in one transaction."""

    async def fix_commit(self, job: JobId, lease_token: int, found: str) -> str | None:
        """The commit that all jobs of the job's workload run, as a whole hash: durable when it
        returns. It is ``found``, unless the workload has one, or ``found`` is not what it asks for,
        or the workload that it rebuilds has one. None where the lease is not the job's.
        """

    async def append_log(self, chunks: Sequence[tuple[JobId, int, int, bytes]]) -> None:
        """Append (job, attempt, offset, bytes); one already there (same offset) changes nothing."""

    # --- The engine (the shard's leader) ---------------------------------------------------

    async def raise_epoch(self, shard: int, node: str) -> int:
        """A new leadership; the fence refuses every earlier leader from now. Returns its epoch."""

    async def load(self, shard: int, into: ShardLoading) -> None:
        """The shard as it is, in one snapshot: its state, then its unfinished workloads in pages.

        ``into`` is called in a thread. Submissions that are still in the inbox are left out.
        """

    async def mirror(self, shard: int, into: ShardLoading) -> None:
        """The same, on the connections of reads: for a node that only explains the shard."""

    async def inbox(self, shard: int, limit: int) -> list[InboxEntry]:
        """The oldest commands, in the order of their ids; they stay until a batch deletes them."""

    async def commit(self, batch: Batch) -> None:
        """One fenced transaction. Raises Fenced, OutcomeUnknown or StoreAway; else it is done."""

    async def batch_number(self, shard: int) -> tuple[int, int]:
        """(epoch, batch) as stored: says whether a commit of unknown outcome happened. Durable when
        it returns, as a commit is."""

    # --- Workers ---------------------------------------------------------------------------

    async def connect_worker(self, new: NewWorker) -> Connected:
        """The worker of that identity, connected to a node, with a row for each of its Boxes.

        Boxes are its ordinals 1, 2, ... Those it has no more are left to the engine to retire; new
        ones are inserted as retired and become usable by the engine's batch. An earlier connection
        of the worker ends with this one; what it was promised there may hold on until its first
        beat. Raises Conflict where another worker has the name.
        """

    async def disconnect_workers(self, connections: Sequence[Connection]) -> None:
        """They are disconnected, as far as they have not connected anew since."""

    async def beat(
        self,
        connections: Sequence[Connection],
        lost_after: float | None = None,
        problems: Mapping[WorkerId, str] = NO_PROBLEMS,
    ) -> set[WorkerId]:
        """Record heartbeats, in one statement; return the ids whose connection number is current.

        They go by what they were promised on these connections (None: not known). ``problems``:
        why those that can begin no jobs cannot.
        """

    async def forget_worker(self, connection: Connection) -> bool:
        """Its row goes, with those of its Boxes; False where it has connected anew since, or still
        has Boxes that have not gone."""

    async def pulses(self, shard: int) -> list[Pulse]:
        """Every worker's beat: a number that grows while a node hears from it."""

    async def assignments(self, workers: Sequence[WorkerId]) -> dict[WorkerId, list[Assignment]]:
        """What each worker should be running now, and what of it should be ended; one query."""

    # --- Reads for API and page ------------------------------------------------------------

    async def workload(self, workload: WorkloadId) -> Workload | None:
        """One, with its jobs."""

    async def subject(self, workload: WorkloadId) -> Workload | None:
        """The same for a command about it (a stop, a deploy, a rebuild): never behind reads."""

    async def workloads(self, filter: WorkloadFilter) -> WorkloadPage:
        """A page. It is read within bounds, whatever there is and is asked for."""

    async def unfinished(self) -> list[Workload]:
        """All unfinished workloads, without jobs, by id."""

    async def activity(self, finished: int) -> ActivitySnapshot:
        """In one snapshot: all unfinished workloads, and the last ``finished`` that have ended."""

    async def overtaken(self, workload: WorkloadId, since: float) -> int | None:
        """How many that were registered later have been admitted since; None where more than
        OVERTAKING_SEEN workloads have finished since, so that it is not counted."""

    async def job_state(self, job: JobId) -> tuple[JobState, int] | None:
        """A job's state and attempt: for who asks again and again."""

    async def find_number(self, project: str, number: int) -> WorkloadId | None:
        """The workload of that number in the project of that name, be it deleted or made anew."""

    async def boxes(self) -> list[Box]: ...

    async def workers(self) -> list[Worker]: ...

    async def log(self, job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes of an attempt's log from ``offset``; empty where there is none."""

    async def log_end(self, job: JobId, attempt: int) -> int:
        """How many bytes an attempt's log has; 0 where there is none."""

    async def events_after(self, shard: int, batch: int, n: int, limit: int) -> list[StoredEvent]:
        """Events behind shard.batch.n, in order."""

    async def events_there(
        self, places: Sequence[tuple[int, int, int]]
    ) -> set[tuple[int, int, int]]:
        """Those of the places (shard, batch, n) that have an event."""

    async def last_event(self, shard: int) -> tuple[int, int]:
        """(batch, n) of the newest event; (0, 0) where there is none."""

    async def last_events(self) -> dict[int, tuple[int, int]]:
        """The same of every shard, in one query."""

    async def set_aside(
        self, limit: int, workload: WorkloadId | None = None
    ) -> list[SetAsideCommand]:
        """Commands that were set aside, latest first; of one workload, if it is given."""

    async def set_aside_one(self, id: int) -> SetAsideCommand | None: ...

    async def drop_old_set_aside(self, then: float, kept: int, limit: int) -> int:
        """Delete those that were set aside before then, and the oldest of more than ``kept``; about
        ``limit`` at most. Returns how many there were."""

    async def drop_set_aside(self, id: int) -> bool:
        """False where there is none of that id."""

    # --- Sign-in ---------------------------------------------------------------------------

    async def put_session(self, digest: str, principal: str, expires_at: float) -> None: ...

    async def session(self, digest: str, now: float) -> str | None:
        """The principal of a live session of the page."""

    async def drop_expired_sessions(self, then: float, limit: int) -> int:
        """Delete sessions that were over then, at most ``limit``; returns how many there were."""

    async def drop_session(self, digest: str) -> None: ...
