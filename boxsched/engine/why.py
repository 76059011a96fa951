"""Why a workload is not further, for people: the core's reason with names, numbers and times."""

from collections.abc import Callable, Sequence

import attrs

from boxsched.engine.absent_text import (
    Absences,
    beside_text,
    nobody_text,
    nobody_there,
    too_few_there,
    where_text,
)
from boxsched.engine.books import Books, LiveWorkload
from boxsched.engine.capacity import absences
from boxsched.engine.news import rfc3339
from boxsched.engine.sight import (
    lane_blocked,
    unbegun,
    unseen,
    waits_for_another,
    worker_away,
)
from boxsched.model import Kind, WorkloadId
from boxsched.scheduling.prediction import forecast
from boxsched.scheduling.queue import Shape
from boxsched.scheduling.reasons import (
    BehindReservation,
    NeedsBoxes,
    NoSuchBoxes,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Reason,
    Runs,
    WaitsForLane,
)
from boxsched.scheduling.why import why, why_shapes
from boxsched.scheduling.workload import RunningGroup, Workload
from boxsched.states import State

BLOCKERS_AT_MOST = 100
Sentences = Callable[[WorkloadId, State], str | None]  # why a workload in that state waits

CODES: dict[type, str] = {
    WaitsForLane: "waits_for_lane",
    NoSuchBoxes: "no_such_boxes",
    NeedsBoxes: "needs_boxes",
    PlanLimit: "plan_limit",
    ProjectLimit: "project_limit",
    BehindReservation: "behind_reservation",
    QueueOrder: "queue_order",
    Runs: "running",
}


@attrs.frozen
class Blocker:
    """A workload that is in the way; its ends in seconds, None while it waits itself, or runs where
    nobody hears of it. ``usual_end`` goes by its jobs' usual durations and may have passed; a job
    that is late is expected to run to its time limit, which ``expected_end`` goes by."""

    id: WorkloadId
    number: int
    kind: Kind
    project: str
    boxes: int  # that it holds, or asks for
    expected_end: float | None
    usual_end: float | None


@attrs.frozen
class WhyReport:
    """An explanation (docs/scheduling.md, "Reasons"); ``position`` is 1 for the next in the queue.

    ``promised_start`` is the first time that was reserved for it, which may have passed; None: it
    was never the head.
    """

    phase: str
    reason: str
    text: str
    blocked_by: tuple[Blocker, ...]
    needs: dict[str, int]
    free: dict[str, int]
    position: int | None
    expected_start: float | None
    promised_start: float | None


def explain(books: Books, id_: WorkloadId, now: float) -> WhyReport | None:
    """None where the engine has no such unfinished workload."""
    report = explain_now(books, id_, now)
    if report is None or books.core.workloads[id_].run is not None:
        return report
    return attrs.evolve(report, expected_start=forecast(books.core, id_, now))


def explain_now(books: Books, id_: WorkloadId, now: float) -> WhyReport | None:
    """The same without the time that it is expected to start at, which takes long to find."""
    core = books.core
    reason = why(core, id_, now)
    if reason is None:
        return None
    workload = core.workloads[id_]
    live = books.workloads[id_]
    code, phase = CODES[type(reason)], "admission"
    if workload.run is not None:
        phase = "assignment"
        if unseen(books, live):
            code = "unknown_job"
        elif unbegun(live):
            code = "needs_boxes"
    elif workload.state is State.REGISTERED:
        phase = "ordering"
    waits = workload.run is None
    absent = absences(books)
    in_the_way = _in_the_way(books, workload, reason, absent, now)
    blockers = tuple(_blocker(books, w, now) for w in in_the_way)
    return WhyReport(
        phase=phase,
        reason=code,
        text=_sentence(books, live, reason, code, absent),
        blocked_by=blockers,
        needs={pool.box_type: count for pool, count in workload.ask.needs} if waits else {},
        free={pool.box_type: pool.free for pool, _ in workload.ask.needs} if waits else {},
        position=core.queue.position(workload) if workload.state is State.QUEUED else None,
        expected_start=None,
        promised_start=workload.promise if waits else None,
    )


