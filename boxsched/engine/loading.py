"""Fill a shard's books from the store."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from boxsched import discarding
from boxsched.engine import compatibility, pauses
from boxsched.engine.books import Books, BoxBook, LiveJob, LiveWorkload
from boxsched.model import (
    BoxId,
    Cancellation,
    Kind,
    OrganizationId,
    Policy,
    WorkerId,
    WorkloadId,
    job_id,
    job_index,
    lane_key,
)
from boxsched.protocol.fingerprint import Parts
from boxsched.protocol.followed import followed
from boxsched.protocol.inbox import SubmitJob
from boxsched.protocol.reasons import ENDED_LOST, waits_again
from boxsched.protocol.shards import Box, LoadedJob, LoadedWorkload, Organization, ShardState
from boxsched.protocol.workers import Pulse
from boxsched.scheduling import JobAsk, Scheduler
from boxsched.scheduling.interface import (
    BoxAdded,
    BoxesAway,
    BoxRetired,
    JobsLost,
    ProjectLimited,
    Submit,
)
from boxsched.scheduling.scheduler import APART_AT_ONCE
from boxsched.states import JobState, Result, State

log = logging.getLogger(__name__)

# The worker of a Box that is not in the store.
NOBODY = WorkerId(0)

# For a shard without an organization, in which nothing happens.
NO_ORGANIZATION = Organization(OrganizationId(0), "", Policy.BACKFILL, None, None)

_ASKED = len(SubmitJob.__struct_fields__)  # the first fields of a LoadedJob
_Asked = tuple[tuple[Any, ...], ...]


def graces(pulses: Sequence[Pulse]) -> dict[WorkerId, float]:
    """Return the seconds that each worker gives a job to end, for workers that report it."""
    return {one.worker: one.stop_grace for one in pulses if one.stop_grace is not None}


class Loading:
    """Fills books from a store, page by page (``protocol.shards.ShardLoading``)."""

    def __init__(self, required: Parts | None = None) -> None:
        """``required``: the parts that workers' fingerprints must have; None: use the stored list
        of incompatible workers.
        """
        self._required = required
        self.state: ShardState | None = None
        self.books = Books(NO_ORGANIZATION)
        # Shared by equal jobs: 100,000 workloads have few different jobs.
        self._known: dict[_Asked, tuple[tuple[SubmitJob, ...], tuple[JobAsk, ...]]] = {}

    def begin(self, state: ShardState) -> None:
        self.state = state
        books = self.books = Books(state.organization or NO_ORGANIZATION, self._required)
        for project in state.projects:
            books.projects[project.id] = project.name
            books.follow(project.id, followed(project.settings))
            books.core.apply(ProjectLimited(project.id, project.max_boxes), 0.0)
        for pause in state.pauses:
            books.pauses[pause.name] = pause
            books.core.apply(pauses.event(pause), 0.0)
        for lane, superseded in state.superseded.items():
            books.core.restore_lane(lane, superseded)
        for box in sorted(state.boxes, key=lambda b: (b.freed_at, b.id)):
            _add_box(books, box)
        books.notifying.update(state.notifying)
        books.durations.update(state.durations)
        books.graces.update(graces(state.pulses))
        books.problems.update((p.worker, p.problem) for p in state.pulses if p.problem)
        books.drains.update(state.drains)
        for pulse in state.pulses:
            if pulse.differs:
                books.shown_incompatible[pulse.worker] = pulse.differs
                books.incompatible[pulse.worker] = pulse.differs
            if self._required is not None:
                compatibility.judge(books, pulse.worker, pulse.fingerprint)
        books.connections.update((p.worker, p.connection) for p in state.pulses)
        books.know(state.pulses)
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
            given = [job.given_at for job in workload.jobs]
            for time in (workload.created_at, workload.queued_at, workload.started_at, *given):
                if time is not None and time > books.latest:
                    books.latest = time

    def finish(self, alive: Callable[[str], bool] = lambda node: True) -> Books:
        """Return the complete books. ``alive``: whether the node of that name is alive."""
        assert self.state is not None
        books = self.books
        for box in self.state.boxes:
            if box.retired:
                books.core.apply(BoxRetired(box.id), 0.0)
        pulses = self.state.pulses
        books.absent.update(p.worker for p in pulses if not (p.connected and alive(p.node)))
        away = tuple(b.id for b in books.boxes.values() if not books.gets_jobs(b.worker))
        books.core.apply(BoxesAway(away), 0.0)
        discarding.when_unused(books, _taken_apart(books.core, books.workloads))
        return books


def _taken_apart(core: Scheduler, live: dict[WorkloadId, LiveWorkload]) -> Iterator[None]:
    """Free books that are no longer used, APART_AT_ONCE workloads in each step."""
    while live:
        for _ in range(min(APART_AT_ONCE, len(live))):
            live.popitem()
        yield
    yield from core.take_apart()


def _add_box(books: Books, box: Box) -> None:
    if box.retired and box.job is None:
        return  # registered, but not announced by its worker yet
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
        promise=loaded.promise, spared=loaded.spared,
    )  # fmt: skip
    books.workloads[live.id] = live
    submit = Submit(
        live.id, live.kind, live.project, live.branch,
        lane_key(live.kind, live.project, live.branch, live.tag, live.server),
        loaded.priority, loaded.created_at, asks, Cancellation.NONE, loaded.fail_fast,
        automatic=loaded.automatic,
    )  # fmt: skip
    if loaded.started_at is None:
        books.core.restore(submit, live.state, promise=live.promise, spared=live.spared)
        return
    live.running = [_live_job(live.id, index, job) for index, job in enumerate(loaded.jobs)]
    held = [job.box if job.state is not JobState.FINISHED else None for job in live.running]
    homeless = [job for job, box in zip(live.running, held, strict=True) if _is_missing(books, box)]
    for job in homeless:
        _stand_in(books, job, asks[job_index(job.id)].box_type)
    failed = any(job.result not in (None, Result.PASSED) for job in live.running)
    again = {job_index(job.id): job.given_at for job in live.running if job.given_at is not None}
    books.core.restore(
        submit, live.state, loaded.started_at, held, failed, loaded.stop_cause, given_again=again,
        spared=live.spared,
    )  # fmt: skip
    for job in homeless:
        assert job.box is not None
        books.core.apply(BoxRetired(job.box), 0.0)
        if live.kind is Kind.BUILD and live.state is State.RUNNING:
            job.reason = ENDED_LOST  # no worker can report it: it gets another Box
    for job in live.running:
        if job.state is JobState.UNKNOWN and waits_again(job.reason):
            books.lost[job.id] = True
            books.core.apply(JobsLost(live.id, (job_index(job.id),), ended=True), 0.0)


def _is_missing(books: Books, box: BoxId | None) -> bool:
    return box is not None and box not in books.boxes


def _stand_in(books: Books, job: LiveJob, box_type: str) -> None:
    """Add a Box for a job whose Box is not in the store.

    This is an error in the store. The job is lost, but otherwise no node could load the shard.
    """
    assert job.box is not None
    log.error("job %s is on Box %d, which is not in the store: it is lost", job.id, job.box)
    books.add_box(BoxBook(job.box, NOBODY, job.id, None, None, 0.0))
    books.core.apply(BoxAdded(job.box, box_type, None, None), 0.0)
    job.state = JobState.UNKNOWN


def _live_job(workload: WorkloadId, index: int, job: LoadedJob) -> LiveJob:
    return LiveJob(
        job_id(workload, index), job.state, job.box, job.attempt, job.lease_token,
        job.result, job.started_at, None, None, job.reason, job.given_at, job.restored_from,
        job.retried,
    )  # fmt: skip
