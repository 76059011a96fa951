"""Why a workload is not further, as the contract's JSON: every key is always there."""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from boxsched.api.times import rfc3339, text_time
from boxsched.engine.why import Blocker, WhyReport
from boxsched.model import Kind, workload_text
from boxsched.states import Result
from boxsched.store.values import Workload

_ENDS: Mapping[Result | None, str] = {
    Result.PASSED: "It has passed.",
    Result.FAILED: "It has failed.",
    Result.STOPPED: "It was stopped.",
    Result.CANCELED: "It was canceled before it ran.",
}


class BlockedBy(Struct, frozen=True):
    """A workload that is in the way; ``boxes`` that it holds, or asks for."""

    id: str
    number: int
    kind: Kind
    project: str
    boxes: int
    expected_end: str | None


class Explanation(Struct, frozen=True, kw_only=True):
    phase: str
    reason: str
    text: str
    blocked_by: tuple[BlockedBy, ...] = ()
    needs: Mapping[str, int] = {}
    free: Mapping[str, int] = {}
    position: int | None = None
    expected_start: str | None = None


def reported(report: WhyReport, now: float) -> Explanation:
    return Explanation(
        phase=report.phase,
        reason=report.reason,
        text=report.text,
        blocked_by=tuple([_blocker(one, now) for one in report.blocked_by]),
        needs=report.needs,
        free=report.free,
        position=report.position,
        expected_start=text_time(report.expected_start),
    )


def finished(stored: Workload) -> Explanation:
    return Explanation(phase="finished", reason="finished", text=_ENDS[stored.result])


def unseen(stored: Workload) -> Explanation:
    """It waits in the inbox: what the engine does next is to read it."""
    return Explanation(
        phase="ordering",
        reason="waits_for_lane",
        text="Was submitted a moment ago: the scheduler has not come to it yet.",
        needs=Counter(job.box_type for job in stored.jobs),
    )


def _blocker(one: Blocker, now: float) -> BlockedBy:
    """What should have ended by now is expected to end at any moment."""
    end = one.expected_end
    return BlockedBy(
        workload_text(one.id),
        one.number,
        one.kind,
        one.project,
        one.boxes,
        None if end is None else rfc3339(max(end, now)),
    )
