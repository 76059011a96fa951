"""Which earlier workloads of its lane a new workload cancels or stops, and which it must spare."""

from collections.abc import Hashable

from boxsched.model import Cancellation, Kind, ServerQueue
from boxsched.scheduling.interface import Decision, LaneCounted, Spared, Submit
from boxsched.scheduling.ordering import Lanes
from boxsched.scheduling.workload import Workload
from boxsched.states import StopCause

# A stop for one of these causes decides the result, so a strategy does not have to stop it again.
FINAL_CAUSES = (StopCause.ASKED, StopCause.SUPERSEDED)


def superseded(event: Submit, lanes: Lanes, decisions: list[Decision]) -> list[Workload]:
    """Return the earlier workloads of the lane that the new one cancels or stops, in order.

    docs/scheduling.md, "Cancellation", "Progress guarantee" and "Automatic deploys".
    """
    if event.kind is Kind.BUILD and event.cancellation is not Cancellation.NONE:
        return _builds(event, lanes, decisions)
    if event.automatic and event.queue is ServerQueue.NEWEST:
        return [w for w in lanes.members(event.lane) if w.automatic and w.run is None]
    return []


def count_anew(workload: Workload, lanes: Lanes, decisions: list[Decision]) -> None:
    "Reset the lane's count, because the workload, which is still in its lane, passed or failed."
    if workload.lane is not None:
        lane_begins_anew(workload.lane.key, lanes, decisions)


def lane_begins_anew(lane: Hashable, lanes: Lanes, decisions: list[Decision]) -> None:
    """Reset the lane's count."""
    if lanes.superseded(lane):
        lanes.count_superseded(lane, 0)
        decisions.append(LaneCounted(lane, 0))


def _builds(event: Submit, lanes: Lanes, decisions: list[Decision]) -> list[Workload]:
    lane, spare_after = event.lane, event.spare_after
    members = lanes.members(lane)
    count = lanes.superseded(lane)
    one_is_spared = any(earlier.spared for earlier in members)
    chosen = []
    for earlier in members:
        if earlier.spared or not _is_touched(earlier, event.cancellation):
            continue
        if spare_after is not None and count >= spare_after and not one_is_spared:
            earlier.spared = one_is_spared = True
            decisions.append(Spared(earlier.id))
        else:
            count += 1
            chosen.append(earlier)
    if chosen:
        lanes.count_superseded(lane, count)
        decisions.append(LaneCounted(lane, count))
    return chosen


def _is_touched(earlier: Workload, strategy: Cancellation) -> bool:
    """Whether the strategy cancels or stops this earlier build."""
    run = earlier.run
    return run is None or (strategy is Cancellation.ALL and run.stop_cause not in FINAL_CAUSES)
