"""The engine's memory besides the core: names, numbers, states and leases; an index of the
store."""

import itertools
import logging
from collections.abc import Collection, Sequence

import attrs

from boxsched.model import (
    BoxId,
    JobId,
    Kind,
    ProjectId,
    WorkerId,
    WorkloadId,
    job_index,
    job_workload,
)
from boxsched.protocol.fingerprint import Parts
from boxsched.protocol.followed import Followed
from boxsched.protocol.inbox import SubmitJob
from boxsched.protocol.reasons import waits_again
from boxsched.protocol.retries import Retries
from boxsched.protocol.shards import Organization, Pause
from boxsched.protocol.workers import Drain, Pulse
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.states import JobState, Result, State, StopCause

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class LiveJob:
    """A job that has or had a Box. Times are in seconds since 1970."""

    id: JobId
    state: JobState
    box: BoxId | None
    attempt: int
    lease_token: int | None
    result: Result | None = None
    started_at: float | None = None
    finished_at: float | None = None
    exit_status: int | None = None
    reason: str | None = None
    given_at: float | None = None  # when its present attempt was assigned; None: its first attempt
    restored_from: int | None = None  # the lease token that its attempt had before it was restored
    retried: Retries | None = None  # the retries in place that it has used


@attrs.define(eq=False)
class LiveWorkload:
    """An unfinished workload. ``jobs`` are as submitted; ``running`` is None until admission."""

    id: WorkloadId
    project: ProjectId
    number: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    jobs: tuple[SubmitJob, ...]
    state: State = State.REGISTERED
    result: Result | None = None
    stop_cause: StopCause | None = None
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    running: list[LiveJob] | None = None
    commit: str | None = None  # the commit that its jobs run
    reason: str | None = None  # why it failed or is being stopped (``causes``)
    promise: float | None = None  # the first time that was reserved for it as the head
    priority: int | None = None  # a priority set after its submission
    priority_by: str | None = None  # who set it
    priority_note: str | None = None  # why
    spared: bool = False  # True: no strategy cancels or stops it any more


def is_flaky(live: LiveWorkload) -> bool:
    """Whether it passed, and a job of it only when it was tried again."""
    return live.result is Result.PASSED and any(
        job.result is Result.PASSED and job.retried is not None for job in live.running or ()
    )


@attrs.define(eq=False)
class BoxBook:
    id: BoxId
    worker: WorkerId
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float


