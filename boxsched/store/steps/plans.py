"""Store the jobs of builds that were submitted without them."""

from collections.abc import Mapping, Sequence

from boxsched.model import ProjectId, WorkloadId
from boxsched.protocol import inbox
from boxsched.store.blocks import Steps, load
from boxsched.store.records import JobSpec
from boxsched.store.steps import jobs as job_steps
from boxsched.store.steps.commands import add_workload_command

_SQL = load("plans.sql")
_INSERT = load("submission.sql")["insert_jobs"]


def unplanned_projects(after: ProjectId, limit: int) -> Steps[list[ProjectId]]:
    found = yield _SQL["unplanned_projects"](after=after, limit=limit)
    return [ProjectId(project) for (project,) in found if project is not None]


def first_unplanned(
    behind: Mapping[ProjectId, WorkloadId],
) -> Steps[dict[ProjectId, WorkloadId]]:
    found = yield _SQL["first_unplanned"].rows(list(behind.items()))
    return {ProjectId(project): WorkloadId(id_) for project, id_ in found}


def unplanned(project: ProjectId, after: WorkloadId, limit: int) -> Steps[list[WorkloadId]]:
    found = yield _SQL["unplanned"](project=project, after=after, limit=limit)
    return [WorkloadId(id_) for (id_,) in found]


def plan(workload: WorkloadId, jobs: Sequence[JobSpec], commit: str) -> Steps[bool]:
    found = yield _SQL["limits_of"](workload=workload)
    if not found:
        return False
    project, *limits = found[0]
    least = min((limit for limit in limits if limit is not None), default=len(jobs))
    if len(jobs) > least:
        reason = f"asks for {len(jobs)} Boxes, more than the plan or its project allows ({least})"
        yield from fail_plan(workload, reason, commit)
        return True
    durations = yield from job_steps.expected({(project, job.name) for job in jobs})
    planned = yield _SQL["plan_workload"](workload=workload, boxes=len(jobs), commit_hash=commit)
    if not planned:
        return False
    yield _INSERT.rows(job_steps.rows(project, workload, jobs, durations))
    asked = job_steps.asked(project, jobs, durations)
    yield add_workload_command(inbox.Planned(workload, asked, commit, None), workload)
    return True


def fail_plan(workload: WorkloadId, reason: str, commit: str | None) -> Steps[None]:
    if commit is not None:
        yield _SQL["plan_workload"](workload=workload, boxes=0, commit_hash=commit)
    yield add_workload_command(inbox.Planned(workload, None, commit, reason), workload)
