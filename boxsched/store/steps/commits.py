"""The one commit that all jobs and attempts of a workload run."""

from boxsched.model import JobId, job_workload
from boxsched.protocol import inbox
from boxsched.store.blocks import Steps, load
from boxsched.store.steps.commands import add_workload_command

_SQL = load("commits.sql")


def fix_commit(job: JobId, lease_token: int, found: str) -> Steps[str | None]:
    workload = job_workload(job)
    lease = {"workload": workload, "job": job, "lease_token": lease_token}
    fixed = yield _SQL["fix_commit"](found=found, **lease)
    if fixed:
        yield add_workload_command(inbox.CommitFixed(workload, fixed[0][0]), workload)
    else:
        fixed = yield _SQL["fixed_commit"](**lease)
    return fixed[0][0] if fixed else None
