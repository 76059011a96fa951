"""Find the workloads that block another one, and when they should end."""

from collections.abc import Sequence

import attrs

from boxsched.engine.absent_text import Absences, nobody_there, too_few_there
from boxsched.engine.books import Books
from boxsched.engine.reason_text import Sees
from boxsched.engine.sight import box_type_of, waiting_again
from boxsched.model import Kind, WorkloadId
from boxsched.scheduling.reasons import (
    BehindReservation,
    NeedsBoxes,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Reason,
    WaitsForLane,
)
from boxsched.scheduling.workload import RunningGroup, Workload

BLOCKERS_AT_MOST = 100


@attrs.frozen
class Blocker:
    """A workload that blocks another one.

    Both ends are in seconds since 1970; None while it waits itself, or while its worker is away.
    ``usual_end`` is computed from its jobs' usual durations and may be in the past.
    ``expected_end`` assumes that a late job runs until its time limit.
    """

    id: WorkloadId
    number: int
    kind: Kind
    project: str
    boxes: int  # how many it holds or needs
    expected_end: float | None
    usual_end: float | None


def blockers(
    books: Books, workload: Workload, reason: Reason, absent: Absences, now: float, sees: Sees
) -> tuple[Blocker, ...]:
    """Return what this workload waits for, ordered by end; at most BLOCKERS_AT_MOST, without those
    that the reader does not see.
    """
    in_the_way = _in_the_way(books, workload, reason, absent, now)
    found = [_blocker(books, one, now) for one in in_the_way]
    return tuple(one for one in found if sees(one.project, books.workloads[one.id].server))


def _in_the_way(
    books: Books, workload: Workload, reason: Reason, absent: Absences, now: float
) -> Sequence[Workload]:
    """Return the workloads that it waits for, ordered by their ends; at most BLOCKERS_AT_MOST.

    Workloads on absent workers are left out: their Boxes stay away after their end.
    """
    known = books.core.workloads
    if workload.run is not None:
        return _before_another_box(books, workload, now)
    if isinstance(reason, WaitsForLane):
        return [known[id_] for id_ in reason.ahead[:BLOCKERS_AT_MOST]]
    if nobody_there(books, absent):
        return ()
    match reason:
        case NeedsBoxes() if too_few_there(reason, absent):
            return ()
        case BehindReservation(head) | QueueOrder(head):
            return [known[head]]
        case NeedsBoxes(box_type):
            return _running(books, now, box_type=box_type)
        case PlanLimit():
            return _running(books, now)
        case ProjectLimit():
            return _running(books, now, of=workload)
    return ()


def _before_another_box(books: Books, workload: Workload, now: float) -> Sequence[Workload]:
    """Return the workloads whose ends free a Box for a job that lost its own and waits."""
    jobs = waiting_again(books, books.workloads[workload.id])
    if not jobs:
        return ()
    running = _running(books, now, box_type=box_type_of(books, jobs[0]))
    return [one for one in running if one is not workload]


def _running(
    books: Books, now: float, *, box_type: str | None = None, of: Workload | None = None
) -> Sequence[Workload]:
    """Return running workloads ordered by end: on Boxes of this type, of the project of ``of``."""
    found: dict[WorkloadId, Workload] = {}
    for _, _, _, group in books.core.usage.by_end(now):
        if box_type is not None and not (group.pool.box_type == box_type and _returns(group)):
            continue
        if of is not None and group.workload.project is not of.project:
            continue
        found[group.workload.id] = group.workload
        if len(found) == BLOCKERS_AT_MOST:
            break
    return list(found.values())


def _returns(group: RunningGroup) -> bool:
    """Whether a Box will be free when the group's jobs have ended."""
    if not group.pool.away:
        return group.returning > 0
    assert group.workload.run is not None
    held = (box for box in group.workload.run.boxes if box is not None and box.group is group)
    return any(not (box.away or box.retired) for box in held)


def _blocker(books: Books, workload: Workload, now: float) -> Blocker:
    live = books.workloads[workload.id]
    run = workload.run
    seen = run is not None and len(run.jobs_in_sight()) == run.live
    groups = run.groups() if run is not None and seen else []
    return Blocker(
        id=workload.id,
        number=live.number,
        kind=live.kind,
        project=books.projects.get(live.project, ""),
        boxes=workload.ask.total if run is None else run.live,
        expected_end=max((g.taken_to_end(now) for g in groups), default=None),
        usual_end=max((g.end for g in groups), default=None),
    )
