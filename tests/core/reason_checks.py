"""Checks a reason that the core gives against the naive model."""

from boxsched.scheduling.reasons import (
    AwaitsPlan,
    BehindReservation,
    NeedsBoxes,
    NoSuchBoxes,
    Paused,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Runs,
    WaitsForLane,
)
from tests.reference.queueing import asks, covers, phase


def reason_is_true(reason, naive, w, now):
    """Check it; the naive model has just settled, or would change nothing if it did."""
    match phase(w):
        case "running":
            return reason == Runs()
        case "registered":
            if w["jobs"] is None:
                return reason == AwaitsPlan()
            ahead = tuple(e["id"] for e in naive.ahead(w))
            return reason == WaitsForLane(ahead) and ahead
        case "queued":
            return waits_for_that(reason, naive, w, now)
    raise AssertionError("a finished workload waits for nothing")


def waits_for_that(reason, naive, w, now):
    """Check what this kind of reason claims about the state."""
    asked, project, size = asks(w), w["project"], len(w["jobs"])
    # Run the naive queue to get its head and T. If time alone has made room since the last instant
    # (jobs are late), some would be admitted: they wait for the next instant.
    room = list(naive.admissible(now))
    if naive.paused(w):
        names = sorted(name for name, pause in naive.pauses.items() if covers(pause, w))
        return reason == Paused(names[0], tuple(names[1:]))
    match reason:
        case NoSuchBoxes(box_type, n, existing):
            return n == asked[box_type] > existing == naive.wanted[box_type]
        case ProjectLimit(n, used, limit):
            exact = n == size and used == naive.busy(project=project)
            return exact and limit == naive.limits[project] < used + n and not naive.too_large(w)
        case NeedsBoxes(box_type, n, free):
            return n == asked[box_type] > free == naive.free(box_type) and not naive.too_large(w)
        case PlanLimit(n, used, limit):
            boxes_are_free = all(naive.free(t) >= n for t, n in asked.items())
            exact = n == size and used == naive.busy() and limit == naive.plan
            return exact and used + n > limit and boxes_are_free and not naive.too_large(w)
        case BehindReservation(head) | QueueOrder(head) if any(w is e for e in room):
            return head == naive.head["id"]
        case BehindReservation(head, at, by_limit):
            behind = naive.policy == "backfill" and would_fit(naive, w)
            exact = at == naive.left["at"] and by_limit == naive.left["guarded"]
            return behind and head == naive.head["id"] and exact
        case QueueOrder(behind):
            return would_fit(naive, w) and behind in holders(naive, w)
    return False


def would_fit(naive, w):
    return naive.fits(w) and not naive.over_limit(w)


def holders(naive, w):
    """Return the ids of the workloads that ``w``, which would fit, may have to wait for."""
    before = naive.queue()[: naive.queue().index(w)]
    limited = [
        e for e in before
        if e["project"] == w["project"] and naive.over_limit(e) and not naive.too_large(e)
        and not naive.paused(e)
    ][:1]  # fmt: skip
    head = [naive.head] if naive.policy == "strict" and naive.head else []
    return {e["id"] for e in limited + head} if naive.policy != "best_effort" else set()