def sentences(books: Books, now: float) -> Sentences:
    """Says why one waits, in a sentence for the page; None where there is nothing to say, or the
    books have it in another state than the one asked about.

    All shapes are looked at here, and again where one came meanwhile; the rest as it is asked for.
    """
    absent = absences(books)
    known = books.core.workloads

    def looked() -> dict[Shape, str]:
        reasons = why_shapes(books.core, now)
        return {shape: phrase(books, reason, absent) for shape, reason in reasons.items()}

    texts = looked()

    def sentence(id_: WorkloadId, state: State) -> str | None:
        workload = known.get(id_)
        if workload is None or books.workloads[id_].state is not state:
            return None
        if workload.ahead is not None:
            return phrase(books, WaitsForLane((workload.ahead.id,)), absent)
        if absent and workload.run is not None:
            live = books.workloads[id_]
            if jobs := unseen(books, live):
                return worker_away(books, live, jobs)
            if jobs := unbegun(live):
                return waits_for_another(jobs)
        if workload.shape is None:
            return None
        if workload.shape not in texts:
            texts.update(looked())
        return texts[workload.shape]

    return sentence


def phrase(books: Books, reason: Reason, absent: Absences) -> str:
    """The reason as a sentence; ``absent`` are the books' ``absences``."""
    if not isinstance(reason, WaitsForLane | Runs) and nobody_there(books, absent):
        return nobody_text(books)
    match reason:
        case WaitsForLane(ahead):
            return _lane(books, ahead)
        case NoSuchBoxes(box_type, asked, existing):
            there = "there is only 1" if existing == 1 else f"there are only {existing}"
            return f"Asks for {_boxes(asked, box_type)}; {there if existing else 'there is none'}."
        case NeedsBoxes(box_type, asked) if too_few_there(reason, absent):
            return f"Needs {_boxes(asked, box_type)}; {where_text(absent[box_type])}."
        case NeedsBoxes(box_type, asked, free):
            return (
                f"Needs {_boxes(asked, box_type)}; {free} free now.{beside_text(absent, box_type)}"
            )
        case PlanLimit(asked, _, limit) if asked > limit:
            return f"Asks for {_boxes(asked)}; the plan is {limit}: it can never start."
        case ProjectLimit(asked, _, limit) if asked > limit:
            return f"Asks for {_boxes(asked)}; its project has {limit}: it can never start."
        case PlanLimit(asked, used, limit):
            return f"Needs {_boxes(asked)}; {used} of the plan's {limit} are in use."
        case ProjectLimit(asked, used, limit):
            return f"Needs {_boxes(asked)}; its project uses {used} of at most {limit}."
        case BehindReservation(head, at, by_limit):
            delays = f"Would fit now, but would delay {_named(books, head)}"
            if any(pool.away for pool, _ in books.core.workloads[head].ask.needs):
                return f"{delays}."  # its time may rest on jobs that nobody hears of
            starts = f"{delays}, which is to start by {rfc3339(at)[11:19]} UTC"
            if by_limit:
                return f"{starts} and waits too long already: time limits count, not usual times."
            return f"{starts}."
        case QueueOrder(behind):
            return f"Would fit now, but comes behind {_named(books, behind)}."
        case Runs():
            return "Has its Boxes."


def _lane(books: Books, ahead: Sequence[WorkloadId]) -> str:
    first = _named(books, ahead[0]) if ahead else "an earlier one"
    live = books.workloads.get(ahead[0]) if ahead else None
    blocked = None if live is None else lane_blocked(books, live, first)
    more = f" and {len(ahead) - 1} more before it" if len(ahead) > 1 else ""
    return blocked or f"Waits for {first}{more} to finish."


def _sentence(books: Books, live: LiveWorkload, reason: Reason, code: str, absent: Absences) -> str:
    if code == "unknown_job":
        return worker_away(books, live, unseen(books, live))
    if jobs := unbegun(live):
        return waits_for_another(jobs)
    if live.state is State.STOPPING:
        return "Is being stopped: its Boxes are free when its jobs have ended."
    return phrase(books, reason, absent)


def _in_the_way(
    books: Books, workload: Workload, reason: Reason, absent: Absences, now: float
) -> Sequence[Workload]:
    """Whom it waits for, those that end first first; at most BLOCKERS_AT_MOST. None whose end would
    not help: Boxes of absent workers stay away."""
    known = books.core.workloads
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


def _running(
    books: Books, now: float, *, box_type: str | None = None, of: Workload | None = None
) -> Sequence[Workload]:
    """Running workloads in the order of their ends: on Boxes of this type, of ``of``'s project."""
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
    """Whether a Box of its jobs is free when they have ended."""
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


def _named(books: Books, id_: WorkloadId) -> str:
    live = books.workloads.get(id_)
    if live is None:
        return "an earlier one"
    project = books.projects.get(live.project, "")
    kind = "SSH session" if live.kind is Kind.SSH else str(live.kind)
    return f"{kind} #{live.number} of {project}"


def _boxes(count: int, box_type: str | None = None) -> str:
    noun = "Box" if count == 1 else "Boxes"
    kind = "" if box_type in (None, "default") else f" {box_type}"
    return f"{count}{kind} {noun}"
