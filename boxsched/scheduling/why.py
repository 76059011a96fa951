"""Why a workload does not run yet: the verdict of a pass, turned into a reason."""

from collections.abc import Callable

from boxsched.model import WorkloadId
from boxsched.scheduling.admission import Pass, PassVerdict
from boxsched.scheduling.ordering import ahead_of
from boxsched.scheduling.queue import Shape
from boxsched.scheduling.reasons import (
    AwaitsPlan,
    BehindReservation,
    NeedsBoxes,
    NoSuchBoxes,
    Paused,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Reason,
    Runs,
    WaitsForLane,
)
from boxsched.scheduling.scheduler import Scheduler
from boxsched.scheduling.workload import Workload
from boxsched.states import State


def why(scheduler: Scheduler, id_: WorkloadId, now: float) -> Reason | None:
    """Return the reason why an unfinished workload waits, or ``Runs``; None for an unknown id.

    Call it between instants, when a pass has admitted all that it could.
    """
    workload = scheduler.workloads.get(id_)
    if workload is None:
        return None
    if workload.run is not None:
        return Runs()
    if workload.state is State.REGISTERED:
        return WaitsForLane(ahead_of(workload)) if workload.planned else AwaitsPlan()
    paused = scheduler.pauses.all_covering(workload)
    if paused:
        return Paused(paused[0], paused[1:])
    found: list[Reason] = []

    def look(shape: Shape, verdict: PassVerdict, turn: Pass) -> bool:
        if shape is workload.shape:
            found.append(_reason(scheduler, workload, verdict, turn))
        return bool(found)

    _judge_all(scheduler, now, look)
    return found[0]


def why_shapes(scheduler: Scheduler, now: float) -> dict[Shape, Reason]:
    """Return the reasons of all queued workloads, one for each shape.

    Workloads in ordering and paused ones are left out. The cost grows with the number of shapes.
    """
    reasons: dict[Shape, Reason] = {}

    def look(shape: Shape, verdict: PassVerdict, turn: Pass) -> bool:
        reasons[shape] = _reason(scheduler, shape.head, verdict, turn)
        return False

    _judge_all(scheduler, now, look)
    return reasons


def _judge_all(
    scheduler: Scheduler, now: float, look: Callable[[Shape, PassVerdict, Pass], bool]
) -> None:
    turn = Pass(scheduler.rules, scheduler.usage, scheduler.pools.values(), now)
    place = 0
    while (shape := scheduler.queue.shape_at(place)) is not None:
        if look(shape, turn.judge(shape), turn):
            return
        place += 1


def _reason(scheduler: Scheduler, workload: Workload, verdict: PassVerdict, turn: Pass) -> Reason:
    ask, project = workload.ask, workload.project
    plan, used = scheduler.rules.max_boxes, scheduler.usage.boxes
    match verdict:
        case PassVerdict.PROJECT_LIMIT:
            return ProjectLimit(ask.total, project.used, project.limit or 0)
        case PassVerdict.BEHIND_PROJECT:
            return _behind_project(scheduler, workload, turn)
        case PassVerdict.BEHIND_HEAD:
            assert turn.head is not None
            return QueueOrder(turn.head.head.id)
        case PassVerdict.DELAYS_HEAD | PassVerdict.ADMIT if turn.head is not None:
            # ADMIT: a job became late since the last instant, and that made room.
            reservation = turn.reservation()
            return BehindReservation(turn.head.head.id, reservation.at, reservation.by_limit)
    for pool, count in ask.needs:
        if count > pool.wanted:
            return NoSuchBoxes(pool.box_type, count, pool.wanted)
    for pool, count in ask.needs:
        if count > pool.free:
            return NeedsBoxes(pool.box_type, count, pool.free)
    if plan is not None and used + ask.total > plan:
        return PlanLimit(ask.total, used, plan)
    # Only in the books of a node that does not lead, which may consider absent Boxes as free.
    pool, count = ask.needs[0]
    return NeedsBoxes(pool.box_type, count, pool.free)


def _behind_project(scheduler: Scheduler, workload: Workload, turn: Pass) -> Reason:
    ask, project = workload.ask, workload.project
    assert project.limit is not None
    if project.used + ask.total > project.limit:
        return ProjectLimit(ask.total, project.used, project.limit)
    for pool, count in ask.needs:
        if count > pool.free:
            return NeedsBoxes(pool.box_type, count, pool.free)
    if not turn.has_room(ask):
        assert scheduler.rules.max_boxes is not None
        return PlanLimit(ask.total, scheduler.usage.boxes, scheduler.rules.max_boxes)
    return QueueOrder(turn.held[project.id][3].id)
