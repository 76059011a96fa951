"""Why a workload is not further, for people: the core's reason with names, numbers and times."""

from collections.abc import Callable, Iterable, Sequence

import attrs

from boxsched.engine.books import Books, LiveWorkload
from boxsched.engine.happenings import rfc3339
from boxsched.model import Kind, WorkloadId
from boxsched.scheduling.prediction import forecast
from boxsched.scheduling.values import (
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
from boxsched.scheduling.workload import Workload
from boxsched.states import JobState, State

BLOCKERS_AT_MOST = 100

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
    """A workload that is in the way; ``expected_end`` in seconds, None while it waits itself."""

    id: WorkloadId
    number: int
    kind: Kind
    project: str
    boxes: int  # that it holds, or asks for
    expected_end: float | None


@attrs.frozen
class WhyReport:
    """The contract's explanation; ``position`` is 1 for the next in the queue."""

    phase: str
    reason: str
    text: str
    blocked_by: tuple[Blocker, ...]
    needs: dict[str, int]
    free: dict[str, int]
    position: int | None
    expected_start: float | None


def explain(books: Books, id_: WorkloadId, now: float) -> WhyReport | None:
    """None where the engine has no such unfinished workload."""
    core = books.core
    reason = why(core, id_, now)
    if reason is None:
        return None
    workload = core.workloads[id_]
    live = books.workloads[id_]
    code, phase = CODES[type(reason)], "admission"
    if workload.run is not None:
        phase = "assignment"
        if any(job.state is JobState.UNKNOWN for job in live.running or ()):
            code = "unknown_job"
    elif workload.state is State.REGISTERED:
        phase = "ordering"
    waits = workload.run is None
    blockers = tuple(_blocker(books, w) for w in _in_the_way(books, workload, reason))
    expected = forecast(core, id_, now) if waits else None
    return WhyReport(
        phase=phase,
        reason=code,
        text=_sentence(books, live, reason, code, expected),
        blocked_by=blockers,
        needs={pool.box_type: count for pool, count in workload.ask.needs} if waits else {},
        free={pool.box_type: pool.free for pool, _ in workload.ask.needs} if waits else {},
        position=core.queue.position(workload) if workload.state is State.QUEUED else None,
        expected_start=expected,
    )


def sentences(books: Books, now: float) -> Callable[[WorkloadId], str | None]:
    """Says why one waits, in a sentence for the page; None where it does not wait.

    All shapes are looked at here, once; the rest as it is asked for.
    """
    texts = {shape: phrase(books, why) for shape, why in why_shapes(books.core, now).items()}
    known = books.core.workloads

    def sentence(id_: WorkloadId) -> str | None:
        workload = known.get(id_)
        if workload is None:
            return None
        if workload.ahead is not None:
            return phrase(books, WaitsForLane((workload.ahead.id,)))
        return None if workload.shape is None else texts.get(workload.shape)

    return sentence


def phrase(books: Books, reason: Reason) -> str:
    """The reason as a sentence."""
    match reason:
        case WaitsForLane(ahead):
            first = _named(books, ahead[0]) if ahead else "an earlier one"
            more = f" and {len(ahead) - 1} more before it" if len(ahead) > 1 else ""
            return f"Waits for {first}{more} to finish."
        case NoSuchBoxes(box_type, asked, existing):
            return f"Asks for {_boxes(asked, box_type)}; there are only {existing}."
        case NeedsBoxes(box_type, asked, free):
            return f"Needs {_boxes(asked, box_type)}; {free} free now."
        case PlanLimit(asked, _, limit) if asked > limit:
            return f"Asks for {_boxes(asked)}; the plan is {limit}: it can never start."
        case ProjectLimit(asked, _, limit) if asked > limit:
            return f"Asks for {_boxes(asked)}; its project has {limit}: it can never start."
        case PlanLimit(asked, used, limit):
            return f"Needs {_boxes(asked)}; {used} of the plan's {limit} are in use."
        case ProjectLimit(asked, used, limit):
            return f"Needs {_boxes(asked)}; its project uses {used} of at most {limit}."
        case BehindReservation(head, at):
            return (
                f"Would fit now, but would delay {_named(books, head)}, "
                f"which is to start by {rfc3339(at)[11:19]} UTC."
            )
        case QueueOrder(behind):
            return f"Would fit now, but comes behind {_named(books, behind)}."
        case Runs():
            return "Has its Boxes."


def _sentence(
    books: Books, live: LiveWorkload, reason: Reason, code: str, expected: float | None
) -> str:
    if code == "unknown_job":
        return "A job's worker is away: its state is unknown."
    if live.state is State.STOPPING:
        return "Is being stopped: its Boxes are free when its jobs have ended."
    text = phrase(books, reason)
    if expected is not None:
        text += f" Expected to start by {rfc3339(expected)[11:19]} UTC."
    return text


def _in_the_way(books: Books, workload: Workload, reason: Reason) -> Sequence[Workload]:
    """Whom it waits for, those that end first first; at most BLOCKERS_AT_MOST."""
    known = books.core.workloads
    match reason:
        case WaitsForLane(ahead):
            return [known[id_] for id_ in ahead[:BLOCKERS_AT_MOST]]
        case BehindReservation(head) | QueueOrder(head):
            return [known[head]]
        case NeedsBoxes(box_type):
            return _running(books, box_type, None)
        case PlanLimit():
            return _running(books, None, None)
        case ProjectLimit():
            return _running(books, None, workload)
    return ()


def _running(books: Books, box_type: str | None, of: Workload | None) -> Sequence[Workload]:
    found: dict[WorkloadId, Workload] = {}
    for _, _, _, group in books.core.usage.running:
        if box_type is not None and group.pool.box_type != box_type:
            continue
        if of is not None and group.workload.project is not of.project:
            continue
        found[group.workload.id] = group.workload
        if len(found) == BLOCKERS_AT_MOST:
            break
    return list(found.values())


def _blocker(books: Books, workload: Workload) -> Blocker:
    live = books.workloads[workload.id]
    run = workload.run
    ends: Iterable[float] = () if run is None else (g.end for g in run.groups if g.jobs)
    return Blocker(
        id=workload.id,
        number=live.number,
        kind=live.kind,
        project=books.projects.get(live.project, ""),
        boxes=workload.ask.total if run is None else run.live,
        expected_end=max(ends, default=None),
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
