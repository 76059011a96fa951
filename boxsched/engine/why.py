"""Explain a workload's state: the core's reason with names, numbers and times."""

from collections.abc import Callable

import attrs

from boxsched.engine.absent_text import Absences
from boxsched.engine.blockers import Blocker, blockers
from boxsched.engine.books import Books, LiveWorkload
from boxsched.engine.capacity import absences
from boxsched.engine.reason_text import Sees, again_text, phrase, sees_all
from boxsched.engine.sight import unseen, waiting_again, worker_away
from boxsched.model import WorkloadId
from boxsched.protocol.shards import Pause
from boxsched.scheduling.prediction import forecast
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
from boxsched.scheduling.why import why, why_shapes
from boxsched.states import State

Sentences = Callable[[WorkloadId, State], str | None]  # returns why a workload in this state waits

CODES: dict[type, str] = {
    WaitsForLane: "waits_for_lane",
    AwaitsPlan: "planning",
    Paused: "paused",
    NoSuchBoxes: "no_such_boxes",
    NeedsBoxes: "needs_boxes",
    PlanLimit: "plan_limit",
    ProjectLimit: "project_limit",
    BehindReservation: "behind_reservation",
    QueueOrder: "queue_order",
    Runs: "running",
}


@attrs.frozen
class WhyReport:
    """An explanation (docs/scheduling.md, "Reasons"); ``position`` is 1 for the next in the queue.

    ``promised_start``: the first start that was reserved for it, which may be in the past; None: it
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
    pauses: tuple[Pause, ...] = ()  # the pauses that cover it, by name


def explain(books: Books, id_: WorkloadId, now: float) -> WhyReport | None:
    """Explain an unfinished workload; None if the engine has no such workload."""
    report = explain_now(books, id_, now)
    if report is None or books.core.workloads[id_].run is not None:
        return report
    return attrs.evolve(report, expected_start=forecast(books.core, id_, now))


def explain_now(
    books: Books, id_: WorkloadId, now: float, sees: Sees = sees_all
) -> WhyReport | None:
    """Explain it without ``expected_start``, which takes long to compute.

    ``sees``: leaves out workloads that the reader does not see.
    """
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
        elif waiting_again(books, live):
            code = "needs_boxes"
    elif workload.state is State.REGISTERED:
        phase = "ordering"
    waits = workload.run is None
    absent = absences(books)
    return WhyReport(
        phase=phase,
        reason=code,
        text=_sentence(books, live, reason, code, absent, sees),
        blocked_by=blockers(books, workload, reason, absent, now, sees),
        needs={pool.box_type: count for pool, count in workload.ask.needs} if waits else {},
        free={pool.box_type: pool.free for pool, _ in workload.ask.needs} if waits else {},
        position=core.queue.position(workload) if workload.state is State.QUEUED else None,
        expected_start=None,
        promised_start=workload.promise if waits else None,
        pauses=_pauses(books, reason),
    )


def _pauses(books: Books, reason: Reason) -> tuple[Pause, ...]:
    if not isinstance(reason, Paused):
        return ()
    found = [books.pauses.get(name) for name in (reason.name, *reason.others)]
    return tuple([one for one in found if one is not None])


def sentences(books: Books, now: float, sees: Sees = sees_all) -> Sentences:
    """Return a function that says in one sentence why a workload waits, for the page.

    The function returns None if there is nothing to say, or if the books have the workload in
    another state. This call judges all shapes; the function judges them again only for a shape that
    is new.
    """
    absent = absences(books)
    known = books.core.workloads

    def looked() -> dict[Shape, str]:
        reasons = why_shapes(books.core, now)
        return {shape: phrase(books, reason, absent, sees) for shape, reason in reasons.items()}

    texts = looked()

    def sentence(id_: WorkloadId, state: State) -> str | None:
        workload = known.get(id_)
        if workload is None or books.workloads[id_].state is not state:
            return None
        if workload.ahead is not None:
            return phrase(books, WaitsForLane((workload.ahead.id,)), absent)
        if workload.run is not None and (absent or books.absent or books.lost):
            live = books.workloads[id_]
            if jobs := unseen(books, live):
                return worker_away(books, live, jobs)
            if jobs := waiting_again(books, live):
                return again_text(books, jobs, absent)
        if workload.run is None and workload.shape is None:
            reason = why(books.core, id_, now)
            return phrase(books, reason, absent, sees) if reason is not None else None
        if workload.shape is None:
            return None
        if workload.shape not in texts:
            texts.update(looked())
        return texts[workload.shape]

    return sentence


def _sentence(
    books: Books, live: LiveWorkload, reason: Reason, code: str, absent: Absences, sees: Sees
) -> str:
    if code == "unknown_job":
        return worker_away(books, live, unseen(books, live))
    if jobs := waiting_again(books, live):
        return again_text(books, jobs, absent)
    if live.state is State.STOPPING:
        return "Is being stopped: its Boxes are free when its jobs have ended."
    return phrase(books, reason, absent, sees)
