"""One-line reasons for people: why a workload or a job failed, was stopped or was canceled."""

from boxsched.engine.books import Books, LiveJob, LiveWorkload
from boxsched.model import WorkloadId, job_index
from boxsched.states import Result, StopCause

FAIL_FAST = "(fail_fast)"


def superseded(books: Books, newer: WorkloadId, strategy: str) -> str:
    """Return the reason for a workload that the registration of ``newer`` canceled or stopped."""
    live = books.workloads[newer]
    project = books.projects.get(live.project, "")
    return f"superseded by {project}#{live.number} ({strategy})"


def refused(asked: int) -> str:
    """Return the reason for a workload that exceeds a limit lowered after its submission."""
    noun = "Box" if asked == 1 else "Boxes"
    return f"asks for {asked} {noun}, more than the plan or its project allows"


def job_failed(live: LiveWorkload, job: LiveJob) -> str:
    """Return the reason for a workload whose first failure is this job; ``finished`` adds the
    others.
    """
    why = job.reason
    if why is None and job.exit_status is not None:
        why = f"exit status {job.exit_status}"
    name = live.jobs[job_index(job.id)].name
    return f"job {name} failed" if why is None else f"job {name} failed: {why}"


def stopped_job(live: LiveWorkload) -> str | None:
    """Return the reason for a job that was ended because its workload is being stopped."""
    if live.stop_cause is StopCause.FAIL_FAST and live.reason is not None:
        return f"{live.reason} {FAIL_FAST}"
    return live.reason


def finished(live: LiveWorkload, result: Result) -> str | None:
    """Return the reason for a workload whose jobs have all ended with this result."""
    if result is not Result.FAILED or live.reason is None:
        return None if result is Result.PASSED else live.reason
    more = sum(job.result is Result.FAILED for job in live.running or ()) - 1
    if more <= 0:
        return live.reason
    return f"{live.reason}; {more} more {'job' if more == 1 else 'jobs'} failed"