class Books:
    """One shard's memory: the core, and everything that the core does not need."""

    def __init__(self, organization: Organization, required: Parts | None = None) -> None:
        """``required``: the values of parts that fingerprints of workers must have."""
        self.organization = organization
        self.required: Parts = required or {}
        self.core = Scheduler(
            QueueRules(organization.policy, organization.max_boxes, organization.priority_aging)
        )
        self.projects: dict[ProjectId, str] = {}
        self.notifying: set[ProjectId] = set()  # projects with commit statuses or hooks
        self.workloads: dict[WorkloadId, LiveWorkload] = {}
        self.boxes: dict[BoxId, BoxBook] = {}
        self._boxes_of: dict[WorkerId, dict[BoxId, BoxBook]] = {}
        # Lost jobs that wait for another Box, and whether their attempts have ended.
        self.lost: dict[JobId, bool] = {}
        self.durations: dict[tuple[ProjectId, str], tuple[float, ...]] = {}
        self.graces: dict[WorkerId, float] = {}  # seconds between SIGTERM and SIGKILL of a job
        self.places: dict[WorkerId, str] = {}  # the node that each worker is connected to
        self.names: dict[WorkerId, str] = {}
        # seconds that each worker's builds may go on without a node; without those not known
        self.lost_after: dict[WorkerId, float] = {}
        self.problems: dict[WorkerId, str] = {}  # why a worker can begin no jobs
        self.drains: dict[WorkerId, Drain] = {}
        # How workers differ from what the leader requires, and what the store has of that.
        self.incompatible: dict[WorkerId, tuple[str, ...]] = {}
        self.shown_incompatible: dict[WorkerId, tuple[str, ...]] = {}
        self.absent: set[WorkerId] = set()  # workers with Boxes that are not connected
        self.connections: dict[WorkerId, int] = {}  # the number of each worker's latest connection
        self.pauses: dict[str, Pause] = {}
        # by project: the branches that its servers follow
        self.followed: dict[ProjectId, Followed] = {}
        self.latest = 0.0  # no time of this shard is later
        # Equal jobs share one tuple, because a million waiting workloads have few different ones.
        self._job_tuples: dict[tuple[SubmitJob, ...], tuple[SubmitJob, ...]] = {}
        self._asks: dict[tuple[SubmitJob, ...], tuple[JobAsk, ...]] = {}
        self._shared_jobs = 0

    def add_box(self, book: BoxBook) -> None:
        self.boxes[book.id] = book
        self._boxes_of.setdefault(book.worker, {})[book.id] = book

    def remove_box(self, book: BoxBook) -> None:
        del self.boxes[book.id]
        mine = self._boxes_of[book.worker]
        del mine[book.id]
        if not mine:
            del self._boxes_of[book.worker]

    def boxes_of(self, worker: WorkerId) -> Sequence[BoxBook]:
        """Return a worker's Boxes, including retired ones."""
        return tuple(self._boxes_of.get(worker, {}).values())

    def box_ids(self, worker: WorkerId) -> tuple[BoxId, ...]:
        return tuple(self._boxes_of.get(worker, {}))

    @property
    def workers(self) -> Collection[WorkerId]:
        """Return the workers that have Boxes."""
        return self._boxes_of.keys()

    def gets_jobs(self, worker: WorkerId) -> bool:
        """Whether the worker's Boxes are given jobs."""
        return not any(
            worker in withheld
            for withheld in (self.absent, self.problems, self.drains, self.incompatible)
        )

    def know(self, pulses: Sequence[Pulse]) -> None:
        """Update the workers' names and the nodes that they are connected to, from their rows."""
        there = [p for p in pulses if p.connection >= self.connections.get(p.worker, 0)]
        self.places = {pulse.worker: pulse.node for pulse in there}
        self.names = {pulse.worker: pulse.name for pulse in there}
        self.lost_after = {p.worker: p.lost_after for p in there if p.lost_after is not None}
        self._forget_numbers({pulse.worker for pulse in pulses})

    def forget_worker(self, worker: WorkerId, connection: int) -> None:
        """Forget a worker; a late command of this connection is ignored from now on."""
        for known in (self.places, self.names, self.lost_after, self.connections, self.drains):
            known.pop(worker, None)
        self.incompatible.pop(worker, None)
        self.absent.discard(worker)
        self.connections[worker] = connection + 1

    def _forget_numbers(self, there: Collection[WorkerId]) -> None:
        """Keep the connection numbers of only the last FORGOTTEN_KEPT workers without a row.

        A command of a forgotten worker can only be late by seconds.
        """
        if len(self.connections) <= len(there) + FORGOTTEN_KEPT:
            return
        gone = [w for w in self.connections if w not in there and w not in self._boxes_of]
        for worker in gone[:-FORGOTTEN_KEPT]:
            del self.connections[worker]

    def job(self, id_: JobId) -> tuple[LiveWorkload, LiveJob] | None:
        """Return a job of an admitted, unfinished workload."""
        workload = self.workloads.get(job_workload(id_))
        if workload is None or workload.running is None:
            return None
        index = job_index(id_)
        return (workload, workload.running[index]) if index < len(workload.running) else None

    def follow(self, project: ProjectId, followed: Followed) -> None:
        """Set which branches the project's servers follow."""
        if followed:
            self.followed[project] = followed
        else:
            self.followed.pop(project, None)

    def forget_project(self, project: ProjectId) -> None:
        """Forget a deleted project; none of its workloads is unfinished."""
        self.followed.pop(project, None)
        self.projects.pop(project, None)
        self.notifying.discard(project)
        self.durations = {key: ran for key, ran in self.durations.items() if key[0] != project}

    def remember(
        self, project: ProjectId, job_name: str, recent: tuple[float, ...]
    ) -> Sequence[tuple[ProjectId, str]]:
        """Store the durations of a job name's last passed runs, in seconds.

        Returns the job names that were dropped for it: those that have not run for longest.
        """
        self.durations.pop((project, job_name), None)
        self.durations[project, job_name] = recent
        surplus = max(0, len(self.durations) - DURATIONS_AT_MOST)
        forgotten = list(itertools.islice(self.durations, surplus))
        for key in forgotten:
            del self.durations[key]
        return forgotten

    def runs(self, id_: JobId) -> bool:
        """Whether the job is admitted and unfinished."""
        found = self.job(id_)
        return found is not None and found[1].state is not JobState.FINISHED

    def out_of_sight(self, job: LiveJob) -> bool:
        """Whether the job's state is not known: it has not ended, and its worker is away."""
        if job.state is JobState.FINISHED:
            return False
        box = None if job.box is None else self.core.boxes.get(job.box)
        if job.state is JobState.UNKNOWN or box is None:
            return True
        return self.boxes[box.id].worker in self.absent

    def waits_for_box(self, live: LiveWorkload, job: LiveJob) -> bool:
        """Whether the job waits for another Box, since its attempt is lost, ended or never began.

        Books that were loaded know of a lost worker only that its Boxes are retired.
        """
        if job.state is not JobState.UNKNOWN:
            return False
        if job.id in self.lost or waits_again(job.reason):
            return True
        if live.kind is not Kind.BUILD or live.state is not State.RUNNING:
            return False
        box = None if job.box is None else self.core.boxes.get(job.box)
        return box is not None and box.retired

    def shared(
        self, jobs: tuple[SubmitJob, ...]
    ) -> tuple[tuple[SubmitJob, ...], tuple[JobAsk, ...]]:
        """Return the shared tuple for equal jobs, and their specifications for the core."""
        known = self._job_tuples.get(jobs)
        if known is None:
            self._shared_jobs += len(jobs)
            if self._shared_jobs > SHARED_JOBS_AT_MOST:
                self._job_tuples.clear()
                self._asks.clear()
                self._shared_jobs = len(jobs)
            known = self._job_tuples[jobs] = jobs
            self._asks[jobs] = tuple(_ask(j) for j in jobs)
        return known, self._asks[known]


def _ask(job: SubmitJob) -> JobAsk:
    """The expected duration is never more than the limit (docs/scheduling.md, "Expected
    durations"). In rows of earlier versions it may be.
    """
    limit = job.timeout_seconds
    return JobAsk(job.box_type, min(job.expected_seconds, limit), limit)


SHARED_JOBS_AT_MOST = 50_000  # jobs in shared tuples: about 20 MB

# How many forgotten workers' connection numbers are kept.
FORGOTTEN_KEPT = 1_000

# How many job names' durations are kept, of all projects: names may differ in every build.
DURATIONS_AT_MOST = 50_000
