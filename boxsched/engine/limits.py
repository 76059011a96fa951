"""When jobs are over their time limits, by this node's own monotonic clock.

A worker ends its jobs at their time limits by itself; the engine is there for one that does not. It
counts only time that this node has seen pass: from the report that the job began, or, after a load,
from the load. A time in the store was written by another clock, which may have been an hour off, so
no difference to one decides anything. A takeover therefore gives a job more time here, never less.

A job that does not begin at all has as long to begin as it would have to end. Where its worker is
heard from, but does not say either that the job has ended, the engine ends it: first it tells the
worker to, and after the grace of a stop it takes the job for ended. A worker that is silent is
another matter (``absence``).
"""

import enum
from heapq import heapify, heappop, heappush

import attrs

from boxsched.engine.books import Books, LiveJob
from boxsched.model import JobId, job_index, job_workload
from boxsched.states import JobState

TIME_LIMIT_SLACK_SECONDS = 30.0  # for the worker to end it, and to say so
KEPT = 1_000  # deadlines of ended jobs


class Due(enum.IntEnum):
    """What a job is to have done by a deadline."""

    BEGIN = 1
    END = 2
    BE_ENDED = 3  # its worker was told to end it


@attrs.frozen
class Overdue:
    """``to_end``: their workers are told to end them; ``to_give_up``: these did not."""

    to_end: tuple[LiveJob, ...] = ()
    to_give_up: tuple[LiveJob, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.to_end or self.to_give_up)


NOTHING_OVERDUE = Overdue()


class Deadlines:
    """Seconds of ``now`` are monotonic. ``stop_grace``: that of workers, as far as this node knows;
    a worker's own way to end a job takes so long."""

    def __init__(self, stop_grace: float) -> None:
        self._slack = TIME_LIMIT_SLACK_SECONDS + stop_grace
        self._heap: list[tuple[float, JobId, int, Due]] = []  # (when, job, attempt, what)

    def begin(self, books: Books, now: float) -> None:
        """The books were loaded: every limit counts from now."""
        self._heap = [
            self._deadline(books, job, now)
            for workload in books.workloads.values()
            for job in workload.running or ()
            if job.state is not JobState.FINISHED
        ]
        heapify(self._heap)

    def add(self, books: Books, job: LiveJob, now: float) -> None:
        """It was assigned, or has begun."""
        if job.state is not JobState.FINISHED:
            heappush(self._heap, self._deadline(books, job, now))

    def overdue(self, books: Books, now: float) -> Overdue:
        """Jobs past a deadline; each is named once for each."""
        to_end, to_give_up = [], []
        while self._heap and self._heap[0][0] <= now:
            _, id_, attempt, due = heappop(self._heap)
            found = books.job(id_)
            if found is None or found[1].attempt != attempt or id_ in books.lost:
                continue
            job = found[1]
            if job.state is JobState.FINISHED or (due is Due.BEGIN and job.started_at is not None):
                continue
            away = job.state is JobState.UNKNOWN or books.out_of_sight(job)
            if away and due is not Due.END:
                self._again(now, job, due)  # once its worker is back
            elif job.state is not JobState.STOPPING:
                to_end.append(job)
                self._again(now, job, Due.BE_ENDED)
            elif due is Due.BE_ENDED:
                to_give_up.append(job)
            else:
                self._again(now, job, Due.BE_ENDED)
        return Overdue(tuple(to_end), tuple(to_give_up))

    def forget_ended(self, books: Books) -> None:
        """Those of ended jobs go when they are the most: a time limit can be a month."""
        if len(self._heap) > KEPT + 4 * books.core.usage.boxes:
            self._heap = [deadline for deadline in self._heap if books.runs(deadline[1])]
            heapify(self._heap)

    def _deadline(self, books: Books, job: LiveJob, now: float) -> tuple[float, JobId, int, Due]:
        due = Due.BEGIN if job.started_at is None else Due.END
        return now + _limit(books, job) + self._slack, job.id, job.attempt, due

    def _again(self, now: float, job: LiveJob, due: Due) -> None:
        heappush(self._heap, (now + self._slack, job.id, job.attempt, due))


def _limit(books: Books, job: LiveJob) -> float:
    live = books.workloads[job_workload(job.id)]
    return live.jobs[job_index(job.id)].timeout_seconds
