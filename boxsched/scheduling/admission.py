"""Phase 2, admission: which waiting workloads get all their Boxes now, and why others do not.

A ``Pass`` judges the first workload of each shape, in queue order. A pass only hands out Boxes, so
a "no" to the first of a shape holds for the whole shape. One thing remains to do for the others:
they may still hold back their project (``Pass.admitted``). The rules are in docs/scheduling.md,
"The gate" to "Guard". Backfilling is EASY's (Lifka 1995): a reservation for the head only, with the
plan counted like Boxes.
"""

import enum
from collections.abc import Iterable
from math import inf

from boxsched.model import Policy, ProjectId
from boxsched.scheduling.boxes import BoxPool
from boxsched.scheduling.interface import Decision, Promised, QueueRules
from boxsched.scheduling.queue import Queue, Shape
from boxsched.scheduling.reservation import Reservation, earliest, reserve
from boxsched.scheduling.running import admit
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import Ask, Entry, Workload


class PassVerdict(enum.IntEnum):
    """What a pass decides about the first workload of a shape."""

    ADMIT = 0
    NO_SUCH_BOXES = 1  # more Boxes of a type than exist, or more than the plan allows at all
    PROJECT_LIMIT = 2
    BEHIND_PROJECT = 3  # an earlier one of its project waits for the project's limit
    NO_ROOM = 4  # too few free Boxes, or the plan is used up
    BEHIND_HEAD = 5  # it fits; the policy is strict
    DELAYS_HEAD = 6  # it fits now, but would still occupy Boxes at the head's time


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

    def __init__(
        self, rules: QueueRules, usage: Usage, pools: Iterable[BoxPool], now: float
    ) -> None:
        self._policy = rules.policy
        self._plan = rules.max_boxes
        self._usage = usage
        self._pools = pools
        self._now = now
        self._reservation: Reservation | None = None
        self.head: Shape | None = None
        # By project: the first workload that waits for its limit. It holds back all later ones.
        self.held: dict[ProjectId, Entry] = {}
        # By limited project: its shapes that were refused for another reason.
        self._passed_over: dict[ProjectId, list[Shape]] = {}

    def judge(self, shape: Shape) -> PassVerdict:
        """Judge the first workload of the shape, in this order: 1. can it fit at all; 2. its
        project's limit; 3. free Boxes and the plan (the first that does not fit is the head);
        4. behind the head: the policy."""
        ask, project, plan = shape.ask, shape.project, self._plan
        for pool, count in ask.needs:
            if count > pool.wanted:
                return PassVerdict.NO_SUCH_BOXES
        if plan is not None and ask.total > plan:
            return PassVerdict.NO_SUCH_BOXES
        if project is not None:
            held = self.held.get(project.id)
            if held is not None and shape.waiting[0] > held:
                return PassVerdict.BEHIND_PROJECT
            assert project.limit is not None
            if ask.total > project.limit:
                return (
                    PassVerdict.PROJECT_LIMIT
                )  # the limit was lowered: it can never start, and holds back no other
            if project.used + ask.total > project.limit:
                if self._policy is not Policy.BEST_EFFORT:
                    self.held[project.id] = shape.waiting[0]
                return PassVerdict.PROJECT_LIMIT
        if not self.has_room(ask):
            if self.head is None and self._policy is not Policy.BEST_EFFORT:
                self.head = shape
            verdict = PassVerdict.NO_ROOM
        elif self.head is None:
            return PassVerdict.ADMIT
        elif self._policy is Policy.STRICT:
            return PassVerdict.BEHIND_HEAD
        elif self.reservation().spares(ask, project, self._now):
            return PassVerdict.ADMIT
        else:
            verdict = PassVerdict.DELAYS_HEAD
        if project is not None:
            self._passed_over.setdefault(project.id, []).append(shape)
        return verdict

    def admitted(self, workload: Workload) -> None:
        """Note that the workload has its Boxes now.

        Its project may have reached its limit by that. Then workloads of the shapes that were
        refused before, and that stand behind it in the queue, exceed the limit when it is their
        turn. The first of them, over all these shapes, holds back its project.
        """
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
        """Whether the pass must still find the head, even with no Box free: it gets a promise."""
        return self.head is None and self._policy is Policy.BACKFILL

    def promise(self) -> float | None:
        """Return the time to promise to the head; None if it has a promise or no time is known."""
        head = self.head
        if head is None or self._policy is not Policy.BACKFILL or head.head.promise is not None:
            return None
        at = earliest(head.head, self._usage, self._plan, self._now)
        return at if at < inf else None

    def reservation(self) -> Reservation:
        """The head's reservation, made at the first call: nothing is handed out between the head
        and the first workload behind it that would fit."""
        if self._reservation is None:
            assert self.head is not None
            self._reservation = reserve(
                self.head.head, self._usage, self._pools, self._plan, self._now
            )
        return self._reservation

    def anything_left(self) -> bool:
        """Whether any Box of any type can still be given; every workload asks for at least one."""
        if self._plan is not None and self._usage.boxes >= self._plan:
            return False
        for pool in self._pools:  # noqa: SIM110 (a generator costs more than the rest)
            if pool.free:
                return True
        return False


def run_pass(
    rules: QueueRules,
    queue: Queue,
    usage: Usage,
    pools: Iterable[BoxPool],
    now: float,
    decisions: list[Decision],
) -> bool:
    """Run a pass over the queue: admit what may start. Return whether another pass could admit
    more.

    A pass gives Boxes away and frees none, so a second pass finds no more room, with one exception:
    what was let past the head can put the head over its project's limit, and then the head holds
    back nobody else.
    """
    turn = Pass(rules, usage, pools, now)
    goes_on = rules.policy is not Policy.STRICT
    place, again = 0, False
    while True:
        # If no Box is free, the head must still be found, because it gets its promise.
        room = turn.anything_left()
        if not room and not turn.lacks_head():
            return again
        while True:
            if turn.head is not None:
                if not (goes_on and room):
                    return again
                place = queue.skip_hopeless(place)
            shape = queue.shape_at(place)
            if shape is None:
                return again
            if turn.judge(shape) is PassVerdict.ADMIT:
                break
            if turn.head is shape:
                _promise(turn, decisions)
            place += 1
        workload = shape.head
        again = again or (turn.head is not None and turn.head.project is workload.project)
        queue.remove(workload)
        decisions.append(admit(workload, usage, now))
        turn.admitted(workload)


def _promise(turn: Pass, decisions: list[Decision]) -> None:
    """Record the first time that is reserved for a head: its promise, which does not change."""
    at = turn.promise()
    if at is not None:
        assert turn.head is not None
        head = turn.head.head
        head.promise = at
        decisions.append(Promised(head.id, at))
