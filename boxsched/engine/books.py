"""What the engine knows beside the core: names, numbers, states, leases. An index of the store."""

import itertools
import logging
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

import attrs

from boxsched.inbox import SubmitJob
from boxsched.model import (
    BoxId,
    Cancellation,
    JobId,
    Kind,
    Policy,
    ProjectId,
    WorkerId,
    WorkloadId,
    job_id,
    job_index,
    job_workload,
)
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.values import (
    BoxAdded,
    BoxesAway,
    BoxRetired,
    JobsLost,
    ProjectLimited,
    Submit,
)
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.batches import LoadedJob, LoadedWorkload, ShardState
from boxsched.store.values import Box, Organization

log = logging.getLogger(__name__)


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
    reason: str | None = None  # why it failed, or is stopped (``causes``)
    promise: float | None = None  # the first time that was reserved for it as the head


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
        self._boxes_of: dict[WorkerId, dict[BoxId, BoxBook]] = {}
        # Jobs to be given again, and whether they have ended where they were.
        self.lost: dict[JobId, bool] = {}
        self.durations: dict[tuple[ProjectId, str], tuple[float, ...]] = {}
        self.places: dict[WorkerId, str] = {}  # the node that each worker is connected to
        self.names: dict[WorkerId, str] = {}
        self.problems: dict[WorkerId, str] = {}  # why those that can begin no jobs cannot
        self.connections: dict[WorkerId, int] = {}  # the newest of each worker
        self.latest = 0.0  # no time of this shard is later
        # Equal asks share one tuple each: a million waiting workloads have few different ones.
        self._job_tuples: dict[tuple[SubmitJob, ...], tuple[SubmitJob, ...]] = {}
        self._asks: dict[tuple[SubmitJob, ...], tuple[JobAsk, ...]] = {}

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
        """A worker's Boxes, those that go included."""
        return tuple(self._boxes_of.get(worker, {}).values())

    @property
    def workers(self) -> Collection[WorkerId]:
        """Those that have Boxes."""
        return self._boxes_of.keys()

    def job(self, id_: JobId) -> tuple[LiveWorkload, LiveJob] | None:
        """A job of an admitted, unfinished workload."""
        workload = self.workloads.get(job_workload(id_))
        if workload is None or workload.running is None:
            return None
        index = job_index(id_)
        return (workload, workload.running[index]) if index < len(workload.running) else None

    def forget_project(self, project: ProjectId) -> None:
        """It was deleted, and nothing of it is unfinished."""
        self.projects.pop(project, None)
        self.durations = {key: ran for key, ran in self.durations.items() if key[0] != project}

    def remember(
        self, project: ProjectId, job_name: str, recent: tuple[float, ...]
    ) -> Sequence[tuple[ProjectId, str]]:
        """Keep what these runs took; returns the names that are forgotten for it: those that did
        not run for longest."""
        self.durations.pop((project, job_name), None)
        self.durations[project, job_name] = recent
        surplus = max(0, len(self.durations) - DURATIONS_AT_MOST)
        forgotten = list(itertools.islice(self.durations, surplus))
        for key in forgotten:
            del self.durations[key]
        return forgotten

    def runs(self, id_: JobId) -> bool:
        """Whether that job has a Box still."""
        found = self.job(id_)
        return found is not None and found[1].state is not JobState.FINISHED

    def out_of_sight(self, job: LiveJob) -> bool:
        """Whether nobody knows how it stands: its worker is away, and it has not ended."""
        if job.state is JobState.FINISHED:
            return False
        box = None if job.box is None else self.core.boxes.get(job.box)
        return job.state is JobState.UNKNOWN or box is None or box.away

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
            self._asks[jobs] = tuple(_ask(j) for j in jobs)
        return known, self._asks[known]


def _ask(job: SubmitJob) -> JobAsk:
    """Expected durations never exceed the time limit (contract, section 1); older rows may."""
    limit = job.timeout_seconds
    return JobAsk(job.box_type, min(job.expected_seconds, limit), limit)


_SHARED_AT_MOST = 10_000

# Job names whose durations are kept, of all projects: a name may be made up for each build.
DURATIONS_AT_MOST = 50_000

# The reasons of jobs that wait for another Box: their attempts have ended, or never began.
_WAITS_AGAIN = "; waits for another try"
ENDED_LOST = f"lost: no node was heard for too long{_WAITS_AGAIN}"

# The reason of an unknown job that a person has resolved as to be run again: it waits for a Box.
AGAIN = "resolved: to be run again; waits for a Box"

# The worker of a Box that is not there.
NOBODY = WorkerId(0)

# For a shard that has no organization yet: nothing ever happens in it.
NO_ORGANIZATION = Organization(0, "", Policy.BACKFILL, None, None)


def not_begun(worker: str, problem: str) -> str:
    """The reason of a job that a worker could not begin."""
    return f"worker {worker} could not begin it: {problem}{_WAITS_AGAIN}"


def is_not_begun(reason: str | None) -> bool:
    return waits_again(reason) and reason not in (ENDED_LOST, AGAIN)


def without_wait(reason: str | None) -> str:
    """Such a reason, without the words that it waits."""
    return (reason or "").removesuffix(_WAITS_AGAIN)


def waits_again(reason: str | None) -> bool:
    """Whether it is the reason of a job that waits for another Box."""
    return reason is not None and (reason == AGAIN or reason.endswith(_WAITS_AGAIN))


def lane_of(
    kind: Kind, project: ProjectId, branch: str | None, tag: str | None, server: str | None
) -> Hashable | None:
    """Contract, section 1, "Lanes"."""
    if kind is Kind.BUILD:
        return (project, "branch", branch) if branch is not None else (project, "tag", tag)
    return (project, "server", server) if kind is Kind.DEPLOY else None


