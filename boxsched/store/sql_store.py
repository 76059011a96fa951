"""The store's contract over any driver: which procedure answers which call, and how it is run."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from boxsched.errors import StoreAway
from boxsched.model import JobId, ProjectId, WorkerId, WorkloadId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch, InboxEntry, StoredEvent
from boxsched.protocol.inbox import Resolve, Stop
from boxsched.protocol.shards import Box, Organization, Project
from boxsched.protocol.workers import Connected, Connection, NewWorker, Pulse
from boxsched.states import JobState
from boxsched.store.contract import NO_PROBLEMS, ShardLoading
from boxsched.store.driver import Driver
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
from boxsched.store.steps import (
    cluster,
    commits,
    leading,
    loading,
    logs,
    pages,
    projects,
    sessions,
    submission,
    tokens,
)
from boxsched.store.steps import reads as reading
from boxsched.store.steps import workers as fleet

if TYPE_CHECKING:
    from boxsched.store.postgres.servers import Servers

PING_SECONDS = 1.0


class SqlStore:
    """``contract.Store``; see there for what each call promises."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def servers(self) -> "Servers | None":
        return self._driver.servers

    @property
    def round_trips(self) -> Mapping[str, int]:
        return self._driver.round_trips

    async def open(self) -> None:
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._driver.serving.read(reading.ping)
        except TimeoutError as error:
            raise StoreAway(f"no answer within {PING_SECONDS:g} s") from error

    async def settle(self) -> None:
        await self._driver.serving.write(reading.ping)

    async def ready(self) -> None:
        await self.ping()
        if self._driver.writes_fail:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._driver.serving.write(reading.try_to_write)
            except TimeoutError as error:
                raise StoreAway(f"no write was done within {PING_SECONDS:g} s") from error

    async def cluster(self) -> str:
        return await self._driver.serving.read(reading.cluster)

    # --- The cluster -----------------------------------------------------------------------

    async def open_shards(self, count: int) -> list[ShardHead]:
        return await self._driver.serving.write(cluster.open_shards, count)

    async def shards(self) -> list[ShardHead]:
        return await self._driver.serving.read(cluster.shards)

    async def put_node(self, name: str, url: str, version: str) -> NodeInfo:
        return await self._driver.serving.write(cluster.put_node, name, url, version)

    async def nodes(self) -> list[NodeInfo]:
        return await self._driver.reading.read(cluster.nodes)

    async def forget_node(self, name: str) -> None:
        await self._driver.serving.write(cluster.forget_node, name)

    async def drop_old_nodes(self, away: Sequence[str], older_than: float) -> list[str]:
        return await self._driver.serving.write(cluster.drop_old_nodes, away, older_than)

    # --- Tokens ----------------------------------------------------------------------------

    async def put_token(self, token: Token) -> None:
        await self._driver.serving.write(tokens.put_token, token)

    async def token(self, digest: str) -> Token | None:
        return await self._driver.serving.read(tokens.token, digest)

    async def tokens(self) -> list[Token]:
        return await self._driver.reading.read(tokens.tokens)

    async def revoke_token(self, id: str) -> bool:
        return await self._driver.serving.write(tokens.revoke_token, id)

    async def drop_old_tokens(self, older_than: float, limit: int) -> int:
        return await self._driver.serving.write(tokens.drop_old_tokens, older_than, limit)

    # --- Settings --------------------------------------------------------------------------

    async def set_organization(self, organization: Organization) -> None:
        await self._driver.serving.write(projects.set_organization, organization)

    async def organization(self) -> Organization:
        return await self._driver.serving.read(projects.organization)

    async def put_project(
        self,
        name: str,
        settings: str,
        max_boxes: int | None,
        *,
        secret: str | None,
        keep_secret: bool,
    ) -> tuple[Project, bool]:
        return await self._driver.serving.write(
            projects.put_project, name, settings, max_boxes, secret, keep_secret
        )

    async def project(self, name: str) -> Project | None:
        return await self._driver.serving.read(projects.project, name)

    async def project_id(self, name: str) -> ProjectId | None:
        return await self._driver.serving.read(projects.project_id, name)

    async def projects(self) -> list[Project]:
        return await self._driver.reading.read(projects.projects)

    async def delete_project(self, name: str) -> bool:
        return await self._driver.serving.write(projects.delete_project, name)

    # --- Submissions and other commands ----------------------------------------------------

    async def submit(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        return await self._driver.serving.write(submission.submit, group)

    async def ask(self, shard: int, entries: Sequence[tuple[str, bytes]]) -> None:
        await self._driver.serving.write(submission.ask, shard, entries)

    async def idempotency(
        self, key: IdempotencyKey, *, living: bool = False
    ) -> Submitted | KeyTaken | None:
        found = await self._driver.serving.read(submission.idempotency, key, living=living)
        if found is None:
            return None
        # Seen, which after a crash is not yet on the synchronous standby: a write waits for that.
        return await self._driver.serving.write(submission.idempotency, key, living=living)

    async def sweep_projects(self, after: ProjectId, limit: int) -> SweptProjects:
        return await self._driver.serving.write(projects.sweep_projects, after, limit)

    async def sweep_keys(self, after: tuple[str, str], older_than: float, limit: int) -> SweptKeys:
        return await self._driver.serving.write(submission.sweep_keys, after, older_than, limit)

    async def ask_once(
        self, command: Stop | Resolve, workload: WorkloadId, number: int, key: IdempotencyKey
    ) -> Submitted | KeyTaken:
        return await self._driver.serving.write(submission.ask_once, command, workload, number, key)

    async def fix_commit(self, job: JobId, lease_token: int, found: str) -> str | None:
        return await self._driver.serving.write(commits.fix_commit, job, lease_token, found)

    async def append_log(self, chunks: Sequence[tuple[JobId, int, int, bytes]]) -> None:
        await self._driver.serving.write(logs.append_log, chunks)

    # --- The engine ------------------------------------------------------------------------

    async def raise_epoch(self, shard: int, node: str) -> int:
        return await self._driver.deciding.write(leading.raise_epoch, shard, node)

    async def load(self, shard: int, into: ShardLoading) -> None:
        await self._driver.deciding.load(loading.load_shard, shard, into)

    async def mirror(self, shard: int, into: ShardLoading) -> None:
        await self._driver.reading.load(loading.load_shard, shard, into)

    async def inbox(self, shard: int, limit: int) -> list[InboxEntry]:
        return await self._driver.deciding.read(leading.inbox, shard, limit)

    async def commit(self, batch: Batch) -> None:
        await self._driver.deciding.write(leading.commit, batch)

    async def batch_number(self, shard: int) -> tuple[int, int]:
        # A write, as in ``idempotency``: the engine acts on a batch that is there.
        return await self._driver.deciding.write(leading.batch_number, shard)

    # --- Workers ---------------------------------------------------------------------------

    async def connect_worker(self, new: NewWorker) -> Connected:
        return await self._driver.serving.write(fleet.connect_worker, new)

    async def disconnect_workers(self, connections: Sequence[Connection]) -> None:
        await self._driver.serving.write(fleet.disconnect_workers, connections)

    async def beat(
        self,
        connections: Sequence[Connection],
        lost_after: float | None = None,
        problems: Mapping[WorkerId, str] = NO_PROBLEMS,
    ) -> set[WorkerId]:
        return await self._driver.serving.write(fleet.beat, connections, lost_after, problems)

    async def forget_worker(self, connection: Connection) -> bool:
        return await self._driver.serving.write(fleet.forget_worker, connection)

    async def pulses(self, shard: int) -> list[Pulse]:
        return await self._driver.deciding.read(fleet.pulses, shard)

    async def assignments(self, workers: Sequence[WorkerId]) -> dict[WorkerId, list[Assignment]]:
        return await self._driver.serving.read(fleet.assignments, workers)

    # --- Reads -----------------------------------------------------------------------------

    async def workload(self, workload: WorkloadId) -> Workload | None:
        return await self._driver.reading.snapshot(reading.workload, workload)

    async def subject(self, workload: WorkloadId) -> Workload | None:
        return await self._driver.serving.snapshot(reading.workload, workload)

    async def workloads(self, filter: WorkloadFilter) -> WorkloadPage:
        return await self._driver.reading.snapshot(pages.workloads, filter)

    async def unfinished(self) -> list[Workload]:
        return await self._driver.reading.load(reading.unfinished)

    async def activity(self, finished: int) -> ActivitySnapshot:
        return await self._driver.reading.load(reading.activity, finished)

    async def overtaken(self, workload: WorkloadId, since: float) -> int | None:
        return await self._driver.reading.snapshot(reading.overtaken, workload, since)

    async def job_state(self, job: JobId) -> tuple[JobState, int] | None:
        return await self._driver.reading.read(reading.job_state, job)

    async def find_number(self, project: str, number: int) -> WorkloadId | None:
        return await self._driver.reading.read(reading.find_number, project, number)

    async def boxes(self) -> list[Box]:
        return await self._driver.reading.read(fleet.boxes)

    async def workers(self) -> list[Worker]:
        return await self._driver.reading.read(fleet.workers)

    async def log(self, job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        return await self._driver.reading.read(logs.log, job, attempt, offset, limit)

    async def log_end(self, job: JobId, attempt: int) -> int:
        return await self._driver.reading.read(logs.log_end, job, attempt)

    async def events_after(self, shard: int, batch: int, n: int, limit: int) -> list[StoredEvent]:
        return await self._driver.reading.read(reading.events_after, shard, batch, n, limit)

    async def events_there(
        self, places: Sequence[tuple[int, int, int]]
    ) -> set[tuple[int, int, int]]:
        return await self._driver.reading.read(reading.events_there, places)

    async def last_event(self, shard: int) -> tuple[int, int]:
        return await self._driver.reading.read(reading.last_event, shard)

    async def last_events(self) -> dict[int, tuple[int, int]]:
        return await self._driver.reading.read(reading.last_events)

    async def set_aside(
        self, limit: int, workload: WorkloadId | None = None
    ) -> list[SetAsideCommand]:
        return await self._driver.reading.read(reading.set_aside, limit, workload)

    async def set_aside_one(self, id: int) -> SetAsideCommand | None:
        return await self._driver.reading.read(reading.set_aside_one, id)

    async def drop_old_set_aside(self, then: float, kept: int, limit: int) -> int:
        return await self._driver.serving.write(reading.drop_old_set_aside, then, kept, limit)

    async def drop_set_aside(self, id: int) -> bool:
        return await self._driver.serving.write(reading.drop_set_aside, id)

    # --- Sign-in ---------------------------------------------------------------------------

    async def put_session(self, digest: str, principal: str, expires_at: float) -> None:
        await self._driver.serving.write(sessions.put_session, digest, principal, expires_at)

    async def session(self, digest: str, now: float) -> str | None:
        return await self._driver.serving.read(sessions.session, digest, now)

    async def drop_expired_sessions(self, then: float, limit: int) -> int:
        return await self._driver.serving.write(sessions.drop_expired_sessions, then, limit)

    async def drop_session(self, digest: str) -> None:
        await self._driver.serving.write(sessions.drop_session, digest)
