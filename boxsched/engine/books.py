"""What the engine knows beside the core: names, numbers, states, leases. An index of the store."""

from collections.abc import Hashable, Iterable

import attrs

from boxsched.inbox import SubmitJob
from boxsched.model import (
    BoxId,
    Cancellation,
    JobId,
    Kind,
    ProjectId,
    WorkerId,
    WorkloadId,
    job_id,
    job_index,
    job_workload,
)
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.values import BoxAdded, BoxRetired, ProjectLimited, Submit
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.values import Box, LoadedJob, LoadedWorkload, Organization, ShardState


@attrs.define(eq=False)
class LiveJob:
    """A job that has, or had, a Box."""

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


@attrs.define(eq=False)
class LiveWorkload:
    """An unfinished workload. ``jobs`` are what was asked; ``running`` comes with admission."""

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
    commit: str | None = None  # what its jobs found checked out


@attrs.define(eq=False)
class BoxBook:
    id: BoxId
    worker: WorkerId
    job: JobId | None
    last_project: ProjectId | None
    last_branch: str | None
    freed_at: float


class Books:
    """One shard's memory: the core, and the books that go with it."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.core = Scheduler(
            QueueRules(organization.policy, organization.max_boxes, organization.priority_aging)
        )
        self.projects: dict[ProjectId, str] = {}
        self.workloads: dict[WorkloadId, LiveWorkload] = {}
        self.boxes: dict[BoxId, BoxBook] = {}
        self.durations: dict[tuple[ProjectId, str], tuple[float, ...]] = {}
        self.latest = 0.0  # no time of this shard is later
        # Equal asks share one tuple each: a million waiting workloads have few different ones.
        self._job_tuples: dict[tuple[SubmitJob, ...], tuple[SubmitJob, ...]] = {}
        self._asks: dict[tuple[SubmitJob, ...], tuple[JobAsk, ...]] = {}

    def job(self, id_: JobId) -> tuple[LiveWorkload, LiveJob] | None:
        """A job of an admitted, unfinished workload."""
        workload = self.workloads.get(job_workload(id_))
        if workload is None or workload.running is None:
            return None
        index = job_index(id_)
        return (workload, workload.running[index]) if index < len(workload.running) else None

    def runs(self, id_: JobId) -> bool:
        """Whether that job has a Box still."""
        found = self.job(id_)
        return found is not None and found[1].state is not JobState.FINISHED

    def shared(
        self, jobs: tuple[SubmitJob, ...]
    ) -> tuple[tuple[SubmitJob, ...], tuple[JobAsk, ...]]:
        """The one tuple for such jobs, and what the core sees of them."""
        known = self._job_tuples.get(jobs)
        if known is None:
            if len(self._job_tuples) > _SHARED_AT_MOST:
                self._job_tuples.clear()
                self._asks.clear()
            known = self._job_tuples[jobs] = jobs
            self._asks[jobs] = tuple(JobAsk(j.box_type, j.expected_seconds) for j in jobs)
        return known, self._asks[known]


_SHARED_AT_MOST = 10_000


def lane_of(
    kind: Kind, project: ProjectId, branch: str | None, tag: str | None, server: str | None
) -> Hashable | None:
    """Contract, section 1, "Lanes"."""
    if kind is Kind.BUILD:
        return (project, "branch", branch) if branch is not None else (project, "tag", tag)
    return (project, "server", server) if kind is Kind.DEPLOY else None


def loaded(state: ShardState) -> Books:
    """The books of a shard as its store has it."""
    books = Books(state.organization)
    core = books.core
    for project in state.projects:
        books.projects[project.id] = project.name
        core.apply(ProjectLimited(project.id, project.max_boxes), 0.0)
    for box in sorted(state.boxes, key=lambda b: (b.freed_at, b.id)):
        _add_box(books, box)
    for workload in sorted(state.workloads, key=lambda w: w.id):
        _restore(books, workload)
    for box in state.boxes:
        if box.retired:
            core.apply(BoxRetired(box.id), 0.0)
    books.durations.update(state.durations)
    books.latest = max(_times(state), default=0.0)
    return books


def _add_box(books: Books, box: Box) -> None:
    if box.retired and box.job is None:
        return  # registered, and not in being yet
    books.boxes[box.id] = BoxBook(
        box.id, box.worker, box.job, box.last_project, box.last_branch, box.freed_at
    )
    books.core.apply(BoxAdded(box.id, box.box_type, box.last_project, box.last_branch), 0.0)


def _restore(books: Books, loaded: LoadedWorkload) -> None:
    specs = tuple(
        SubmitJob(j.name, j.box_type, j.timeout_seconds, j.expected_seconds) for j in loaded.jobs
    )
    specs, asks = books.shared(specs)
    live = LiveWorkload(
        loaded.id, loaded.project, loaded.number, loaded.kind,
        loaded.branch, loaded.tag, loaded.server, specs, loaded.state, None,
        loaded.stop_cause, loaded.queued_at, loaded.started_at,
    )  # fmt: skip
    books.workloads[live.id] = live
    submit = Submit(
        live.id, live.kind, live.project, live.branch,
        lane_of(live.kind, live.project, live.branch, live.tag, live.server),
        loaded.priority, loaded.created_at, asks, Cancellation.NONE, loaded.fail_fast,
    )  # fmt: skip
    if loaded.started_at is None:
        books.core.restore(submit, live.state)
        return
    live.running = [_live_job(live.id, index, job) for index, job in enumerate(loaded.jobs)]
    held = [job.box if job.state is not JobState.FINISHED else None for job in live.running]
    failed = any(job.result not in (None, Result.PASSED) for job in live.running)
    books.core.restore(submit, live.state, loaded.started_at, held, failed, loaded.stop_cause)


def _live_job(workload: WorkloadId, index: int, job: LoadedJob) -> LiveJob:
    return LiveJob(
        job_id(workload, index), job.state, job.box, job.attempt, job.lease_token,
        job.result, job.started_at, None, None, job.reason,
    )  # fmt: skip


def _times(state: ShardState) -> Iterable[float]:
    for workload in state.workloads:
        yield workload.created_at
        for time in (workload.queued_at, workload.started_at):
            if time is not None:
                yield time
    for box in state.boxes:
        yield box.freed_at
