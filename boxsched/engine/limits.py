"""When running jobs are over their time limits, by this node's own monotonic clock.

A worker ends its jobs at their time limits by itself; the engine is there for one that does not. It
counts only time that this node has seen pass: from the report that the job began, or, after a load,
from the load. A time in the store was written by another clock, which may have been an hour off, so
no difference to one decides anything. A takeover therefore gives a job more time here, never less.
"""

from heapq import heapify, heappop, heappush

from boxsched.engine.books import Books, LiveJob
from boxsched.model import JobId, job_index, job_workload
from boxsched.states import JobState

TIME_LIMIT_SLACK_SECONDS = 30.0  # for the worker to end it, and to say so
KEPT = 1_000  # deadlines of ended jobs


class Deadlines:
    """Seconds of ``now`` are monotonic."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, JobId, int]] = []  # (when, job, attempt)

    def begin(self, books: Books, now: float) -> None:
        """The books were loaded: every limit counts from now."""
        self._heap = [
            (now + _limit(books, job), job.id, job.attempt)
            for workload in books.workloads.values()
            for job in workload.running or ()
            if job.started_at is not None and job.state is not JobState.FINISHED
        ]
        heapify(self._heap)

    def add(self, books: Books, job: LiveJob, now: float) -> None:
        """It has begun."""
        if job.started_at is not None and job.state is not JobState.FINISHED:
            heappush(self._heap, (now + _limit(books, job), job.id, job.attempt))

    def overdue(self, books: Books, now: float) -> list[LiveJob]:
        """Jobs past their time limit and still not ended by their worker; each is named once."""
        overdue = []
        while self._heap and self._heap[0][0] <= now:
            _, id_, attempt = heappop(self._heap)
            found = books.job(id_)
            if found is None or found[1].attempt != attempt or id_ in books.lost:
                continue
            if found[1].state in (JobState.RUNNING, JobState.UNKNOWN):
                overdue.append(found[1])
        return overdue

    def forget_ended(self, books: Books) -> None:
        """Those of ended jobs go when they are the most: a time limit can be a month."""
        if len(self._heap) > KEPT + 2 * books.core.usage.boxes:
            self._heap = [deadline for deadline in self._heap if books.runs(deadline[1])]
            heapify(self._heap)


def _limit(books: Books, job: LiveJob) -> float:
    live = books.workloads[job_workload(job.id)]
    return live.jobs[job_index(job.id)].timeout_seconds + TIME_LIMIT_SLACK_SECONDS
