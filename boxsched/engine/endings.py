"""Attempts that begin and end: by report, at their time limit, by our own word, or out of sight."""

from typing import TYPE_CHECKING

import msgspec

from boxsched.engine import causes, readiness
from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.model import JobId, Kind, WorkerId, job_index
from boxsched.protocol.batches import DurationChange
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.protocol.reasons import ENDED_LOST, not_begun, waits_again
from boxsched.scheduling import interface as core
from boxsched.scheduling.prediction import RUNS_REMEMBERED, expected_duration
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved

if TYPE_CHECKING:
    from boxsched.engine.turn import Turn

ATTEMPTS_AT_MOST = 3  # of a job whose workers get lost
BEGINNINGS_AT_MOST = 10  # of a job whose commands no worker could begin
assert ATTEMPTS_AT_MOST < BEGINNINGS_AT_MOST


def report(turn: "Turn", worker: WorkerId, said: JobStarted | JobFinished) -> None:
    """A worker's word on an attempt of its own; under an old lease token, or said twice, it
    changes nothing."""
    found = turn.books.job(JobId(said.job))
    if found is None:
        return
    live, job = found
    if job.lease_token != said.lease_token or job.state is JobState.FINISHED:
        return
    if waits_again(job.reason):
        return  # the attempt of this token is over, or none has it: the next one gets a higher one
    assert job.box is not None
    if turn.books.boxes[job.box].worker != worker:
        return
    if isinstance(said, JobStarted):
        if job.started_at is None and job.id not in turn.books.lost:
            _started(turn, live, job)
        elif job.started_at is None:
            job.started_at = turn.now  # it is to be given again, unless its worker is back first
            turn.draft.job(job)
    elif said.not_begun:
        _not_begun(turn, worker, live, job, said)
    elif not (said.lost and give_again(turn, live, job, ended=True)):
        finish(turn, live, job, said)


def end(turn: "Turn", live: LiveWorkload, job: LiveJob, result: Result, reason: str) -> None:
    """Nobody will report it: it has ended."""
    assert job.lease_token is not None
    said = JobFinished(job.id, job.lease_token, turn.now, result, None, reason)
    finish(turn, live, job, said)


def give_again(turn: "Turn", live: LiveWorkload, job: LiveJob, *, ended: bool) -> bool:
    """A lost attempt of a build: the job waits for a Box. False where it is to end instead: it was
    to be stopped, is no build's, or has been lost too often. ``ended``: its worker says so."""
    if live.kind is not Kind.BUILD or job.attempt >= ATTEMPTS_AT_MOST or is_to_end(live, job):
        return False
    ended = ended or turn.books.lost.get(job.id, False)
    _wait_again(turn, live, job, ENDED_LOST if ended else None)
    return True


def _not_begun(
    turn: "Turn", worker: WorkerId, live: LiveWorkload, job: LiveJob, said: JobFinished
) -> None:
    """Its commands never began, for a cause that lies with the worker: another one gets the job.

    A deploy, too: it is not run twice, as nothing of it has run. The worker gets no more jobs until
    it says that it can begin them.
    """
    problem = said.reason or "for a reason that it did not say"
    readiness.withdraw(turn, worker, problem)
    if is_to_end(live, job):
        stopped = msgspec.structs.replace(said, result=Result.STOPPED, reason=None)
        finish(turn, live, job, stopped)
    elif job.attempt >= BEGINNINGS_AT_MOST:
        name = turn.books.names.get(worker, f"worker {worker}")
        last = f"not begun in {job.attempt} tries; the last one, on {name}: {problem}"
        finish(turn, live, job, msgspec.structs.replace(said, reason=last))
    else:
        name = turn.books.names.get(worker, str(worker))
        _wait_again(turn, live, job, not_begun(name, problem))
        turn.news.job(live, job, "not_begun")


def is_to_end(live: LiveWorkload, job: LiveJob) -> bool:
    """It was to be stopped, or is out of time."""
    return live.state is not State.RUNNING or _is_out_of_time(job)


def _is_out_of_time(job: LiveJob) -> bool:
    return job.reason is not None and not waits_again(job.reason)


def _wait_again(turn: "Turn", live: LiveWorkload, job: LiveJob, ended: str | None) -> None:
    """The job waits for another Box. ``ended``: how its attempt did, so that the next leader knows;
    None: it may be running still."""
    if ended is not None:
        job.reason = ended
        turn.draft.job(job)
    if job.state is not JobState.UNKNOWN:
        lose_sight(turn, live, job)
    turn.books.lost[job.id] = ended is not None
    turn.decide(core.JobsLost(live.id, (job_index(job.id),), ended is not None))


