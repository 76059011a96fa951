"""Requests to the shard: submissions, stops, settings of projects, and fixed commits."""

from boxsched.engine.books import LiveWorkload
from boxsched.engine.outcomes import Outcomes
from boxsched.model import Cancellation, Kind, ProjectId, ServerQueue, WorkloadId, lane_key
from boxsched.protocol.inbox import CommitFixed, ProjectSet, Stop, Submit
from boxsched.scheduling import interface as core


def submit(out: Outcomes, command: Submit) -> None:
    project, kind = ProjectId(command.project), Kind(command.kind)
    jobs, asks = out.books.shared(command.jobs)
    live = LiveWorkload(
        WorkloadId(command.workload), project, command.number, kind,
        command.branch, command.tag, command.server, jobs,
    )  # fmt: skip
    out.books.workloads[live.id] = live
    out.unplanned = out.unplanned or not jobs
    out.news.registered(live, command)
    out.strategy = (
        f"queue: {command.queue}" if command.automatic else f"cancellation: {command.cancellation}"
    )
    out.decide(
        core.Submit(
            live.id, kind, project, command.branch,
            lane_key(kind, project, command.branch, command.tag, command.server),
            command.priority, command.created_at, asks,
            Cancellation(command.cancellation), command.fail_fast, command.spare_after,
            command.automatic, ServerQueue(command.queue),
        )
    )  # fmt: skip


def project(out: Outcomes, command: ProjectSet) -> None:
    project = ProjectId(command.project)
    out.settings_changed = True
    if command.deleted:
        out.books.forget_project(project)
    else:
        out.books.projects[project] = command.name
        if command.notifies:
            out.books.notifying.add(project)
        else:
            out.books.notifying.discard(project)
        out.books.follow(project, command.followed)
    out.decide(core.ProjectLimited(project, command.max_boxes))
    out.news.project("deleted" if command.deleted else "changed", command.name)


def commit_fixed(out: Outcomes, command: CommitFixed) -> None:
    """Show a workload's commit; the store has it already."""
    live = out.books.workloads.get(WorkloadId(command.workload))
    if live is not None:
        live.commit = command.commit
        out.news.commit(live)


def stop(out: Outcomes, command: Stop) -> None:
    out.asked_by = command.by
    out.decide(core.Stop(WorkloadId(command.workload)))
