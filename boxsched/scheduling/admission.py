"""Phase 2, admission: who of the queue may have Boxes now, whole, and why the others may not.

One ``Pass`` judges the shapes' heads in queue order. What it hands out is never given back in the
same pass, so a "no" to the head of a shape holds for all of that shape (``admitted`` says what the
others of it may still do to their project). The rules are in docs/scheduling.md, "The gate" to
"Guard". Backfilling is EASY's (Lifka 1995): a reservation for the head only, with the plan counted
like Boxes.

A job that runs longer than expected is taken to run to its time limit. To take it to end at any
moment would set the head's time to now, and then nothing could be let past the head.
"""

import enum
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from heapq import merge
from math import inf

import attrs

from boxsched.model import Policy, ProjectId
from boxsched.scheduling.boxes import Box, Pool
from boxsched.scheduling.interface import QueueRules
from boxsched.scheduling.queue import Shape
from boxsched.scheduling.workload import (
    Ask,
    Entry,
    ProjectUse,
    RunningEntry,
    RunningGroup,
    Workload,
)


class Verdict(enum.IntEnum):
    """What a pass says to the head of a shape."""

    ADMIT = 0
    NO_SUCH_BOXES = 1  # more of a type than there are, or more than the plan allows at all
    PROJECT_LIMIT = 2
    BEHIND_PROJECT = 3  # an earlier one of its project waits for the project's limit
    NO_ROOM = 4  # too few Boxes free, or the plan is used up
    BEHIND_HEAD = 5  # it fits; the policy is strict
    DELAYS_HEAD = 6  # it fits now; at the head's time it would still be in the way


# A head that waits longer than its promise by so many times its longest time limit is guarded.
GUARD_LIMITS = 2


@attrs.define(eq=False)
class Usage:
    """What is in use over all Box types, and what is running, by the end that counts."""

    boxes: int = 0
    # RunningGroup.entry, sorted; plain lists, since together they are never longer than there are
    # Boxes. By expected end: those on time; by time limit: those that ``advance`` found late.
    running: list[RunningEntry] = attrs.field(factory=list)
    late: list[RunningEntry] = attrs.field(factory=list)

    def add(self, group: RunningGroup) -> None:
        insort(self.running, group.entry)

    def remove(self, group: RunningGroup) -> None:
        entries = self.late if group.late else self.running
        del entries[bisect_left(entries, group.entry)]

    def leave(self, box: Box) -> None:
        """The job on this Box is no longer one of its group."""
        group = box.group
        assert group is not None
        group.jobs -= 1
        group.returning -= not box.retired
        if not group.jobs:
            self.remove(group)
            del group.entry  # it holds the group
        box.group = None

    def advance(self, now: float) -> None:
        """It is ``now``: groups whose expected end has passed are late from here on. Each moves
        once, so that a pass costs nothing for those that it has seen."""
        passed = bisect_left(self.running, (now,))
        for _, id_, number, group in self.running[:passed]:
            group.late = True
            group.entry = (group.last, id_, number, group)
            insort(self.late, group.entry)
        del self.running[:passed]

    def by_end(self, now: float) -> Iterator[RunningEntry]:
        """All that runs, in the order of the ends that count at ``now``; such an end may be in the
        past. Changes nothing, so that it can be asked between two instants."""
        passed = bisect_left(self.running, (now,))
        if not (passed or self.late):
            return iter(self.running)
        since = ((group.last, id_, n, group) for _, id_, n, group in self.running[:passed])
        return merge(self.running[passed:], self.late, sorted(since))


