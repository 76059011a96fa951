"""Apply an operator's decision about a job on an absent worker: passed, failed, or run it again.

The decision contains the lease token that the operator saw. If the job has ended or has another
attempt since then, the decision changes nothing. Afterwards the old token has no effect, and a late
result is refused. If the worker comes back with the old attempt, it ends a build's; a deploy's is a
ghost, about which a person decides.

``again`` frees the job's Box as soon as another one of its type is free (or its worker is back).
Until then the job waits as ``unknown`` with the reason AGAIN, which tells the next leader.
"""

from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes
from boxsched.model import JobId, job_index
from boxsched.protocol.inbox import JobFinished, Resolution, Resolve
from boxsched.protocol.reasons import AGAIN, RESOLVED
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved


def apply(out: Outcomes, command: Resolve) -> None:
    found = out.books.job(JobId(command.job))
    if found is None:
        return
    live, job = found
    if job.lease_token != command.lease_token or not out.books.out_of_sight(job):
        return
    if command.result is not Resolution.AGAIN:
        out.news.resolved(live, job, command)
        _end(out, live, job, command)
    elif live.state is not State.STOPPING:
        out.news.resolved(live, job, command)
        _run_again(out, live, job)


def _end(out: Outcomes, live: LiveWorkload, job: LiveJob, command: Resolve) -> None:
    out.notify(job)
    job.reason = f"{RESOLVED}{command.result} by {command.by}"
    if command.note:
        job.reason += f": {command.note}"
    result = Result(command.result.value)
    said = JobFinished(job.id, command.lease_token, out.now, result, None, job.reason)
    out.finish(live, job, said)


def _run_again(out: Outcomes, live: LiveWorkload, job: LiveJob) -> None:
    """Let the job wait for a Box; the core gives it one in this turn or in a later one."""
    out.notify(job)
    if job.state is not JobState.UNKNOWN:
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.LOST_SIGHT)
    job.lease_token = out.token
    job.reason = AGAIN
    out.draft.job(job)
    out.books.lost[job.id] = True
    out.decide(core.JobsLost(live.id, (job_index(job.id),), ended=True))
