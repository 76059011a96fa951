"""Why a workload is not further, as the contract's JSON: every key is always there."""

from collections.abc import Mapping

from msgspec import Struct

from boxsched.api.times import text_time
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


def reported(report: WhyReport) -> Explanation:
    return Explanation(
        phase=report.phase,
        reason=report.reason,
        text=report.text,
        blocked_by=tuple([_blocker(one) for one in report.blocked_by]),
        needs=report.needs,
        free=report.free,
        position=report.position,
        expected_start=text_time(report.expected_start),
    )


def finished(stored: Workload) -> Explanation:
    return Explanation(phase="finished", reason="finished", text=_ENDS[stored.result])


def _blocker(one: Blocker) -> BlockedBy:
    return BlockedBy(
        workload_text(one.id),
        one.number,
        one.kind,
        one.project,
        one.boxes,
        text_time(one.expected_end),
    )
