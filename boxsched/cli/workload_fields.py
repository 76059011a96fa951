"""The fields of one workload that ``boxsched show`` prints."""

from datetime import datetime

from boxsched.cli.output import ago, in_local_time, local_time, ran, waited
from boxsched.cli.ssh import how_to_enter
from boxsched.client import Workload
from boxsched.said_times import SCHEDULED


def fields(found: Workload, at: datetime) -> list[tuple[str, str]]:
    """Return names and texts; a text is empty if the workload has no such value."""
    return [
        ("kind", found.kind.value),
        ("branch", found.branch or ""),
        ("target branch", found.target_branch or ""),
        ("from a fork", "yes: its jobs get no secrets" if found.from_fork else ""),
        ("tag", found.tag or ""),
        ("server", found.server or ""),
        ("build", found.build or ""),
        ("rollback", "yes: to an older build than was live" if found.rollback else ""),
        ("rebuild of", found.rebuild_of or ""),
        ("commit", found.commit or ""),
        ("message", message(found)),
        ("changes", found.compare_url or ""),
        ("pushed", local_time(found.event_at)),
        ("author", found.author or ""),
        ("submitted by", found.submitted_by or ""),
        ("priority", _priority(found)),
        ("spared", "newer builds do not cancel or stop it" if found.spared else ""),
        ("reason", found.reason or ""),
        *(("enter", line) for line in how_to_enter(found)),
        ("created", f"{local_time(found.created_at)} ({ago(found.created_at, at)})"),
        ("queued", local_time(found.queued_at)),
        ("started", local_time(found.started_at)),
        ("finished", local_time(found.finished_at)),
        ("waited", waited(found, at)),
        ("ran", ran(found, at)),
    ]


def message(workload: Workload) -> str:
    """Return the message; the planned time of a scheduled build in the local time zone."""
    text = workload.message or ""
    return in_local_time(text) if text.startswith(SCHEDULED) else text


def _priority(workload: Workload) -> str:
    if workload.priority_by is None:
        return str(workload.priority)
    note = f": {workload.priority_note}" if workload.priority_note else ""
    return f"{workload.priority}, by {workload.priority_by}{note}"