@attrs.define(eq=False)
class Reservation:
    """The head's time, and what it leaves free then: by type, of the plan, of its project.

    ``by_limit``: later workloads are judged by their time limits, not their expected durations.
    """

    at: float
    by_limit: bool
    left: dict[Pool, int]
    plan_left: int | None
    project: ProjectUse | None
    project_left: int

    def spares(self, ask: Ask, project: ProjectUse | None, now: float) -> bool:
        """Whether the jobs of such a workload that still run at ``at`` fit into what is left; if so
        they are taken out of it."""
        late: list[tuple[Pool, int]] = []
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

    Each running job is taken to end at started + expected or, once that has passed, at
    max(started + limit, now). The head must fit into what exists. Infinite where it fits only with
    Boxes that are away: nobody knows when these come free.
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
    head: Workload, usage: Usage, pools: Iterable[Pool], plan: int | None, now: float
) -> Reservation:
    """The earliest time at which enough will be free for ``head``, and what it leaves free then.

    Where there is no such time, ``at`` is infinite, and nothing that fits now can delay the head.
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


class Pass:
    """One pass over the queue at one instant: judges shapes in queue order, remembers the head."""

    __slots__ = (
        "_now",
        "_passed_over",
        "_plan",
        "_policy",
        "_pools",
        "_reservation",
        "_usage",
        "head",
        "held",
    )

    def __init__(self, rules: QueueRules, usage: Usage, pools: Iterable[Pool], now: float) -> None:
        self._policy = rules.policy
        self._plan = rules.max_boxes
        self._usage = usage
        self._pools = pools
        self._now = now
        self._reservation: Reservation | None = None
        self.head: Shape | None = None
        # The first of a project that waits for its limit: it holds back all later ones.
        self.held: dict[ProjectId, Entry] = {}
        # Shapes of limited projects that were told no for another reason.
        self._passed_over: dict[ProjectId, list[Shape]] = {}

    def judge(self, shape: Shape) -> Verdict:
        """1. Passed over: what can never fit now. 2. Its project's limit. 3. Boxes and plan: the
        first that does not fit is the head. 4. Behind the head: what the policy says."""
        ask, project, plan = shape.ask, shape.project, self._plan
        for pool, count in ask.needs:
            if count > pool.wanted:
                return Verdict.NO_SUCH_BOXES
        if plan is not None and ask.total > plan:
            return Verdict.NO_SUCH_BOXES
        if project is not None:
            held = self.held.get(project.id)
            if held is not None and shape.waiting[0] > held:
                return Verdict.BEHIND_PROJECT
            assert project.limit is not None
            if ask.total > project.limit:
                return Verdict.PROJECT_LIMIT  # the limit shrank: never, and nobody waits for that
            if project.used + ask.total > project.limit:
                if self._policy is not Policy.BEST_EFFORT:
                    self.held[project.id] = shape.waiting[0]
                return Verdict.PROJECT_LIMIT
        if not self.has_room(ask):
            if self.head is None and self._policy is not Policy.BEST_EFFORT:
                self.head = shape
            verdict = Verdict.NO_ROOM
        elif self.head is None:
            return Verdict.ADMIT
        elif self._policy is Policy.STRICT:
            return Verdict.BEHIND_HEAD
        elif self.reservation().spares(ask, project, self._now):
            return Verdict.ADMIT
        else:
            verdict = Verdict.DELAYS_HEAD
        if project is not None:
            self._passed_over.setdefault(project.id, []).append(shape)
        return verdict

    def admitted(self, workload: Workload) -> None:
        """It has its Boxes now. If that uses its project up, those of a shape that was told no
        before still come to their turn, and the first to exceed the limit holds the project."""
        project, entry = workload.project, workload.entry
        if project.limit is None or self._policy is Policy.BEST_EFFORT or entry is None:
            return
        for shape in self._passed_over.get(project.id, ()):
            if shape.ask.total <= project.limit < project.used + shape.ask.total:
                place = shape.waiting.bisect_right(entry)
                if place < len(shape.waiting):
                    held = self.held.get(project.id)
                    first = shape.waiting[place]
                    self.held[project.id] = first if held is None else min(held, first)

    def has_room(self, ask: Ask) -> bool:
        """Whether free Boxes and the plan cover all its jobs now."""
        for pool, count in ask.needs:
            if count > pool.free:
                return False
        return self._plan is None or self._usage.boxes + ask.total <= self._plan

    def lacks_head(self) -> bool:
        """Whether the pass has to look for the head whatever is free: to make it a promise."""
        return self.head is None and self._policy is Policy.BACKFILL

    def promise(self) -> float | None:
        """The time to promise to the head: where it is the head for the first time, and has one."""
        head = self.head
        if head is None or self._policy is not Policy.BACKFILL or head.head.promise is not None:
            return None
        at = earliest(head.head, self._usage, self._plan, self._now)
        return at if at < inf else None

    def reservation(self) -> Reservation:
        """The head's; made when it is first asked for: between the head and the first workload
        behind it that would fit, nothing is handed out."""
        if self._reservation is None:
            assert self.head is not None
            self._reservation = reserve(
                self.head.head, self._usage, self._pools, self._plan, self._now
            )
        return self._reservation

    def anything_left(self) -> bool:
        """Whether any Box, of any type, could still be given: every workload asks for one."""
        if self._plan is not None and self._usage.boxes >= self._plan:
            return False
        for pool in self._pools:  # noqa: SIM110 (a generator costs more than the rest)
            if pool.free:
                return True
        return False


def _summed(counts: list[tuple[Pool, int]]) -> dict[Pool, int]:
    total: dict[Pool, int] = {}
    for pool, count in counts:
        total[pool] = total.get(pool, 0) + count
    return total
