"""Add the jobs of a build that was submitted without them, after they were read."""

from boxsched.engine.books import LiveJob
from boxsched.engine.outcomes import Outcomes
from boxsched.model import WorkloadId, job_id
from boxsched.protocol.inbox import Planned
from boxsched.scheduling import interface as core
from boxsched.states import JobState, Result

TOO_LATE = "its build ended before its jobs were known"


def planned(out: Outcomes, command: Planned) -> None:
    live = out.books.workloads.get(WorkloadId(command.workload))
    if live is None:
        _never_run(out, command)
    elif command.jobs is None:
        out.plan_reason = command.reason
        if not live.jobs and command.commit is not None:
            live.commit = command.commit
        out.decide(core.Planned(live.id, None))
    elif not live.jobs:
        live.jobs, asks = out.books.shared(command.jobs)
        live.commit = command.commit
        out.plan_reason = None
        out.news.planned(live)
        out.decide(core.Planned(live.id, asks))


def _never_run(out: Outcomes, command: Planned) -> None:
    """End the stored jobs of a build that ended while they were read."""
    for index in range(len(command.jobs or ())):
        id_ = job_id(WorkloadId(command.workload), index)
        job = LiveJob(id_, JobState.FINISHED, None, 0, None, Result.CANCELED)
        job.finished_at, job.reason = out.now, TOO_LATE
        out.draft.job(job)
