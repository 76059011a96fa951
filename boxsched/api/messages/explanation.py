"""The explanation of why a workload waits, as JSON with all keys in every answer."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from boxsched.api.http.times import rfc3339, text_time
from boxsched.engine.blockers import Blocker
from boxsched.engine.why import WhyReport
from boxsched.model import Kind, workload_text
from boxsched.protocol.shards import Pause
from boxsched.states import Result
from boxsched.store.records import Job, Workload

SAID_AT_MOST = 3  # reasons in one text, and jobs named for each

_ENDS: Mapping[Result | None, str] = {
    Result.PASSED: "It has passed",
    Result.FAILED: "It has failed",
    Result.STOPPED: "It was stopped",
    Result.CANCELED: "It was canceled before it ran",
}


class BlockedBy(Struct, frozen=True):
    """A workload that blocks another one. ``boxes``: how many it holds or needs.

    ``usual_end``: its end according to its usual durations; it may be in the past.
    """

    id: str
    number: int
    kind: Kind
    project: str
    boxes: int
    expected_end: str | None
    usual_end: str | None


class PauseShown(Struct, frozen=True):
    """A pause that covers a workload. ``until``: when it ends automatically, or null."""

    name: str
    note: str
    by: str
    until: str | None


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a workload waits or runs, or how it ended.

    ``promised_start``: the first start that was reserved for it as the head of the queue; it may be
    in the past. ``overtaken_by``: how many later workloads were admitted while it was queued; null
    if it is not queued, or if there are too many to count. ``pauses``: all that cover it, by name;
    ``pause``: the first of them, or null.
    """

    phase: str
    reason: str
    text: str
    blocked_by: tuple[BlockedBy, ...] = ()
    needs: Mapping[str, int] = {}
    free: Mapping[str, int] = {}
    position: int | None = None
    expected_start: str | None = None
    promised_start: str | None = None
    overtaken_by: int | None = None
    pause: PauseShown | None = None
    pauses: tuple[PauseShown, ...] = ()


def reported(
    report: WhyReport,
    stored: Workload,
    now: float,
    more: str = "",
    overtaken_by: int | None = None,
) -> Explanation:
    """Return the explanation of a report. ``more``: the end of its text."""
    return Explanation(
        phase=report.phase,
        reason=report.reason,
        text=report.text + _treatment(stored) + more,
        blocked_by=tuple([_blocker(one, now) for one in report.blocked_by]),
        needs=report.needs,
        free=report.free,
        position=report.position,
        expected_start=text_time(report.expected_start),
        promised_start=text_time(report.promised_start),
        overtaken_by=overtaken_by,
        pause=_pause(report.pauses[0]) if report.pauses else None,
        pauses=tuple([_pause(one) for one in report.pauses]),
    )


def _treatment(stored: Workload) -> str:
    """Say that it has another priority than others of its kind, and that it is spared."""
    said = ""
    if stored.priority_by is not None:
        note = f": {stored.priority_note.rstrip('.')}" if stored.priority_note else ""
        said += f" {stored.priority_by} gave it priority {stored.priority}{note}."
    if stored.spared:
        said += " Newer builds of its branch do not cancel or stop it (spare_after)."
    return said


def _pause(pause: Pause) -> PauseShown:
    return PauseShown(pause.name, pause.note, pause.by, text_time(pause.until))


def finished(stored: Workload) -> Explanation:
    return Explanation(phase="finished", reason="finished", text=_ending(stored))


def _ending(stored: Workload) -> str:
    """Describe how it ended and why: from its failed jobs, or from its own reason."""
    end = _ENDS[stored.result]
    why = stored.reason
    if stored.result is Result.FAILED or why is None:
        why = _reasons(stored.jobs) or why
    if why is None:
        return f"{end}."
    if why.startswith((f"{Result.STOPPED} by ", f"{Result.CANCELED} by ")):
        return f"It was {why}."
    return f"{end}: {why.rstrip('.')}."


def unseen(stored: Workload) -> Explanation:
    """Return the explanation of a workload that is still in the inbox."""
    return Explanation(
        phase="ordering",
        reason="waits_for_lane",
        text="Was submitted a moment ago: the scheduler has not processed it yet.",
        needs=Counter(job.box_type for job in stored.jobs),
    )


def _reasons(jobs: Sequence[Job]) -> str:
    """Describe why its jobs failed, or why they ended; jobs with the same reason together."""
    names: dict[str, list[str]] = {}
    for job in [job for job in jobs if job.result is Result.FAILED] or jobs:
        reason = job.reason
        if reason is None and job.result is Result.FAILED and job.exit_status is not None:
            reason = f"exit status {job.exit_status}"
        if reason is not None and job.result is not Result.PASSED:
            names.setdefault(reason, []).append(job.name)
    said = [f"{_first(of, 'jobs')}: {why.rstrip('.')}" for why, of in names.items()]
    return _first(said, "reasons", "; ")


def _first(texts: Sequence[str], noun: str, separator: str = ", ") -> str:
    left = len(texts) - SAID_AT_MOST
    more = (f"{left} more {noun}",) if left > 0 else ()
    return separator.join((*texts[:SAID_AT_MOST], *more))


def _blocker(one: Blocker, now: float) -> BlockedBy:
    """Return the answer for a blocker. If its expected end has passed, it is expected now."""
    end = one.expected_end
    return BlockedBy(
        workload_text(one.id),
        one.number,
        one.kind,
        one.project,
        one.boxes,
        None if end is None else rfc3339(max(end, now)),
        text_time(one.usual_end),
    )
