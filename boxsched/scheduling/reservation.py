"""The head's reservation: when enough Boxes will be free for it, and what it leaves free then.

A job that runs longer than expected is assumed to run to its time limit. If it were assumed to end
at any moment, the head's time would be now, and nothing could start past the head.
"""

from collections.abc import Iterable
from math import inf

import attrs

from boxsched.scheduling.boxes import BoxPool
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import Ask, ProjectUse, Workload

# A head is guarded once it waits this many times its longest time limit beyond its promise.
GUARD_LIMITS = 2


@attrs.define(eq=False)
class Reservation:
    """The head's time ``at``, and what the head leaves free then: Boxes by type, of the plan, and
    of its project's limit.

    ``by_limit``: later workloads are judged by their time limits, not their expected durations.
    """

    at: float
    by_limit: bool
    left: dict[BoxPool, int]
    plan_left: int | None
    project: ProjectUse | None
    project_left: int

    def spares(self, ask: Ask, project: ProjectUse | None, now: float) -> bool:
        """Whether a workload that starts now leaves the head its Boxes; if so, subtract its part.

        Only its jobs that still run at ``at`` count; they must fit into what the head leaves.
        """
        late: list[tuple[BoxPool, int]] = []
        total = 0
        for pool, expected, limit, count in ask.groups:
            if now + (limit if self.by_limit else expected) > self.at:
                late.append((pool, count))
                total += count
        if not total:
            return True
        if self.plan_left is not None and total > self.plan_left:
            return False
        of_heads_project = project is not None and project is self.project
        if of_heads_project and total > self.project_left:
            return False
        left = self.left
        if len(late) > 1:
            late = list(_summed(late).items())
        for pool, count in late:
            if count > left[pool]:
                return False
        for pool, count in late:
            left[pool] -= count
        if self.plan_left is not None:
            self.plan_left -= total
        if of_heads_project:
            self.project_left -= total
        return True


def earliest(head: Workload, usage: Usage, plan: int | None, now: float) -> float:
    """The earliest time at which enough will be free for ``head``, which does not fit now.

    Each running job is assumed to end at started + expected or, once that has passed, at
    max(started + limit, now). The head must fit into the existing Boxes. The result is infinite if
    it needs Boxes that are away: no time is known for these.
    """
    ask = head.ask
    # While a type has more busy Boxes than are wanted, the first to end free nothing: below zero.
    lacking = {pool: count - pool.free + pool.surplus for pool, count in ask.needs}
    short = sum(lack > 0 for lack in lacking.values())  # types that still have too few
    over = 0 if plan is None else usage.boxes + ask.total - plan
    for end, _, _, group in usage.by_end(now):
        lack = lacking.get(group.pool)
        if lack is not None:
            lacking[group.pool] = lack - group.returning
            short -= lack > 0 >= lack - group.returning
        over -= group.jobs
        if not short and (plan is None or over <= 0):
            return max(end, now)
    assert any(pool.away for pool, _ in ask.needs), f"no time at which {ask.needs} fit"
    return inf


def reserve(
    head: Workload, usage: Usage, pools: Iterable[BoxPool], plan: int | None, now: float
) -> Reservation:
    """Reserve the earliest time at which enough will be free for ``head``.

    If no such time is known, ``at`` is infinite, and nothing that fits now can delay the head.
    """
    ask, project = head.ask, head.project
    at = earliest(head, usage, plan, now)
    coming = {pool: pool.free - pool.surplus for pool in pools}
    used, project_used = usage.boxes, project.used
    for end, _, _, group in usage.by_end(now):
        if end > at:
            break
        coming[group.pool] += group.returning
        used -= group.jobs
        if group.workload.project is project:
            project_used -= group.jobs
    for pool, count in ask.needs:
        coming[pool] -= count
    limit, promise = project.limit, head.promise
    return Reservation(
        at=at,
        by_limit=promise is not None and now > promise + GUARD_LIMITS * ask.longest,
        left={pool: max(0, count) for pool, count in coming.items()},
        plan_left=None if plan is None else plan - used - ask.total,
        project=project if limit is not None else None,
        project_left=0 if limit is None else limit - project_used - ask.total,
    )


def _summed(counts: list[tuple[BoxPool, int]]) -> dict[BoxPool, int]:
    total: dict[BoxPool, int] = {}
    for pool, count in counts:
        total[pool] = total.get(pool, 0) + count
    return total
