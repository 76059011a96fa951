"""Retry a failed attempt in place: the job keeps its Box and gets another attempt there.

The core hears of the job's end only when no retry is left; until then the Box is in use, so a
draining worker retries too. A job that is being stopped, or was ended at its time limit by the
engine, is not retried. The end of a deploy whose worker or supervisor was lost is not, either,
because its commands may have run.
"""

from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes, is_out_of_time
from boxsched.model import Kind, job_index
from boxsched.protocol.inbox import JobFinished
from boxsched.protocol.reasons import says_lost
from boxsched.protocol.retries import NONE, counted
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved


def in_place(out: Outcomes, live: LiveWorkload, job: LiveJob, said: JobFinished) -> bool:
    """Give the job another attempt in its Box, if a retry is left for this end."""
    allowed = live.jobs[job_index(job.id)].retry
    if allowed is None or said.result is not Result.FAILED or not _may_go_on(out, live, job):
        return False
    lost = said.lost or says_lost(said.reason)
    if lost and live.kind is not Kind.BUILD:
        return False
    used = counted(allowed, job.retried or NONE, lost=lost, exit_status=said.exit_status)
    if used is None:
        return False
    out.news.retried(live, job, said)
    job.state = moved(JOB_TRANSITIONS, job.state, JobMove.RETRIED)
    job.attempt, job.lease_token = job.attempt + 1, out.token
    job.started_at = job.reason = job.restored_from = None
    job.retried = used
    out.take_up(live, said)
    out.timed.append(job)
    out.draft.job(job)
    out.notify(job)
    return True


def _may_go_on(out: Outcomes, live: LiveWorkload, job: LiveJob) -> bool:
    """Whether it is not to end, and its worker is there."""
    if live.state is not State.RUNNING or is_out_of_time(job) or live.kind is Kind.SSH:
        return False
    if job.state is JobState.UNKNOWN or job.box is None:
        return False
    return out.books.boxes[job.box].worker not in out.books.absent
