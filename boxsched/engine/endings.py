"""Begin and end attempts: by report, at a time limit, or because the worker is silent."""

import msgspec

from boxsched.engine import readiness, retrying
from boxsched.engine.books import Books, LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes, is_out_of_time
from boxsched.model import JobId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.protocol.reasons import ENDED_LOST, NOT_REPORTED, not_begun, waits_again
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved

BEGINNINGS_AT_MOST = 10  # limit of a job's attempts, if no worker can begin its commands


def report(out: Outcomes, worker: WorkerId, said: JobStarted | JobFinished) -> None:
    """Apply a worker's report on one of its attempts.

    With an old lease token, or repeated, it changes nothing.
    """
    found = out.books.job(JobId(said.job))
    if found is None:
        return
    live, job = found
    if job.lease_token != said.lease_token or job.state is JobState.FINISHED:
        return
    if waits_again(job.reason):
        return  # the attempt of this token is over; the next one gets a higher token
    assert job.box is not None
    if out.books.boxes[job.box].worker != worker:
        return
    if isinstance(said, JobStarted):
        if job.started_at is None and job.id not in out.books.lost:
            _started(out, live, job)
        elif job.started_at is None:
            job.started_at = out.now  # it gets another Box, unless its worker returns first
            out.draft.job(job)
    elif said.not_begun:
        _not_begun(out, worker, live, job, said)
    elif not (
        retrying.in_place(out, live, job, said)
        or (said.lost and give_again(out, live, job, ended=True))
    ):
        out.finish(live, job, said)


def give_again(out: Outcomes, live: LiveWorkload, job: LiveJob, *, ended: bool) -> bool:
    """Let the job of a lost attempt wait for another Box.

    Return False if the job must end instead: it is being stopped, it is not part of a build, or it
    was lost too often. ``ended``: the worker reported the attempt's end.
    """
    if live.kind is not Kind.BUILD or is_to_end(live, job):
        return False
    if was_lost_too_often(out.books, job):
        return False
    ended = ended or out.books.lost.get(job.id, False)
    _wait_again(out, live, job, ENDED_LOST if ended else None)
    return True


def _not_begun(
    out: Outcomes, worker: WorkerId, live: LiveWorkload, job: LiveJob, said: JobFinished
) -> None:
    """Give the job to another worker, because this one could not begin its commands.

    This also holds for deploys: no command has run, so nothing runs twice. The worker gets no more
    jobs until it reports that it can begin them.
    """
    problem = said.reason or "for an unknown reason"
    readiness.withdraw(out, worker, problem)
    if is_to_end(live, job):
        stopped = msgspec.structs.replace(said, result=Result.STOPPED, reason=None)
        out.finish(live, job, stopped)
    elif _without_retries(job) >= BEGINNINGS_AT_MOST:
        name = out.books.names.get(worker, f"worker {worker}")
        last = f"not begun in {job.attempt} tries; the last one, on {name}: {problem}"
        out.finish(live, job, msgspec.structs.replace(said, reason=last))
    else:
        name = out.books.names.get(worker, str(worker))
        _wait_again(out, live, job, not_begun(name, problem))
        out.news.job(live, job, "not_begun")


def was_lost_too_often(books: Books, job: LiveJob) -> bool:
    """Whether the job ends if its present attempt is lost, too."""
    return _without_retries(job) > books.organization.lost_retries


def _without_retries(job: LiveJob) -> int:
    """Return how many of its attempts were no retries in place."""
    return job.attempt - (0 if job.retried is None else job.retried.total)


def is_to_end(live: LiveWorkload, job: LiveJob) -> bool:
    """Whether the job is being stopped, by a request or at its time limit."""
    return live.state is not State.RUNNING or is_out_of_time(job)


def _wait_again(out: Outcomes, live: LiveWorkload, job: LiveJob, ended: str | None) -> None:
    """Let the job wait for another Box.

    ``ended``: how its attempt ended, stored as the job's reason so that the next leader knows it;
    None: the attempt may still run.
    """
    if ended is not None:
        job.reason = ended
        out.draft.job(job)
    if job.state is not JobState.UNKNOWN:
        lose_sight(out, live, job)
    out.books.lost[job.id] = ended is not None
    out.decide(core.JobsLost(live.id, (job_index(job.id),), ended is not None))


def lose_sight(out: Outcomes, live: LiveWorkload, job: LiveJob) -> None:
    """Make the job unknown: it may be running or not."""
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.LOST_SIGHT)
    out.draft.job(job)
    out.news.job(live, job, "unknown")


def out_of_time(out: Outcomes, job: LiveJob) -> None:
    """Tell the worker to end a job that it did not begin, or did not end, within the time limit."""
    found = out.books.job(job.id)
    if found is None or found[1] is not job or job.state is JobState.FINISHED:
        return
    if job.id in out.books.lost:
        return  # lost in this turn: its next attempt has another time limit
    live = found[0]
    limit = live.jobs[job_index(job.id)].timeout_seconds
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
    limited = f"time limit of {limit:g} s"
    job.reason = limited if job.started_at is not None else f"not begun within its {limited}"
    out.draft.job(job)
    out.notify(job)


def give_up(out: Outcomes, job: LiveJob) -> None:
    """End a job whose connected worker was told to end it, but has not reported its end.

    The worker must connect again, and gets no job until then. The assignments that it gets on
    connecting do not contain this job.
    """
    found = out.books.job(job.id)
    if found is None or found[1] is not job or job.state is not JobState.STOPPING:
        return
    live = found[0]
    assert job.box is not None
    worker = out.books.boxes[job.box].worker
    out.hang_up(worker)
    if job.reason is None:
        out.end(live, job, Result.STOPPED, f"stopped; {NOT_REPORTED}")
    else:
        job.reason = f"{job.reason}; {NOT_REPORTED}"
        out.end(live, job, Result.FAILED, job.reason)


def _started(out: Outcomes, live: LiveWorkload, job: LiveJob) -> None:
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STARTED)
    job.started_at = out.now
    out.draft.job(job)
    out.timed.append(job)
    out.news.job(live, job, "started")
