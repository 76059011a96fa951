"""What people decide about ghosts (``protocol.ghosts``): end them, or give the job back.

A job is given back to the worker that holds an attempt at it while the job may still continue
there: it waits for another Box, or its next attempt was assigned to the same worker and has not
begun, because the worker begins none while it has the ghost. The attempt goes on under a new lease
token, so nothing that was sent under the old one counts.
"""

from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes
from boxsched.model import JobId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import GhostKilled, Reports, Restore
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, State, moved


def killed(out: Outcomes, command: GhostKilled) -> None:
    """Record the decision; the worker's node tells it to the worker."""
    out.news.ghost_killed(command)


def tell(out: Outcomes, command: Reports) -> None:
    """Record what happened to ghosts of this worker."""
    for ghost in command.ghosts:
        out.news.ghost(command.worker, ghost)


def restore(out: Outcomes, command: Restore) -> None:
    found = out.books.job(JobId(command.job))
    if found is None:
        return
    live, job = found
    worker = WorkerId(command.worker)
    if worker in out.books.absent or not _is_on(out, job, worker):
        return
    if live.state is not State.RUNNING or live.kind is Kind.BUILD:
        return
    if not _may_continue(out, job, command.attempt):
        return
    _continue(out, live, job, command)


def _is_on(out: Outcomes, job: LiveJob, worker: WorkerId) -> bool:
    book = None if job.box is None else out.books.boxes.get(job.box)
    return book is not None and book.worker == worker and book.job == job.id


def _may_continue(out: Outcomes, job: LiveJob, attempt: int) -> bool:
    if job.id in out.books.lost:
        return job.attempt == attempt
    return job.state is JobState.ASSIGNED and job.attempt > attempt > 0


def _continue(out: Outcomes, live: LiveWorkload, job: LiveJob, command: Restore) -> None:
    if out.books.lost.pop(job.id, None) is not None:
        out.decide(core.JobsFound(live.id, (job_index(job.id),)))
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.SEEN_AGAIN)
    else:
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STARTED)
    job.attempt, job.lease_token = command.attempt, out.token
    job.restored_from = command.lease_token
    job.reason = None
    if job.started_at is None:  # it has begun; a worker that lost it must not begin it again
        job.started_at = out.now
    out.draft.job(job)
    out.timed.append(job)
    out.notify(job)
    out.news.restored(live, job, command.by)
