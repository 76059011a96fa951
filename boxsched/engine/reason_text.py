"""Turn the core's reasons into sentences for users."""

from collections.abc import Callable, Sequence

from boxsched.engine.absent_text import (
    Absences,
    beside_text,
    nobody_text,
    nobody_there,
    too_few_there,
    usable,
    where_text,
)
from boxsched.engine.books import Books, LiveJob
from boxsched.engine.sight import box_type_of, lane_blocked, listed, waits_for_another
from boxsched.model import Kind, WorkloadId
from boxsched.said_times import said_time
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
from boxsched.states import State

# Whether a reader sees what concerns this project and server (None: no server).
Sees = Callable[[str, str | None], bool]


def sees_all(_project: str, _server: str | None) -> bool:
    return True


def phrase(books: Books, reason: Reason, absent: Absences, sees: Sees = sees_all) -> str:
    """Return the reason as a sentence. ``absent``: the result of ``capacity.absences``.

    Workloads that the reader does not see are not named.
    """
    if not isinstance(reason, WaitsForLane | AwaitsPlan | Paused | Runs) and nobody_there(
        books, absent
    ):
        return nobody_text(books)
    match reason:
        case WaitsForLane(ahead):
            return _lane(books, ahead)
        case AwaitsPlan():
            return "Its jobs are not known yet."
        case Paused(name, others):
            also = f" Also paused by {_pauses(others)}." if others else ""
            return f"{_paused(books, name)}{also}"
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
            delays = f"Would fit now, but would delay {_named(books, head, sees)}"
            if any(pool.away for pool, _ in books.core.workloads[head].ask.needs):
                return f"{delays}."  # its time may depend on jobs of absent workers
            starts = f"{delays}, which is to start by {said_time(at)}"
            if by_limit:
                return f"{starts} and waits too long already: time limits count, not usual times."
            return f"{starts}."
        case QueueOrder(behind):
            return f"Would fit now, but comes behind {_named(books, behind, sees)}."
        case Runs():
            return "Has its Boxes."


def again_text(books: Books, jobs: Sequence[LiveJob], absent: Absences) -> str:
    """Return the sentences for a workload with jobs that wait for another Box, and what helps."""
    text = waits_for_another(books, jobs)
    if nobody_there(books, absent):
        return f"{text} {nobody_text(books)}"
    box_type = box_type_of(books, jobs[0])
    if usable(books, absent, box_type):
        return f"{text} It gets the first {_boxes(1, box_type)[2:]} that becomes free."
    return f"{text} No worker with {_boxes(2, box_type)[2:]} is given jobs: start one."


def _lane(books: Books, ahead: Sequence[WorkloadId]) -> str:
    first = _named(books, ahead[0]) if ahead else "an earlier one"
    live = books.workloads.get(ahead[0]) if ahead else None
    blocked = None if live is None else lane_blocked(books, live, first)
    if live is not None and blocked is None and live.state is State.QUEUED:
        pause = books.core.pauses.covering(books.core.workloads[live.id])
        if pause is not None:
            return (
                f"Waits for {first}, which is paused ({pause}): resume it, or stop #{live.number}."
            )
    more = f" and {len(ahead) - 1} more before it" if len(ahead) > 1 else ""
    return blocked or f"Waits for {first}{more} to finish."


def _paused(books: Books, name: str) -> str:
    pause = books.pauses.get(name)
    if pause is None:
        return f"Paused ({name})."
    until = "" if pause.until is None else f" until {said_time(pause.until)}"
    return f"Paused by {pause.by}{until} ({name}): {pause.note.rstrip('.')}."


def _pauses(names: Sequence[str]) -> str:
    return f"the pause{'s' if len(names) > 1 else ''} {listed(names)}"


def _named(books: Books, id_: WorkloadId, sees: Sees = sees_all) -> str:
    live = books.workloads.get(id_)
    if live is None:
        return "an earlier one"
    project = books.projects.get(live.project, "")
    if not sees(project, live.server):
        return "one of another project or server"
    kind = "SSH session" if live.kind is Kind.SSH else str(live.kind)
    return f"{kind} #{live.number} of {project}"


def _boxes(count: int, box_type: str | None = None) -> str:
    noun = "Box" if count == 1 else "Boxes"
    kind = "" if box_type in (None, "default") else f" {box_type}"
    return f"{count}{kind} {noun}"
