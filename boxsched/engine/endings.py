"""Attempts that begin and end: by report, at their time limit, by our own word, or out of sight."""

import msgspec

from boxsched.engine import readiness
from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes, is_out_of_time
from boxsched.model import JobId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.protocol.reasons import ENDED_LOST, not_begun, waits_again
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved

ATTEMPTS_AT_MOST = 3  # of a job whose workers get lost
BEGINNINGS_AT_MOST = 10  # of a job whose commands no worker could begin
assert ATTEMPTS_AT_MOST < BEGINNINGS_AT_MOST


def report(out: Outcomes, worker: WorkerId, said: JobStarted | JobFinished) -> None:
    """A worker's word on an attempt of its own; under an old lease token, or said twice, it
    changes nothing."""
    found = out.books.job(JobId(said.job))
    if found is None:
        return
    live, job = found
    if job.lease_token != said.lease_token or job.state is JobState.FINISHED:
        return
    if waits_again(job.reason):
        return  # the attempt of this token is over, or none has it: the next one gets a higher one
    assert job.box is not None
    if out.books.boxes[job.box].worker != worker:
        return
    if isinstance(said, JobStarted):
        if job.started_at is None and job.id not in out.books.lost:
            _started(out, live, job)
        elif job.started_at is None:
            job.started_at = out.now  # it is to be given again, unless its worker is back first
            out.draft.job(job)
    elif said.not_begun:
        _not_begun(out, worker, live, job, said)
    elif not (said.lost and give_again(out, live, job, ended=True)):
        out.finish(live, job, said)


def give_again(out: Outcomes, live: LiveWorkload, job: LiveJob, *, ended: bool) -> bool:
    """A lost attempt of a build: the job waits for a Box. False where it is to end instead: it was
    to be stopped, is no build's, or has been lost too often. ``ended``: its worker says so."""
    if live.kind is not Kind.BUILD or job.attempt >= ATTEMPTS_AT_MOST or is_to_end(live, job):
        return False
    ended = ended or out.books.lost.get(job.id, False)
    _wait_again(out, live, job, ENDED_LOST if ended else None)
    return True


def _not_begun(
    out: Outcomes, worker: WorkerId, live: LiveWorkload, job: LiveJob, said: JobFinished
) -> None:
    """Its commands never began, for a cause that lies with the worker: another one gets the job.

    A deploy, too: it is not run twice, as nothing of it has run. The worker gets no more jobs until
    it says that it can begin them.
    """
    problem = said.reason or "for a reason that it did not say"
    readiness.withdraw(out, worker, problem)
    if is_to_end(live, job):
        stopped = msgspec.structs.replace(said, result=Result.STOPPED, reason=None)
        out.finish(live, job, stopped)
    elif job.attempt >= BEGINNINGS_AT_MOST:
        name = out.books.names.get(worker, f"worker {worker}")
        last = f"not begun in {job.attempt} tries; the last one, on {name}: {problem}"
        out.finish(live, job, msgspec.structs.replace(said, reason=last))
    else:
        name = out.books.names.get(worker, str(worker))
        _wait_again(out, live, job, not_begun(name, problem))
        out.news.job(live, job, "not_begun")


def is_to_end(live: LiveWorkload, job: LiveJob) -> bool:
    """It was to be stopped, or is out of time."""
    return live.state is not State.RUNNING or is_out_of_time(job)


def _wait_again(out: Outcomes, live: LiveWorkload, job: LiveJob, ended: str | None) -> None:
    """The job waits for another Box. ``ended``: how its attempt did, so that the next leader knows;
    None: it may be running still."""
    if ended is not None:
        job.reason = ended
        out.draft.job(job)
    if job.state is not JobState.UNKNOWN:
        lose_sight(out, live, job)
    out.books.lost[job.id] = ended is not None
    out.decide(core.JobsLost(live.id, (job_index(job.id),), ended is not None))


def lose_sight(out: Outcomes, live: LiveWorkload, job: LiveJob) -> None:
    """It may be running, or not."""
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.LOST_SIGHT)
    out.draft.job(job)
    out.news.job(live, job, "unknown")


def out_of_time(out: Outcomes, job: LiveJob) -> None:
    """The worker did not begin it, or did not end it at its time limit: it is told to end it."""
    found = out.books.job(job.id)
    if found is None or found[1] is not job or job.state is JobState.FINISHED:
        return
    if job.id in out.books.lost:
        return  # lost in this very turn: what is given again has a time limit of its own
    live = found[0]
    limit = live.jobs[job_index(job.id)].timeout_seconds
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
    limited = f"time limit of {limit:g} s"
    job.reason = limited if job.started_at is not None else f"not begun within its {limited}"
    out.draft.job(job)
    out.tell(job)


def give_up(out: Outcomes, job: LiveJob) -> None:
    """Its worker is heard from, was told to end it, and does not say that it has ended.

    The worker is told to connect anew, and gets no job until then: a job that it still runs is not
    on the level that it is told then.
    """
    found = out.books.job(job.id)
    if found is None or found[1] is not job or job.state is not JobState.STOPPING:
        return
    live = found[0]
    assert job.box is not None
    worker = out.books.boxes[job.box].worker
    out.hang_up(worker)
    silent = "its worker did not say that it has ended"
    if job.reason is None:
        out.end(live, job, Result.STOPPED, f"stopped; {silent}")
    else:
        job.reason = f"{job.reason}; {silent}"
        out.end(live, job, Result.FAILED, job.reason)


def _started(out: Outcomes, live: LiveWorkload, job: LiveJob) -> None:
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STARTED)
    job.started_at = out.now
    out.draft.job(job)
    out.timed.append(job)
    out.news.job(live, job, "started")