_ASKED = len(SubmitJob.__struct_fields__)  # of a LoadedJob, the first fields
_Asked = tuple[tuple[Any, ...], ...]


class Loading:
    """Fills books from a store, page by page (``contract.ShardLoading``)."""

    def __init__(self) -> None:
        self.state: ShardState | None = None
        self.books = Books(NO_ORGANIZATION)
        # What jobs ask for: a hundred thousand workloads ask for a few different things.
        self._known: dict[_Asked, tuple[tuple[SubmitJob, ...], tuple[JobAsk, ...]]] = {}

    def begin(self, state: ShardState) -> None:
        self.state = state
        books = self.books = Books(state.organization or NO_ORGANIZATION)
        for project in state.projects:
            books.projects[project.id] = project.name
            books.core.apply(ProjectLimited(project.id, project.max_boxes), 0.0)
        for box in sorted(state.boxes, key=lambda b: (b.freed_at, b.id)):
            _add_box(books, box)
        books.durations.update(state.durations)
        books.places.update((p.worker, p.node) for p in state.pulses)
        books.names.update((p.worker, p.name) for p in state.pulses)
        books.problems.update((p.worker, p.problem) for p in state.pulses if p.problem)
        books.connections.update((p.worker, p.connection) for p in state.pulses)
        books.latest = max((box.freed_at for box in state.boxes), default=0.0)

    def add(self, workloads: Sequence[LoadedWorkload]) -> None:
        books = self.books
        for workload in workloads:
            asked: _Asked = tuple([job[:_ASKED] for job in workload.jobs])
            known = self._known.get(asked)
            if known is None:
                known = books.shared(tuple(SubmitJob(*each) for each in asked))
                self._known[asked] = known
            _restore(books, workload, *known)
            for time in (workload.created_at, workload.queued_at, workload.started_at):
                if time is not None and time > books.latest:
                    books.latest = time

    def finish(self, alive: Callable[[str], bool] = lambda node: True) -> Books:
        """The books, whole. ``alive``: whether a node's workers are there if they seem to be."""
        assert self.state is not None
        books = self.books
        for box in self.state.boxes:
            if box.retired:
                books.core.apply(BoxRetired(box.id), 0.0)
        gone = {p.worker for p in self.state.pulses if not (p.connected and alive(p.node))}
        gone.update(books.problems)
        away = tuple(book.id for worker in gone for book in books.boxes_of(worker))
        books.core.apply(BoxesAway(away), 0.0)
        return books


def _add_box(books: Books, box: Box) -> None:
    if box.retired and box.job is None:
        return  # registered, and not in being yet
    books.add_box(
        BoxBook(box.id, box.worker, box.job, box.last_project, box.last_branch, box.freed_at)
    )
    books.core.apply(BoxAdded(box.id, box.box_type, box.last_project, box.last_branch), 0.0)


def _restore(
    books: Books,
    loaded: LoadedWorkload,
    specs: tuple[SubmitJob, ...],
    asks: tuple[JobAsk, ...],
) -> None:
    live = LiveWorkload(
        loaded.id, loaded.project, loaded.number, loaded.kind,
        loaded.branch, loaded.tag, loaded.server, specs, loaded.state, None,
        loaded.stop_cause, loaded.queued_at, loaded.started_at, reason=loaded.reason,
        promise=loaded.promise,
    )  # fmt: skip
    books.workloads[live.id] = live
    submit = Submit(
        live.id, live.kind, live.project, live.branch,
        lane_of(live.kind, live.project, live.branch, live.tag, live.server),
        loaded.priority, loaded.created_at, asks, Cancellation.NONE, loaded.fail_fast,
    )  # fmt: skip
    if loaded.started_at is None:
        books.core.restore(submit, live.state, promise=live.promise)
        return
    live.running = [_live_job(live.id, index, job) for index, job in enumerate(loaded.jobs)]
    held = [job.box if job.state is not JobState.FINISHED else None for job in live.running]
    homeless = [job for job, box in zip(live.running, held, strict=True) if _is_missing(books, box)]
    for job in homeless:
        _stand_in(books, job, asks[job_index(job.id)].box_type)
    failed = any(job.result not in (None, Result.PASSED) for job in live.running)
    books.core.restore(submit, live.state, loaded.started_at, held, failed, loaded.stop_cause)
    for job in homeless:
        assert job.box is not None
        books.core.apply(BoxRetired(job.box), 0.0)
        if live.kind is Kind.BUILD and live.state is State.RUNNING:
            job.reason = ENDED_LOST  # nobody can report it: it is given again
    for job in live.running:
        if job.state is JobState.UNKNOWN and waits_again(job.reason):
            books.lost[job.id] = True
            books.core.apply(JobsLost(live.id, (job_index(job.id),), ended=True), 0.0)


def _is_missing(books: Books, box: BoxId | None) -> bool:
    return box is not None and box not in books.boxes


def _stand_in(books: Books, job: LiveJob, box_type: str) -> None:
    """A Box for a job whose own is not in the store. That must not be: but it is to cost that job,
    not the shard, which no node could load."""
    assert job.box is not None
    log.error("job %s is on Box %d, which is not in the store: it is lost", job.id, job.box)
    books.add_box(BoxBook(job.box, NOBODY, job.id, None, None, 0.0))
    books.core.apply(BoxAdded(job.box, box_type, None, None), 0.0)
    job.state = JobState.UNKNOWN


def _live_job(workload: WorkloadId, index: int, job: LoadedJob) -> LiveJob:
    return LiveJob(
        job_id(workload, index), job.state, job.box, job.attempt, job.lease_token,
        job.result, job.started_at, None, None, job.reason,
    )  # fmt: skip
