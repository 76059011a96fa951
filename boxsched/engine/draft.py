"""The rows of a batch while a turn collects them; for each row, the last value counts."""

from collections.abc import Iterable, Sequence

from boxsched.engine.books import BoxBook, LiveJob, LiveWorkload
from boxsched.model import BoxId, JobId, ProjectId, WorkerId, WorkloadId
from boxsched.protocol.batches import (
    Batch,
    BoxChange,
    DeployDue,
    Differences,
    DrainChange,
    DurationChange,
    Event,
    InboxEntry,
    JobChange,
    LaneChange,
    Live,
    PauseOver,
    WorkloadChange,
)
from boxsched.states import State

FREED_STEP_SECONDS = 1e-6


class Draft:
    def __init__(self, now: float) -> None:
        self._workloads: dict[WorkloadId, LiveWorkload] = {}
        self._jobs: dict[JobId, LiveJob] = {}
        self._freed: dict[BoxId, BoxChange] = {}
        self._taken: dict[BoxId, BoxChange] = {}
        self._gone: dict[BoxId, None] = {}
        self._retired: dict[BoxId, None] = {}
        self._freed_at = now  # increases slightly with each Box, which keeps them in order
        self._durations: dict[tuple[ProjectId, str], DurationChange] = {}
        self._lanes: dict[str, LaneChange] = {}
        self._pauses_over: dict[str, PauseOver] = {}
        self._live: dict[tuple[ProjectId, str], Live] = {}
        self._deploys_due: list[DeployDue] = []
        self._drains: dict[WorkerId, DrainChange] = {}
        self._differences: dict[WorkerId, Differences] = {}

    @property
    def empty(self) -> bool:
        rows = (self._workloads, self._jobs, self._freed, self._taken, self._gone, self._retired)
        others = (self._durations, self._lanes, self._pauses_over)
        return not any(rows) and not any(others) and not (self._drains or self._differences)

    # --- Workloads and jobs: stored with their values at the end of the turn ---------------------

    def workload(self, live: LiveWorkload) -> None:
        self._workloads[live.id] = live

    def job(self, job: LiveJob) -> None:
        self._jobs[job.id] = job

    def duration(self, change: DurationChange) -> None:
        self._durations[change.project, change.job_name] = change

    def lane(self, change: LaneChange) -> None:
        self._lanes[change.lane] = change

    def live(self, live: Live) -> None:
        self._live[live.project, live.server] = live

    def deploy_due(self, due: DeployDue) -> None:
        self._deploys_due.append(due)

    def pause_over(self, over: PauseOver) -> None:
        self._pauses_over[over.name] = over

    def drain(self, change: DrainChange) -> None:
        self._drains[change.worker] = change

    def differences(self, change: Differences) -> None:
        self._differences[change.worker] = change

    # --- Boxes: stored with their present values -----------------------------------------------

    def free(self, book: BoxBook) -> None:
        """Free the Box; it is last in the order of free Boxes."""
        book.freed_at = self.next_freed_at()
        self._freed[book.id] = _change(book)
        self._taken.pop(book.id, None)

    def take(self, book: BoxBook) -> None:
        self._taken[book.id] = _change(book)

    def retire(self, box: BoxId) -> None:
        """Remove the Box when its job has ended."""
        self._retired[box] = None

    def go(self, box: BoxId) -> None:
        self._gone[box] = None
        self._freed.pop(box, None)
        self._taken.pop(box, None)

    def come(self, box: BoxId) -> None:
        """Keep the Box, also if an earlier command of this turn removed it."""
        self._gone.pop(box, None)
        self._retired.pop(box, None)

    def next_freed_at(self) -> float:
        self._freed_at += FREED_STEP_SECONDS
        return self._freed_at

    # --- The batch --------------------------------------------------------------------------

    def batch(
        self,
        shard: int,
        epoch: int,
        number: int,
        inbox: Iterable[InboxEntry],
        events: Sequence[Event],
    ) -> Batch:
        """Make the batch in the order that the unique indexes need: ends, freed Boxes, begins."""
        ended: list[WorkloadChange] = []
        going: list[WorkloadChange] = []
        for live in self._workloads.values():
            row = WorkloadChange(
                live.id, live.state, live.result, live.stop_cause,
                live.queued_at, live.started_at, live.finished_at, live.commit, live.reason,
                live.promise, live.priority, live.spared, live.priority_by, live.priority_note,
            )  # fmt: skip
            (ended if live.state is State.FINISHED else going).append(row)
        jobs = tuple(
            JobChange(
                j.id, j.state, j.result, j.box, j.attempt, j.lease_token,
                j.started_at, j.finished_at, j.exit_status, j.reason, j.given_at,
                j.restored_from, j.retried,
            )
            for j in self._jobs.values()
        )  # fmt: skip
        return Batch(
            shard=shard,
            epoch=epoch,
            batch=number,
            inbox=tuple(entry.id for entry in inbox),
            ended=tuple(ended),
            workloads=tuple(going),
            jobs=jobs,
            freed=tuple(self._freed.values()),
            taken=tuple(self._taken.values()),
            gone=tuple(self._gone),
            retired=tuple(self._retired),
            durations=tuple(self._durations.values()),
            events=tuple(events),
            lanes=tuple(self._lanes.values()),
            pauses_over=tuple(self._pauses_over.values()),
            live=tuple(self._live.values()),
            deploys_due=tuple(self._deploys_due),
            drains=tuple(self._drains.values()),
            differences=tuple(self._differences.values()),
        )


def _change(book: BoxBook) -> BoxChange:
    return BoxChange(book.id, book.job, book.last_project, book.last_branch, book.freed_at)
