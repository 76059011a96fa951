"""The store: what every call guarantees, on SQLite and on PostgreSQL; tests/contract checks it.

Rules that hold for every call:

* A write that returned is durable, and so is all data that it found. A write that raised
  ``StoreAway`` was not done. After ``OutcomeUnknown`` it may have been done, and may be repeated
  with the same key.
* A group is stored in one transaction. A refused member is left out, never the whole group.
* An engine transaction begins with the fence: ``UPDATE shard SET batch = batch + 1 WHERE id, epoch,
  batch``; no row hit raises ``Fenced`` and nothing is written.
* Reads see what was committed before they began.
* Three uses have separate connections (``driver``): the engine's calls never wait for reads of the
  API, which may raise ``TooLong``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from boxsched.errors import StoreAway
from boxsched.model import (
    DEFAULT_ORGANIZATION,
    JobId,
    OrganizationId,
    ProjectId,
    WorkerId,
    WorkloadId,
)
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch, Committed, DeployDue, InboxEntry, StoredEvent
from boxsched.protocol.ghosts import Ghost, Haunted, Lease
from boxsched.protocol.inbox import Reprioritize, Resolve, Stop
from boxsched.protocol.schedules import DueSchedule, Firing, NewSchedule
from boxsched.protocol.shards import SHARD, Box, Organization, Pause, Project, ShardLoading
from boxsched.protocol.workers import Connected, NewWorker, Pulse, WorkerConnection
from boxsched.states import JobState
from boxsched.store.blob_rows import BlobRows
from boxsched.store.delivery_records import (
    Delivered,
    DeliveryResult,
    NewDelivery,
    RepeatedDelivery,
    StoredDelivery,
    WebhookSecrets,
)
from boxsched.store.driver import WatchedDriver
from boxsched.store.records import (
    ActivitySnapshot,
    Concern,
    IdempotencyKey,
    JobSpec,
    KeyTaken,
    NewWorkload,
    NodeInfo,
    ProjectChanged,
    ServerState,
    SetAsideCommand,
    ShardHead,
    SshPlace,
    SshWorker,
    SubmitOutcome,
    Submitted,
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
    deliveries,
    ghosts,
    leading,
    loading,
    log_files,
    logs,
    notifications,
    organizations,
    pages,
    pauses,
    plans,
    project_versions,
    projects,
    pruning,
    reads,
    schedules,
    secrets,
    servers,
    sessions,
    ssh_sessions,
    submission,
    tokens,
    workers,
)
from boxsched.store.steps.notifications import (
    Claimed,
    Settled,
    StoredNotification,
    StoredTarget,
    Target,
)
from boxsched.store.steps.project_versions import UNKNOWN_EDIT, Edit, StoredVersion
from boxsched.store.steps.pruning import CutPlace, HistoryStart, Pruned
from boxsched.store.steps.schedules import ListedSchedule, Place
from boxsched.store.steps.secrets import Seal, SealedSecret, SealedText, SecretInfo

if TYPE_CHECKING:
    from boxsched.store.postgres.servers import PostgresServers

PING_SECONDS = 1.0

JOBS_A_PART = 2_000  # jobs in a part of ``workloads_in_parts``


class Store:
    """See the module; every method may raise ``StoreAway``.

    Each call runs a procedure of ``steps`` on the driver's connections of its use.
    """

    def __init__(self, driver: WatchedDriver) -> None:
        self._driver = driver
        self.blobs = BlobRows(driver)

    @property
    def servers(self) -> "PostgresServers | None":
        """The database's servers; None for SQLite."""
        return self._driver.servers

    @property
    def is_near(self) -> bool:
        """Whether the database is in this process, so that statements need no round trips."""
        return self._driver.is_near

    @property
    def round_trips(self) -> Mapping[str, int]:
        """Round trips to the database since the start, by purpose; none with SQLite."""
        return self._driver.round_trips

    async def open(self) -> None:
        """Connect, and prepare or upgrade the schema under a lock."""
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()

    async def ping(self) -> None:
        """Raise StoreAway if the store cannot be read."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._driver.serving.read(reads.ping)
        except TimeoutError as error:
            raise StoreAway(f"no answer within {PING_SECONDS:g} s") from error

    async def settle(self) -> None:
        """Return when everything read so far is durable, also on a synchronous standby."""
        await self._driver.serving.write(reads.ping)

    async def ready(self) -> None:
        """Like ``ping``; if the last write failed, also try to write."""
        await self.ping()
        if self._driver.writes_fail:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._driver.serving.write(reads.try_to_write)
            except TimeoutError as error:
                raise StoreAway(f"no write was done within {PING_SECONDS:g} s") from error

    async def time(self) -> float:
        """Return seconds since the epoch, by the database's clock."""
        return await self._driver.serving.read(reads.time)

    async def cluster(self) -> str:
        """Return the database's random name, chosen when it was created."""
        return await self._driver.serving.read(reads.cluster)

    # --- The cluster -----------------------------------------------------------------------

    async def open_shards(self, count: int) -> list[ShardHead]:
        """Create the missing shards of 1 to ``count``; return all, by id.

        The number only grows, because an organization stays in its shard.
        """
        return await self._driver.serving.write(cluster.open_shards, count)

    async def shards(self) -> list[ShardHead]:
        """Return each shard's epoch, last batch and leader, by one small query."""
        return await self._driver.serving.read(cluster.shards)

    async def put_node(self, name: str, url: str, version: str, requires: str = "") -> NodeInfo:
        "Record the start of the node with this name, and return it; its id identifies its lock."
        return await self._driver.serving.write(cluster.put_node, name, url, version, requires)

    async def nodes(self) -> list[NodeInfo]:
        """Return all nodes that were ever started, by id. Only the locks show which are alive."""
        return await self._driver.reading.read(cluster.nodes)

    async def forget_node(self, name: str) -> None:
        await self._driver.serving.write(cluster.forget_node, name)

    async def drop_old_nodes(self, away: Sequence[str], older_than: float) -> list[str]:
        """Of these absent nodes, delete those that were started and seen more than ``older_than``
        seconds ago, with their in-process workers; return their names.
        """
        return await self._driver.serving.write(cluster.drop_old_nodes, away, older_than)

    # --- Tokens ----------------------------------------------------------------------------

    async def put_token(self, token: Token) -> None:
        """Store a token by its SHA-256 sum; a token with the same digest stays as it is."""
        await self._driver.serving.write(tokens.put_token, token)

    async def token(self, digest: str) -> Token | None:
        """Return a token that was not revoked. The caller checks whether it has expired."""
        return await self._driver.serving.read(tokens.token, digest)

    async def tokens(self) -> list[Token]:
        """Return all tokens that were not revoked, oldest first."""
        return await self._driver.reading.read(tokens.tokens)

    async def revoke_token(self, id: str) -> bool:
        """Revoke a token; return False if no token has this id."""
        return await self._driver.serving.write(tokens.revoke_token, id)

    async def tokens_used(self, ids: Collection[str], seconds: float) -> None:
        """Note that these tokens are in use now; without those noted less than ``seconds`` ago."""
        await self._driver.serving.write(tokens.tokens_used, ids, seconds)

    async def drop_old_tokens(self, older_than: float, limit: int) -> int:
        """Delete tokens that expired, and tokens that were revoked, more than ``older_than``
        seconds ago, at most ``limit`` of each; return how many. A revoked token of a data folder
        (its id begins with ``file-``) stays, so that its node's next start cannot restore it."""
        return await self._driver.serving.write(tokens.drop_old_tokens, older_than, limit)

    # --- Settings --------------------------------------------------------------------------

    async def organizations(self) -> list[Organization]:
        """Return all organizations, by name."""
        return await self._driver.serving.read(organizations.organizations)

    async def organization(self, id: OrganizationId = DEFAULT_ORGANIZATION) -> Organization | None:
        return await self._driver.serving.read(organizations.organization, id)

    async def put_organization(self, asked: Organization) -> tuple[Organization, bool]:
        """Create the organization of this name, or replace its settings; return it, and whether it
        was created. A new one gets an id, and a shard that no other has. Notifies its leader (inbox
        ``reload``). Raises Conflict beyond MAX_ORGANIZATIONS.
        """
        return await self._driver.serving.write(organizations.put_organization, asked)

    async def set_organization(self, wanted: Organization) -> None:
        """Replace the settings of the organization of this id, and notify its leader (inbox
        ``reload``). Raises Conflict if it was deleted.
        """
        await self._driver.serving.write(organizations.set_organization, wanted)

    async def delete_organization(self, name: str) -> bool:
        """Delete an organization with its projects and tokens; return False if there is none.
        Raises Conflict while it has unfinished workloads. Notifies its leader.
        """
        return await self._driver.serving.write(organizations.delete_organization, name)

    async def put_project(
        self,
        name: str,
        settings: str,
        max_boxes: int | None,
        sealed: Mapping[str, Seal | None] = MappingProxyType({}),
        targets: Sequence[Target] = (),
        edit: Edit = UNKNOWN_EDIT,
        schedules: Sequence[NewSchedule] = (),
        now: float = 0.0,
        organization: OrganizationId = DEFAULT_ORGANIZATION,
    ) -> tuple[Project, bool]:
        """Create or replace a project; return it, and whether it was created. Notifies the leader
        (inbox ``project``), and stores the new settings as a version. Raises Outdated if ``edit``
        was made for another version.

        ``sealed``: the values to set (``webhook_secret``, ``git_credentials``), which are sealed
        when the project's id is known. None removes a value; values that are not named stay.
        ``targets``: the targets of its notifications; others are deleted. ``schedules``: the same;
        an existing schedule keeps its next time. ``now``: when the first times of new schedules
        were chosen.
        """
        return await self._driver.serving.write(
            projects.put_project,
            name,
            settings,
            max_boxes,
            sealed,
            targets,
            edit,
            schedules,
            now,
            organization,
        )

    async def project(
        self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> Project | None:
        return await self._driver.serving.read(projects.project, name, organization)

    async def targets(self, project: ProjectId) -> list[StoredTarget]:
        """Return the targets of a project's notifications, by name."""
        return await self._driver.serving.read(notifications.stored_targets, project)

    async def project_versions(
        self, project: ProjectId, before: int, limit: int
    ) -> list[StoredVersion]:
        """Return the versions of its settings that are lower than ``before``, latest first."""
        return await self._driver.reading.read(project_versions.versions, project, before, limit)

    async def project_version(self, project: ProjectId, number: int) -> StoredVersion | None:
        return await self._driver.reading.read(project_versions.version, project, number)

    async def project_id(
        self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> ProjectId | None:
        return await self._driver.serving.read(projects.project_id, name, organization)

    async def project_names(self, ids: Sequence[ProjectId]) -> dict[ProjectId, str]:
        """The names of these projects, without their settings, which may be large."""
        return await self._driver.serving.read(projects.project_names, ids)

    async def projects(self, organization: OrganizationId = DEFAULT_ORGANIZATION) -> list[Project]:
        """Return an organization's projects, by name."""
        return await self._driver.reading.read(projects.projects, organization)

    async def delete_project(
        self, name: str, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> bool:
        """Delete a project; return False if there is none. Raises Conflict while it has unfinished
        workloads. Notifies the leader like ``put_project``.
        """
        return await self._driver.serving.write(projects.delete_project, name, organization)

    # --- Secrets ---------------------------------------------------------------------------

    async def put_secret(
        self,
        project: str,
        name: str,
        seal: Seal,
        *,
        as_file: bool,
        organization: OrganizationId = DEFAULT_ORGANIZATION,
    ) -> tuple[SecretInfo, bool] | None:
        """Create or replace a project's secret; return whether it was created, None if there is no
        such project. ``seal`` makes the stored text. Raises Invalid beyond a limit.
        """
        return await self._driver.serving.write(
            secrets.put_secret, project, name, seal, as_file=as_file, organization=organization
        )

    async def secrets(self, project: ProjectId) -> list[SecretInfo]:
        """Return a project's secrets without their values, by name."""
        return await self._driver.reading.read(secrets.secrets, project)

    async def drop_secret(self, project: ProjectId, name: str) -> bool:
        """Delete a secret; return False if there is none."""
        return await self._driver.serving.write(secrets.drop_secret, project, name)

    async def sealed_secrets(self, projects: Sequence[ProjectId]) -> list[SealedSecret]:
        """Return the sealed secrets of these projects, for their jobs."""
        return await self._driver.serving.read(secrets.sealed_secrets, projects)

    async def sealed_git_credentials(self, projects: Sequence[ProjectId]) -> dict[ProjectId, str]:
        """Return the sealed git credentials of those of these projects that have some."""
        return await self._driver.serving.read(secrets.sealed_git_credentials, projects)

    async def sealed_texts(
        self, place: str, after: tuple[ProjectId, str], prefix: str, limit: int
    ) -> list[SealedText]:
        """Return the next texts of a place (``secrets.PLACES``) that do not begin with the prefix,
        ordered by project and name, at most ``limit``.
        """
        return await self._driver.reading.read(secrets.sealed_texts, place, after, prefix, limit)

    async def reseal(self, texts: Sequence[tuple[SealedText, str]]) -> int:
        """Replace sealed texts by new ones of the same values. A text that was changed in the
        meantime stays. Return how many were replaced.
        """
        return await self._driver.serving.write(secrets.reseal, texts)

    # --- Submissions and other commands ----------------------------------------------------

    async def submit(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        """Store a group in one transaction: numbers, rows, inbox entries, idempotency keys.

        Outcomes are in the group's order. A submission that was checked against another version of
        its project, or that exceeds the plan, gets ``ProjectChanged``. Expected durations are
        looked up here and stored with the jobs (before the first passed run: the time limit), so
        that a replay decides the same. Projects' rows are locked in the order of their ids; numbers
        follow the group's order.
        """
        return await self._driver.serving.write(submission.submit, group)

    async def ask(self, shard: int, entries: Sequence[tuple[str, bytes]]) -> None:
        """Put commands (kind, payload) into the shard's inbox, in one transaction."""
        await self._driver.serving.write(submission.ask, shard, entries)

    async def idempotency(
        self, key: IdempotencyKey, *, living: bool = False
    ) -> Submitted | KeyTaken | None:
        """Return the durable first answer under the key; None for a new key. ``living``: a key of a
        deleted project counts as new.
        """
        found = await self._driver.serving.read(submission.idempotency, key, living=living)
        if found is None:
            return None
        # After a crash, data may be visible before the synchronous standby has it; a write waits
        # for that.
        return await self._driver.serving.write(submission.idempotency, key, living=living)

    async def sweep_projects(self, after: ProjectId, limit: int) -> SweptProjects:
        """Examine the next projects after this id, at most ``limit``, and remove rows of deleted
        projects that no workload refers to. The row with the highest number of a name stays, so
        that its numbers are not used again.
        """
        return await self._driver.serving.write(projects.sweep_projects, after, limit)

    async def drop_old_keys(self, older_than: float, limit: int) -> int:
        """Delete idempotency keys that were kept more than ``older_than`` seconds ago, the oldest
        first, at most ``limit``; returns how many."""
        return await self._driver.serving.write(submission.drop_old_keys, older_than, limit)

    async def ask_once(
        self,
        command: Stop | Resolve | Reprioritize,
        workload: WorkloadId,
        number: int,
        key: IdempotencyKey,
    ) -> Submitted | KeyTaken:
        """Put a command about the workload into the inbox and store its key, in one transaction."""
        return await self._driver.serving.write(submission.ask_once, command, workload, number, key)

    async def fix_commit(self, job: JobId, lease_token: int, found: str) -> str | None:
        """Fix and return the commit that all jobs of the job's workload run, as a whole hash;
        durable when this returns. It is ``found``, unless the workload already has one, or
        ``found`` does not match the requested commit, or the workload that it rebuilds has one.
        None if the lease is not the job's current one.
        """
        return await self._driver.serving.write(commits.fix_commit, job, lease_token, found)

    async def open_ssh_session(self, job: JobId, lease_token: int, place: SshPlace) -> bool:
        """Store how a session is reached; durable when this returns. False if the lease is not the
        job's current one.
        """
        return await self._driver.serving.write(
            ssh_sessions.open_ssh_session, job, lease_token, place
        )

    async def ssh_worker(self, id_: WorkloadId) -> SshWorker | None:
        """Return the worker of a session that can be entered, or None."""
        return await self._driver.serving.read(ssh_sessions.worker, id_)

    async def append_log(self, chunks: Sequence[tuple[JobId, int, int, bytes]]) -> None:
        """Append chunks (job, attempt, offset, bytes). A chunk with an existing offset changes
        nothing.
        """
        await self._driver.serving.write(logs.append_log, chunks)

    # --- Deliveries of code hosts ----------------------------------------------------------

    async def deliver(self, group: Sequence[NewDelivery]) -> list[Delivered | ProjectChanged]:
        """Store a group in one transaction: the deliveries, the builds that they create, and the
        stops that they ask for. A delivery with the same body or host's id as an earlier one is
        stored as a duplicate and changes nothing; ignored deliveries do not count as earlier ones.
        Outcomes are in the group's order; ``ProjectChanged`` is as for ``submit``."""
        return await self._driver.serving.write(deliveries.deliver, group)

    async def repeat_deliveries(self, group: Sequence[RepeatedDelivery]) -> list[Delivered | None]:
        """Store deliveries whose body was received before as duplicates. None for others, and if
        the project has another version. It costs less than ``deliver``, and changes nothing else.
        """
        return await self._driver.serving.write(deliveries.repeat, group)

    async def webhook_secrets(self, names: Sequence[str]) -> Mapping[str, WebhookSecrets]:
        """Return the webhook secrets of the existing ones of these projects, by name."""
        return await self._driver.serving.read(deliveries.webhook_secrets, names)

    async def deliveries(
        self,
        project: ProjectId | None,
        result: DeliveryResult | None,
        before: int,
        limit: int,
        organization: OrganizationId = DEFAULT_ORGANIZATION,
    ) -> list[StoredDelivery]:
        """Return deliveries, newest first: with ids below ``before``, of one project or result."""
        return await self._driver.reading.snapshot(
            deliveries.deliveries, project, result, before, limit, organization
        )

    async def drop_old_deliveries(self, before: float, limit: int) -> int:
        """Examine the ``limit`` oldest deliveries; delete those received before this time."""
        return await self._driver.serving.write(deliveries.drop_old, before, limit)

    # --- Deletion of old data --------------------------------------------------------------

    async def prune_history(self, shard: int, before: float, limit: int) -> Pruned:
        """Delete the shard's oldest events, about ``limit``, of whole batches before this time, and
        the workloads that finished with them, unless they must be kept. Events younger than 8 days
        cannot be deleted: InvariantRefused.
        """
        return await self._driver.serving.write(pruning.prune_history, shard, before, limit)

    async def prune_cut(
        self, after: CutPlace, before: float, limit: int
    ) -> tuple[int, CutPlace | None]:
        """Examine the next workloads that were kept; delete those that are no longer needed. Return
        how many were deleted, and after which the next slice begins (None: that was the last).
        """
        return await self._driver.serving.write(pruning.prune_cut, after, before, limit)

    async def prune_logs(self, after: int, before: float, limit: int) -> tuple[int, int | None]:
        """Delete logs of the next jobs whose workloads finished before this time, at most ``limit``
        chunks. Return how many were deleted, and after which job the next slice begins (None: the
        end).
        """
        return await self._driver.serving.write(pruning.prune_logs, after, before, limit)

    async def idle_lanes(
        self, after: str, before: float, limit: int
    ) -> tuple[list[str], str | None]:
        """Examine the next lanes with a count of superseded builds. Return those without a build
        since this time, and after which lane the next slice begins (None: the end).
        """
        return await self._driver.reading.read(pruning.idle_lanes, after, before, limit)

    async def history_starts(self) -> dict[int, HistoryStart]:
        """Return, by shard, the last batch whose events were deleted, if any."""
        return await self._driver.serving.read(pruning.history_starts)

    async def was_given(self, workload: WorkloadId) -> bool:
        """Whether a missing workload may have been deleted because it was old."""
        return await self._driver.reading.read(pruning.was_given, workload)

    async def database_bytes(self) -> int:
        return await self._driver.reading.read(pruning.database_bytes)

    # --- Notifications ---------------------------------------------------------------------

    async def due_hosts(self, now: float) -> list[str]:
        """Return hosts with notifications whose next try is due; at most HOSTS_AT_ONCE."""
        return await self._driver.serving.read(notifications.due_hosts, now)

    async def settle_and_claim(
        self, settled: Sequence[Settled], rooms: Sequence[tuple[str, int]], now: float, until: float
    ) -> list[Claimed]:
        """Store results of tries, and claim due notifications, at most ``rooms`` of each host. A
        claim ends at ``until``; then they are due again. Only the first waiting notification of a
        workload and target is returned. A result after the claim ended and another node took it
        changes nothing.
        """
        return await self._driver.serving.write(
            notifications.settle_and_claim, settled, rooms, now, until
        )

    async def workloads_of(
        self, ids: Sequence[WorkloadId], jobs_at_most: int | None = None
    ) -> list[Workload]:
        """Return these workloads with all their jobs, in this order. The ids must differ. With
        ``jobs_at_most``: the first ones, as far as they have so many jobs in all, but one at least.
        """
        return await self._driver.reading.read(notifications.workloads_of, ids, jobs_at_most)

    async def workloads_in_parts(self, ids: Sequence[WorkloadId]) -> AsyncIterator[list[Workload]]:
        """The same, in parts with so few jobs that reading one takes milliseconds."""
        while ids:
            found = await self.workloads_of(ids, JOBS_A_PART)
            if not found:
                return
            yield found
            ids = ids[ids.index(found[-1].id) + 1 :]

    async def workload_numbers(self, ids: Sequence[WorkloadId]) -> dict[WorkloadId, int]:
        """Return the numbers of these workloads in their projects, without deleted ones."""
        return await self._driver.reading.read(reads.numbers, ids)

    async def notifications(
        self,
        state: str | None,
        before: int,
        limit: int,
        organization: OrganizationId = DEFAULT_ORGANIZATION,
    ) -> list[StoredNotification]:
        """Return notifications, newest first: with ids below ``before``, in this state if given."""
        return await self._driver.reading.read(
            notifications.notifications, state, before, limit, organization
        )

    async def resend_notification(self, id: int, now: float) -> bool:
        "Make a notification due now, with tries for another day. Return False if there is none."
        return await self._driver.serving.write(notifications.resend, id, now)

    async def waiting_notifications(self, limit: int) -> int:
        """Return how many notifications wait for delivery, counted up to ``limit``."""
        return await self._driver.reading.read(notifications.waiting, limit)

    async def drop_old_notifications(self, delivered: float, dead: float, limit: int) -> int:
        """Delete notifications that were delivered before ``delivered``, or dead before ``dead``,
        at most ``limit``; return how many. ``dead`` is the earlier time.
        """
        return await self._driver.serving.write(notifications.drop_old, delivered, dead, limit)

    # --- Pauses ----------------------------------------------------------------------------

    async def put_pause(
        self, pause: Pause, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> bool:
        """Begin the pause (True), or replace the pause of this name, and notify the leader. Raises
        Conflict beyond MAX_PAUSES.
        """
        return await self._driver.serving.write(pauses.put_pause, pause, organization)

    async def drop_pause(
        self, name: str, by: str, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> bool:
        """End the pause and notify the leader; return False if there is none of this name."""
        return await self._driver.serving.write(pauses.drop_pause, name, by, organization)

    async def pauses(self, organization: OrganizationId = DEFAULT_ORGANIZATION) -> list[Pause]:
        """Return an organization's pauses, by name."""
        return await self._driver.reading.read(pauses.pauses, organization)

    # --- Builds whose jobs are read ----------------------------------------------------------

    async def unplanned_projects(self, after: ProjectId, limit: int) -> list[ProjectId]:
        """Return projects after this one, by id, with unfinished builds whose jobs are not known
        yet. If there are fewer than ``limit``, they are the last ones.
        """
        return await self._driver.serving.read(plans.unplanned_projects, after, limit)

    async def first_unplanned(
        self, behind: Mapping[ProjectId, WorkloadId]
    ) -> dict[ProjectId, WorkloadId]:
        """Return the first such build of each project after one of its builds, if any."""
        return await self._driver.serving.read(plans.first_unplanned, behind)

    async def unplanned(
        self, project: ProjectId, after: WorkloadId, limit: int
    ) -> list[WorkloadId]:
        """Return such builds of a project after this one, by id."""
        return await self._driver.serving.read(plans.unplanned, project, after, limit)

    async def plan(self, workload: WorkloadId, jobs: Sequence[JobSpec], commit: str) -> bool:
        """Store the jobs and the whole commit of a build without jobs, and notify the leader.
        Return False if it already has its jobs or has ended. If they exceed its limits, the build
        will fail.
        """
        return await self._driver.serving.write(plans.plan, workload, jobs, commit)

    async def fail_plan(self, workload: WorkloadId, reason: str, commit: str | None) -> None:
        """Notify the leader that the jobs of the build cannot be read, with the reason. Store the
        whole commit, if it was found.
        """
        await self._driver.serving.write(plans.fail_plan, workload, reason, commit)

    # --- Schedules ---------------------------------------------------------------------------

    async def unscheduled(self, limit: int) -> list[Project]:
        """Return projects whose settings were written by a program with an earlier schema."""
        return await self._driver.serving.read(schedules.unscheduled, limit)

    async def schedule_anew(
        self, project: ProjectId, version: int, schedules_: Sequence[NewSchedule], now: float
    ) -> bool:
        """Set the schedules of the project, like ``put_project``. Return False if its settings have
        another version now.
        """
        return await self._driver.serving.write(
            schedules.schedule_anew, project, version, schedules_, now
        )

    async def due_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        """Return schedules that are due, the longest due first."""
        return await self._driver.serving.read(schedules.due, now, limit)

    async def ahead_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        """Return schedules whose next time was chosen after ``now``: the clock was set back since
        then.
        """
        return await self._driver.serving.read(schedules.ahead, now, limit)

    async def next_schedule(self) -> float | None:
        """Return the earliest next time of all schedules."""
        return await self._driver.serving.read(schedules.next_at)

    async def settle_schedules(self, firings: Sequence[Firing]) -> None:
        """Store new next times without builds. A schedule that another node has changed stays
        unchanged.
        """
        await self._driver.serving.write(schedules.settle, firings)

    async def drop_schedule(self, gone: DueSchedule) -> None:
        """Delete a schedule, unless it has another next time now."""
        await self._driver.serving.write(schedules.drop, gone)

    async def schedules_of(self, project: ProjectId) -> list[ListedSchedule]:
        return await self._driver.reading.snapshot(schedules.of_project, project)

    async def schedules(
        self, after: Place, limit: int, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> list[ListedSchedule]:
        """Return a page of the schedules of an organization's projects, after this one."""
        return await self._driver.reading.snapshot(schedules.listed, after, limit, organization)

    # --- Servers ---------------------------------------------------------------------------

    async def server_states(
        self, project: ProjectId, names: Sequence[str]
    ) -> dict[str, ServerState]:
        """Return what is live and what waits on these servers of a project, by name."""
        return await self._driver.reading.snapshot(servers.servers, project, names)

    async def deploys_due(self, limit: int) -> list[DeployDue]:
        """Return the oldest passed builds for servers that follow their branch, if not processed
        yet.
        """
        return await self._driver.serving.read(servers.deploys_due, limit)

    async def drop_due(self, due: DeployDue) -> None:
        """Mark a build as processed: it was deployed, or will not be."""
        await self._driver.serving.write(servers.drop_due, due)

    async def newer_there(self, project: ProjectId, server: str, build: WorkloadId) -> bool:
        """Whether a newer build of the branch than this one is live on the server, or will be. A
        rebuild is as old as what it repeats.
        """
        return await self._driver.serving.read(servers.newer_there, project, server, build)

    # --- The engine ------------------------------------------------------------------------

    async def raise_epoch(self, shard: int, node: str) -> int:
        """Begin a new leadership and return its epoch; the fence refuses every earlier one."""
        return await self._driver.deciding.write(leading.raise_epoch, shard, node)

    async def load(self, shard: int, into: ShardLoading) -> None:
        """Load the shard in one snapshot: its state, then its unfinished workloads in pages.

        ``into`` is called in a thread. Submissions that are still in the inbox are left out.
        """
        await self._driver.deciding.load(loading.load_shard, shard, into)

    async def mirror(self, shard: int, into: ShardLoading) -> None:
        """Like ``load``, on the connections for reads, for a node that only explains the shard."""
        await self._driver.reading.load(loading.load_shard, shard, into)

    async def shards_with_commands(self, shards: Sequence[int]) -> list[int]:
        """Return those of these shards whose inboxes have commands."""
        return await self._driver.deciding.read(leading.shards_with_commands, shards)

    async def inbox(self, shard: int, limit: int) -> list[InboxEntry]:
        """Return the oldest commands, in the order of their ids; they stay until a batch deletes
        them.
        """
        return await self._driver.deciding.read(leading.inbox, shard, limit)

    async def commit(
        self, batch: Batch, ahead: int = 0, level_of: WorkerId | None = None
    ) -> Committed:
        """Commit a batch in one fenced transaction. Raises Fenced, OutcomeUnknown or StoreAway.

        If it costs no round trip, it also reads the oldest remaining commands of the inbox, at most
        ``ahead``, and what the worker ``level_of`` should be running afterwards.
        """
        if not self._driver.is_near:
            ahead, level_of = 0, None
        return await self._driver.deciding.write(leading.commit, batch, ahead, level_of)

    async def batch_number(self, shard: int) -> tuple[int, int]:
        """Return the stored (epoch, batch), which shows whether a commit with unknown outcome
        succeeded. Durable when it returns, like a commit.
        """
        # A write, like ``idempotency``, because the engine acts on the stored batch.
        return await self._driver.deciding.write(leading.batch_number, shard)

    # --- Workers ---------------------------------------------------------------------------

    async def connect_worker(self, new: NewWorker) -> Connected:
        """Record the connection of the worker with this identity, with a row for each of its Boxes.

        Boxes have the ordinals 1, 2, ... The engine retires those that no longer exist; new ones
        are inserted as retired, and the engine's batch makes them usable. This ends an earlier
        connection of the worker; its former ``lost_after`` may apply until its first beat. Raises
        Conflict if another worker has the name.
        """
        return await self._driver.serving.write(workers.connect_worker, new)

    async def check_worker(self, new: NewWorker) -> None:
        """Raise what ``connect_worker`` would raise; nothing changes."""
        with contextlib.suppress(workers.WouldConnect):
            await self._driver.serving.write(workers.check_worker, new)

    async def disconnect_workers(self, connections: Sequence[WorkerConnection]) -> None:
        """Mark the workers as disconnected, except those that have connected again since."""
        await self._driver.serving.write(workers.disconnect_workers, connections)

    async def beat(
        self,
        connections: Sequence[WorkerConnection],
        lost_after: float | None = None,
        problems: Mapping[WorkerId, str] = workers.NO_PROBLEMS,
    ) -> dict[WorkerId, bool]:
        """Record heartbeats, in one statement; return the ids whose connection number is current,
        and of each whether it is drained and has no jobs.

        ``lost_after``: the value that the workers got on these connections (None: not known).
        ``problems``: by worker, why it cannot begin jobs.
        """
        return await self._driver.serving.write(workers.beat, connections, lost_after, problems)

    async def forget_worker(self, connection: WorkerConnection) -> bool:
        """Delete the worker's row, with those of its Boxes. Return False if it has connected again
        since, or still has Boxes.
        """
        return await self._driver.serving.write(workers.forget_worker, connection)

    async def note_ghosts(self, haunted: Sequence[Haunted]) -> dict[WorkerId, tuple[Lease, ...]]:
        """Store which ghosts these workers have; return those that each must end now."""
        return await self._driver.serving.write(ghosts.note_ghosts, haunted)

    async def ghosts(self, organization: OrganizationId = DEFAULT_ORGANIZATION) -> list[Ghost]:
        """Return the ghosts of an organization's workers, with their jobs as they are now."""
        return await self._driver.reading.snapshot(ghosts.ghosts, organization)

    async def kill_ghost(self, id: int, by: str) -> bool:
        """Decide to end a ghost. Return False if it is gone, or if somebody has decided that."""
        return await self._driver.serving.write(ghosts.kill_ghost, id, by)

    async def pulses(self, shard: int) -> list[Pulse]:
        """Return every worker's beat: a number that increases while it sends heartbeats."""
        return await self._driver.deciding.read(workers.pulses, shard)

    async def places(self, ids: Collection[WorkerId]) -> dict[WorkerId, str]:
        """Return the nodes to which these workers are connected."""
        return await self._driver.serving.read(workers.places, ids)

    async def assignments(self, ids: Sequence[WorkerId]) -> dict[WorkerId, list[Assignment]]:
        """Return what each worker should be running now, and which of it should be ended, by one
        query.
        """
        return await self._driver.serving.read(workers.assignments, ids)

    # --- Reads -----------------------------------------------------------------------------

    async def workload(self, workload: WorkloadId) -> Workload | None:
        """Return a workload with its jobs."""
        return await self._driver.reading.snapshot(reads.workload, workload)

    async def subject(self, workload: WorkloadId) -> Workload | None:
        """Like ``workload``, for a command about it (stop, deploy, rebuild): does not wait for
        reads.
        """
        return await self._driver.serving.snapshot(reads.workload, workload)

    async def workloads(self, filter: WorkloadFilter) -> WorkloadPage:
        """Return a page of workloads. The number of rows read has a limit, whatever the filter."""
        return await self._driver.reading.snapshot(pages.workloads, filter)

    async def unfinished(
        self, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> list[Workload]:
        """Return an organization's unfinished workloads, without jobs, by id."""
        return await self._driver.reading.load(reads.unfinished, organization)

    async def activity(
        self, finished: int, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> ActivitySnapshot:
        """Return an organization's unfinished workloads and its last ``finished`` ended ones, in
        one snapshot.
        """
        return await self._driver.reading.load(reads.activity, finished, organization)

    async def overtaken(
        self,
        workload: WorkloadId,
        since: float,
        organization: OrganizationId = DEFAULT_ORGANIZATION,
    ) -> int | None:
        """Return how many later registered workloads have been admitted since; None, because it is
        not counted, if more than OVERTAKING_SEEN workloads have finished since.
        """
        return await self._driver.reading.snapshot(reads.overtaken, workload, since, organization)

    async def concerns(self, workload: WorkloadId) -> Concern | None:
        """Return whose a workload is, by a cheap query."""
        return await self._driver.serving.read(reads.concerns, workload)

    async def job_state(self, job: JobId) -> tuple[JobState, int] | None:
        """Return a job's state and attempt, by a cheap query for repeated calls."""
        return await self._driver.reading.read(reads.job_state, job)

    async def find_number(
        self, project: str, number: int, organization: OrganizationId = DEFAULT_ORGANIZATION
    ) -> WorkloadId | None:
        "Return the workload with this number in the project of this name, also in a deleted one."
        return await self._driver.reading.read(reads.find_number, project, number, organization)

    async def boxes(self, organization: OrganizationId = DEFAULT_ORGANIZATION) -> list[Box]:
        return await self._driver.reading.read(workers.boxes, organization)

    async def workers(self, organization: OrganizationId = DEFAULT_ORGANIZATION) -> list[Worker]:
        return await self._driver.reading.read(workers.workers, organization)

    async def log(self, job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        """Return up to ``limit`` bytes of an attempt's log from ``offset``; empty if there are
        none.
        """
        return await self._driver.reading.read(logs.log, job, attempt, offset, limit)

    async def log_chunks(
        self, job: JobId, attempt: int, offset: int, limit: int
    ) -> list[logs.TimedOutput]:
        """Like ``log``, in pieces, each with the time at which it was stored."""
        return await self._driver.reading.read(logs.log_chunks, job, attempt, offset, limit)

    async def finished_logs(
        self, after: JobId, before: float, limit: int
    ) -> tuple[list[tuple[JobId, int]], JobId | None]:
        """Return the next logs (job, attempt) in the database whose workloads finished before this
        time, and where to continue (None at the end).
        """
        return await self._driver.reading.snapshot(log_files.finished_logs, after, before, limit)

    async def move_log(self, job: JobId, attempt: int, file: str, size: int) -> bool:
        """Note that a log of this size is in a file, and delete it here. Return whether it was."""
        return await self._driver.serving.write(log_files.move_log, job, attempt, file, size)

    async def log_file(self, job: JobId, attempt: int) -> tuple[str, int] | None:
        """Return the file of a log, and the log's size; None if it is in none."""
        return await self._driver.reading.read(log_files.log_file, job, attempt)

    async def prune_log_files(
        self, after: int, before: float, limit: int
    ) -> tuple[int, int | None]:
        """Delete the rows of old logs in files; return how many, and where to continue."""
        return await self._driver.serving.write(log_files.prune_log_files, after, before, limit)

    async def log_end(self, job: JobId, attempt: int) -> int:
        """Return the length of an attempt's log in bytes; 0 if there is none."""
        return await self._driver.reading.read(logs.log_end, job, attempt)

    async def events_after(self, shard: int, batch: int, n: int, limit: int) -> list[StoredEvent]:
        """Return the events after shard.batch.n, in order."""
        return await self._driver.reading.read(reads.events_after, shard, batch, n, limit)

    async def events_there(
        self, places: Sequence[tuple[int, int, int]]
    ) -> set[tuple[int, int, int]]:
        """Return those of the places (shard, batch, n) that have an event."""
        return await self._driver.reading.read(reads.events_there, places)

    async def last_event(self, shard: int) -> tuple[int, int]:
        """Return (batch, n) of the newest event; (0, 0) if there is none."""
        return await self._driver.reading.read(reads.last_event, shard)

    async def last_events(self) -> dict[int, tuple[int, int]]:
        """Return the last event of every shard, in one query."""
        return await self._driver.reading.read(reads.last_events)

    async def set_aside(
        self, limit: int, workload: WorkloadId | None = None, shard: int = SHARD
    ) -> list[SetAsideCommand]:
        """Return commands that were set aside, latest first: of one workload, or else of a
        shard.
        """
        return await self._driver.reading.read(reads.set_aside, limit, workload, shard)

    async def set_aside_one(self, id: int, shard: int = SHARD) -> SetAsideCommand | None:
        return await self._driver.reading.read(reads.set_aside_one, id, shard)

    async def drop_old_set_aside(self, then: float, kept: int, limit: int) -> int:
        """Delete commands that were set aside before this time, and the oldest beyond ``kept``; at
        most about ``limit``. Return how many were deleted.
        """
        return await self._driver.serving.write(reads.drop_old_set_aside, then, kept, limit)

    async def drop_set_aside(self, id: int, shard: int = SHARD) -> bool:
        """Delete a command that was set aside; return False if no command has this id."""
        return await self._driver.serving.write(reads.drop_set_aside, id, shard)

    # --- Sign-in ---------------------------------------------------------------------------

    async def put_session(self, digest: str, principal: str, expires_at: float) -> None:
        await self._driver.serving.write(sessions.put_session, digest, principal, expires_at)

    async def session(self, digest: str, now: float) -> str | None:
        """Return the principal of a valid session of the page."""
        return await self._driver.serving.read(sessions.session, digest, now)

    async def drop_expired_sessions(self, then: float, limit: int) -> int:
        """Delete sessions that had expired at this time, at most ``limit``; return how many."""
        return await self._driver.serving.write(sessions.drop_expired_sessions, then, limit)

    async def drop_session(self, digest: str) -> None:
        await self._driver.serving.write(sessions.drop_session, digest)
