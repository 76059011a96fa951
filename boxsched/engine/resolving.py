"""A person says what became of a job whose worker is away: it passed, it failed, or run it again.

The word is fenced by the lease token that the person saw: where the job has another attempt or has
ended since, it changes nothing. From then on the old token changes nothing either: when the worker
is back, it is told to stop what it still runs, and its late result is refused.

``again`` frees the job's Box as soon as another one of its type is free (or its worker is back).
Until then the job waits as ``unknown`` with the reason AGAIN, which tells the next leader.
"""

from typing import TYPE_CHECKING

from boxsched.engine import endings
from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.model import JobId, job_index
from boxsched.protocol.inbox import JobFinished, Resolution, Resolve
from boxsched.protocol.reasons import AGAIN
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved

if TYPE_CHECKING:
    from boxsched.engine.turn import Turn


def apply(turn: "Turn", command: Resolve) -> None:
    found = turn.books.job(JobId(command.job))
    if found is None:
        return
    live, job = found
    if job.lease_token != command.lease_token or not turn.books.out_of_sight(job):
        return
    if command.result is not Resolution.AGAIN:
        turn.news.resolved(live, job, command)
        _end(turn, live, job, command)
    elif live.state is not State.STOPPING:
        turn.news.resolved(live, job, command)
        _run_again(turn, live, job)


def _end(turn: "Turn", live: LiveWorkload, job: LiveJob, command: Resolve) -> None:
    turn.tell(job)
    job.reason = f"resolved as {command.result} by {command.by}"
    if command.note:
        job.reason += f": {command.note}"
    result = Result(command.result.value)
    said = JobFinished(job.id, command.lease_token, turn.now, result, None, job.reason)
    endings.finish(turn, live, job, said)


def _run_again(turn: "Turn", live: LiveWorkload, job: LiveJob) -> None:
    """The core gives it a Box when it settles, in this turn or in a later one."""
    turn.tell(job)
    if job.state is not JobState.UNKNOWN:
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.LOST_SIGHT)
    job.lease_token = turn.token
    job.reason = AGAIN
    turn.draft.job(job)
    turn.books.lost[job.id] = True
    turn.decide(core.JobsLost(live.id, (job_index(job.id),), ended=True))
