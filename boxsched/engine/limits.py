"""Find jobs that exceed their time limits, by this node's own monotonic clock.

A worker ends its jobs at their time limits itself; the engine handles workers that do not. It
counts only time that this node has measured: from the report that the job began, or, after a load,
from the load. Times in the store were written by other clocks, which may have been wrong by an
hour, so differences to them decide nothing. After a takeover a job therefore has more time here,
never less.

A job may take as long to begin as it may run. The engine stops a job that exceeds its limit. A job
that is being stopped, for this or by a person, must end within the grace of a stop. If its worker
sends heartbeats but does not report the end, the engine ends the job. Silent workers are handled by
``absence``.
"""

import enum
from heapq import heapify, heappop, heappush

import attrs

from boxsched.engine.books import Books, LiveJob
from boxsched.model import JobId, job_index, job_workload
from boxsched.protocol.timing import UNKNOWN_AFTER_SECONDS
from boxsched.states import JobState

# In addition to the grace of a stop:
BEGIN_SLACK_SECONDS = 30.0  # for a busy worker to prepare a job
END_SLACK_SECONDS = 5.0  # for a worker to report that it ended a job; a later report still counts
# For a stopped job to end. This must be longer than the time after which a worker counts as silent,
# and than an agent needs for a job whose supervisor does not react.
GIVE_UP_SLACK_SECONDS = 25.0
assert GIVE_UP_SLACK_SECONDS > UNKNOWN_AFTER_SECONDS
BACK_LOOK_SECONDS = 5.0
KEPT = 1_000  # deadlines of ended jobs


class Due(enum.IntEnum):
    """What must have happened to a job at its deadline."""

    BEGIN = 1
    END = 2
    BE_ENDED = 3  # its worker was told to end it
    BE_BACK = 4  # its worker is away; when it is back, the job has its full time again


@attrs.frozen
class Overdue:
    """``to_end``: jobs whose workers must end them; ``to_give_up``: jobs that were not ended."""

    to_end: tuple[LiveJob, ...] = ()
    to_give_up: tuple[LiveJob, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.to_end or self.to_give_up)


NOTHING_OVERDUE = Overdue()


class Deadlines:
    """The deadlines of running jobs. ``now`` is in monotonic seconds.

    A worker may take ``stop_grace`` seconds to end a job, or the longer time that it announced.
    """

    def __init__(self, stop_grace: float) -> None:
        self._stop_grace = stop_grace
        self._heap: list[tuple[float, JobId, int, Due]] = []  # (when, job, attempt, what)
        self._left_out = 0.0  # seconds that do not count; the times in the heap do not include them

    def begin(self, books: Books, now: float) -> None:
        """Start every limit now, because the books were just loaded."""
        now -= self._left_out
        self._heap = [
            self._deadline(books, job, now)
            for workload in books.workloads.values()
            for job in workload.running or ()
            if job.state is not JobState.FINISHED
        ]
        heapify(self._heap)

    def add(self, books: Books, job: LiveJob, now: float) -> None:
        """Set the deadline of a job that was assigned, has begun, or was stopped."""
        if job.state is not JobState.FINISHED:
            heappush(self._heap, self._deadline(books, job, now - self._left_out))

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds: no report could arrive."""
        self._left_out += seconds

    def are_due(self, now: float) -> bool:
        return bool(self._heap) and self._heap[0][0] <= now - self._left_out

    def overdue(self, books: Books, now: float) -> Overdue:
        """Return the jobs past a deadline; each deadline is reported once."""
        now -= self._left_out
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
            if away:
                heappush(self._heap, (now + BACK_LOOK_SECONDS, id_, attempt, Due.BE_BACK))
            elif due is Due.BE_BACK:
                heappush(self._heap, self._deadline(books, job, now))
            elif job.state is not JobState.STOPPING:
                to_end.append(job)
                heappush(self._heap, self._until_given_up(books, job, now))
            elif due is Due.BE_ENDED:
                to_give_up.append(job)
        return Overdue(tuple(to_end), tuple(to_give_up))

    def forget_ended(self, books: Books) -> None:
        """Drop the deadlines of ended jobs when there are many: a time limit can be a month."""
        if len(self._heap) > KEPT + 4 * books.core.usage.boxes:
            self._heap = [deadline for deadline in self._heap if books.runs(deadline[1])]
            heapify(self._heap)

    def _deadline(self, books: Books, job: LiveJob, now: float) -> tuple[float, JobId, int, Due]:
        if job.state is JobState.STOPPING:
            return self._until_given_up(books, job, now)
        if job.started_at is None:
            due, seconds = Due.BEGIN, _limit(books, job) + BEGIN_SLACK_SECONDS
        else:
            due, seconds = Due.END, _limit(books, job) + END_SLACK_SECONDS
        return now + seconds + self._grace(books, job), job.id, job.attempt, due

    def _until_given_up(
        self, books: Books, job: LiveJob, now: float
    ) -> tuple[float, JobId, int, Due]:
        when = now + GIVE_UP_SLACK_SECONDS + self._grace(books, job)
        return when, job.id, job.attempt, Due.BE_ENDED

    def _grace(self, books: Books, job: LiveJob) -> float:
        box = None if job.box is None else books.boxes.get(job.box)
        said = 0.0 if box is None else books.graces.get(box.worker, 0.0)
        return max(self._stop_grace, said)


def _limit(books: Books, job: LiveJob) -> float:
    live = books.workloads[job_workload(job.id)]
    return live.jobs[job_index(job.id)].timeout_seconds