def lose_sight(turn: "Turn", live: LiveWorkload, job: LiveJob) -> None:
    """It may be running, or not."""
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.LOST_SIGHT)
    turn.draft.job(job)
    turn.news.job(live, job, "unknown")


def out_of_time(turn: "Turn", job: LiveJob) -> None:
    """The worker did not begin it, or did not end it at its time limit: it is told to end it."""
    found = turn.books.job(job.id)
    if found is None or found[1] is not job or job.state is JobState.FINISHED:
        return
    if job.id in turn.books.lost:
        return  # lost in this very turn: what is given again has a time limit of its own
    live = found[0]
    limit = live.jobs[job_index(job.id)].timeout_seconds
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
    limited = f"time limit of {limit:g} s"
    job.reason = limited if job.started_at is not None else f"not begun within its {limited}"
    turn.draft.job(job)
    turn.tell(job)


def give_up(turn: "Turn", job: LiveJob) -> None:
    """Its worker is heard from, was told to end it, and does not say that it has ended.

    The worker is told to connect anew, and gets no job until then: a job that it still runs is not
    on the level that it is told then.
    """
    found = turn.books.job(job.id)
    if found is None or found[1] is not job or job.state is not JobState.STOPPING:
        return
    live = found[0]
    assert job.box is not None
    worker = turn.books.boxes[job.box].worker
    turn.hang_up(worker)
    silent = "its worker did not say that it has ended"
    if job.reason is None:
        end(turn, live, job, Result.STOPPED, f"stopped; {silent}")
    else:
        job.reason = f"{job.reason}; {silent}"
        end(turn, live, job, Result.FAILED, job.reason)


def _started(turn: "Turn", live: LiveWorkload, job: LiveJob) -> None:
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STARTED)
    job.started_at = turn.now
    turn.draft.job(job)
    turn.timed.append(job)
    turn.news.job(live, job, "started")


def finish(turn: "Turn", live: LiveWorkload, job: LiveJob, said: JobFinished) -> None:
    """The attempt has ended; ``said.seconds`` says how long such jobs run."""
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.ENDED)
    job.result = said.result
    out_of_time = _is_out_of_time(job)
    if out_of_time and said.result is Result.STOPPED:
        job.result = Result.FAILED
    if not out_of_time or job.result is Result.PASSED:
        job.reason = _reason(live, job.result, said)
    job.exit_status = said.exit_status
    _set_times(turn, live, job, said.seconds)
    turn.books.lost.pop(job.id, None)
    turn.draft.job(job)
    if job.result is Result.PASSED and said.seconds is not None:
        _remember_duration(turn, live, job, said.seconds)
    if said.commit is not None and live.commit is None:
        live.commit = said.commit
        turn.draft.workload(live)
    if job.result is Result.FAILED and live.reason is None:
        live.reason = causes.job_failed(live, job)
        turn.draft.workload(live)
    ended = core.JobsEnded(live.id, (job_index(job.id),), job.result)
    decisions = turn.books.core.apply(ended, turn.now)
    turn.news.job(live, job, "finished")
    turn.carry_out(decisions)


def _reason(live: LiveWorkload, result: Result, said: JobFinished) -> str | None:
    """A worker knows only that it was told to stop a job; the engine knows why."""
    if result is Result.STOPPED and live.state is State.STOPPING:
        return causes.stopped_job(live) or said.reason
    return said.reason


def _set_times(turn: "Turn", live: LiveWorkload, job: LiveJob, seconds: float | None) -> None:
    """When it began and ended, by this node's clock; between them lies what was measured.

    A report may come late. So the end follows from the start where that is not in the future, else
    the start from the end.
    """
    job.finished_at = turn.now
    if job.started_at is None or seconds is None:
        return
    if job.started_at + seconds <= turn.now:
        job.finished_at = job.started_at + seconds
    else:
        assert live.started_at is not None
        job.started_at = max(live.started_at, turn.now - seconds)


def _remember_duration(turn: "Turn", live: LiveWorkload, job: LiveJob, seconds: float) -> None:
    key = (live.project, live.jobs[job_index(job.id)].name)
    recent = (*turn.books.durations.get(key, ()), seconds)[-RUNS_REMEMBERED:]
    turn.draft.duration(DurationChange(*key, recent, expected_duration(recent)))
    for forgotten in turn.books.remember(*key, recent):
        turn.draft.duration(DurationChange(*forgotten, (), 0.0))
