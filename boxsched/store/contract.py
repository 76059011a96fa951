"""The store's contract: what every side (SQLite; PostgreSQL) does, and tests/contract proves.

Rules that hold for every call:

* A write that returned is durable. One that raised ``StoreAway`` was not done; one that raised
  ``OutcomeUnknown`` may have been, and may be repeated with the same key.
* Groups go in one transaction: a refused member is left out, never the group.
* An engine transaction begins with the fence: ``UPDATE shard SET batch = batch + 1 WHERE id, epoch,
  batch``; no row hit raises ``Fenced`` and nothing is written.
* Reads see what was committed before they began.
"""

from collections.abc import Sequence
from typing import Protocol

from boxsched.inbox import Stop
from boxsched.model import JobId, ProjectId, WorkerId, WorkloadId
from boxsched.states import JobState
from boxsched.store.values import (
    Assignment,
    Batch,
    Box,
    BoxRow,
    IdempotencyKey,
    InboxEntry,
    KeyTaken,
    NewWorkload,
    Organization,
    Project,
    ShardState,
    StoredEvent,
    SubmitOutcome,
    Submitted,
    Worker,
    Workload,
    WorkloadFilter,
)

SHARD = 1  # the only shard there is on SQLite


class Store(Protocol):
    """See the module; every method may raise ``StoreAway``."""

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Answers if the store can read; raises StoreAway otherwise."""

    async def cluster(self) -> str:
        """Names this database: chosen at random when it was made."""

    # --- Settings --------------------------------------------------------------------------

    async def set_organization(self, organization: Organization) -> None:
        """Replace the default organization's queue settings."""

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

    async def projects(self) -> list[Project]:
        """All of them, by name."""

    async def delete_project(self, name: str) -> bool:
        """False where there is none; raises Conflict while it has unfinished workloads."""

    # --- Submissions and other commands (any node) -----------------------------------------

    async def submit(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        """Store a group in one transaction: numbers, rows, inbox entries, idempotency keys.

        Outcomes are in the group's order. Expected durations are looked up here and stored with the
        jobs (before a first passed run: the time limit), so that a replay decides the same.
        Projects' rows are locked in the order of their ids; numbers follow the group's order.
        """

    async def ask(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Put commands (kind, payload) into the inbox, in one transaction."""

    async def idempotency(self, key: IdempotencyKey) -> Submitted | KeyTaken | None:
        """What came under the key before; None where it is new."""

    async def stop_once(self, stop: Stop, number: int, key: IdempotencyKey) -> Submitted | KeyTaken:
        """Put a stop of that workload into the inbox and keep its key, in one transaction."""

    async def append_log(self, chunks: Sequence[tuple[JobId, int, int, bytes]]) -> None:
        """Append (job, attempt, offset, bytes); one already there (same offset) changes nothing."""

    # --- The engine (the shard's leader) ---------------------------------------------------

    async def lead(self, shard: int, node: str) -> ShardState:
        """Raise the shard's epoch and load it: the fence refuses every earlier leader from now."""

    async def inbox(self, shard: int, limit: int) -> list[InboxEntry]:
        """The oldest commands, in the order of their ids; they stay until a batch deletes them."""

    async def commit(self, batch: Batch) -> None:
        """One fenced transaction. Raises Fenced, OutcomeUnknown or StoreAway; else it is done."""

    async def batch_number(self, shard: int) -> tuple[int, int]:
        """(epoch, batch) as stored: says whether a commit of unknown outcome happened."""

    # --- Workers ---------------------------------------------------------------------------

    async def register_worker(
        self, name: str, address: str, box_types: Sequence[str]
    ) -> tuple[WorkerId, list[BoxRow]]:
        """The worker of that name, connected, with a row for each of its Boxes (ordinal 1, 2, ...).

        Boxes it has no more are left to the engine to retire; new ones are inserted here as
        retired and become usable by the engine's batch. Returns the Boxes it should have.
        """

    async def assignments(self, worker: WorkerId) -> list[Assignment]:
        """What the worker should be running now, and what of it should be ended."""

    # --- Reads for API and page ------------------------------------------------------------

    async def workload(self, workload: WorkloadId) -> Workload | None:
        """One, with its jobs."""

    async def workloads(self, filter: WorkloadFilter) -> list[Workload]:
        """A page, newest first, with jobs."""

    async def unfinished(self) -> list[Workload]:
        """All unfinished workloads, without jobs, by id."""

    async def recently_finished(self, limit: int) -> list[Workload]:
        """The last finished ones, without jobs, latest first."""

    async def job_state(self, job: JobId) -> tuple[JobState, int] | None:
        """A job's state and attempt: for who asks again and again."""

    async def find_number(self, project: ProjectId, number: int) -> WorkloadId | None: ...

    async def boxes(self) -> list[Box]: ...

    async def workers(self) -> list[Worker]: ...

    async def log(self, job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes of an attempt's log from ``offset``; empty where there is none."""

    async def events_after(self, shard: int, batch: int, n: int, limit: int) -> list[StoredEvent]:
        """Events behind shard.batch.n, in order."""

    async def last_event(self, shard: int) -> tuple[int, int]:
        """(batch, n) of the newest event; (0, 0) where there is none."""

    # --- Sign-in ---------------------------------------------------------------------------

    async def put_session(self, digest: str, principal: str, expires_at: float) -> None: ...

    async def session(self, digest: str, now: float) -> str | None:
        """The principal of a live session of the page."""

    async def drop_session(self, digest: str) -> None: ...
