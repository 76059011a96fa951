"""What the core stores about a workload: little while it waits, more while it runs."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from boxsched.model import Kind, ProjectId, WorkloadId
from boxsched.scheduling.boxes import Box, BoxPool
from boxsched.scheduling.interface import JobAsk
from boxsched.states import State, StopCause

if TYPE_CHECKING:
    from boxsched.scheduling.queue import Shape

# (key, key, id, workload): ordered by the queue's key; the id breaks every tie before the workload
# itself would be compared.
Entry = tuple[float, float, int, Any]


@attrs.define(eq=False)
class ProjectUse:
    """A project's Boxes in use, and its limit."""

    id: ProjectId
    limit: int | None = None
    used: int = 0
    unfinished: int = 0


class AskedGroup(NamedTuple):
    """Equal jobs of one workload; durations in seconds."""

    pool: BoxPool
    expected: float
    limit: float
    jobs: int


@attrs.define(eq=False)
class Ask:
    """What a workload's jobs need; one shared object for all workloads with equal needs."""

    jobs: tuple[JobAsk, ...]
    total: int
    needs: tuple[tuple[BoxPool, int], ...]  # Boxes by type
    groups: tuple[AskedGroup, ...]  # jobs by Box type, expected duration and limit
    group_of: tuple[int, ...]  # job -> its group
    pool_of: tuple[BoxPool, ...]  # job -> its type's Boxes
    only: BoxPool | None  # the pool, if all jobs have the same type
    longest: float  # the greatest time limit of its jobs, in seconds
    users: int = 0


def ask_for(jobs: tuple[JobAsk, ...], pools: dict[str, BoxPool]) -> Ask:
    """Count the jobs by Box type, and by type, duration and limit; in the order of the jobs.

    No jobs: the ask of a workload whose jobs are not known yet.
    """
    if not jobs:
        return Ask(jobs, 0, (), (), (), (), None, 0.0)
    if jobs.count(jobs[0]) == len(jobs):  # most gangs; and gangs can be large
        box_type, expected, limit = jobs[0]
        pool, n = pools[box_type], len(jobs)
        group = AskedGroup(pool, expected, limit, n)
        return Ask(jobs, n, ((pool, n),), (group,), (0,) * n, (pool,) * n, pool, limit)
    numbers: dict[JobAsk, int] = {}
    counts: list[int] = []
    group_of: list[int] = []
    for job in jobs:
        number = numbers.setdefault(job, len(counts))
        if number == len(counts):
            counts.append(0)
        counts[number] += 1
        group_of.append(number)
    needs: dict[str, int] = {}
    for job, number in numbers.items():
        needs[job.box_type] = needs.get(job.box_type, 0) + counts[number]
    return Ask(
        jobs=jobs,
        total=len(jobs),
        needs=tuple((pools[box_type], n) for box_type, n in needs.items()),
        groups=tuple(
            AskedGroup(pools[job.box_type], job.expected, job.limit, counts[n])
            for job, n in numbers.items()
        ),
        group_of=tuple(group_of),
        pool_of=tuple(pools[job.box_type] for job in jobs),
        only=pools[jobs[0].box_type] if len(needs) == 1 else None,
        longest=max(job.limit for job in jobs),
    )


@attrs.define(eq=False)
class Lane:
    """Workloads that run one after the other; a linked list, because one in the middle may be
    removed.
    """

    key: Hashable
    first: "Workload | None" = None
    last: "Workload | None" = None


@attrs.define(eq=False)
class RunningGroup:
    """Jobs of one workload with one Box type, one start, one expected end and one time limit.

    A job that was given again has its own group (``number_given_again``), because its times count
    from the start of its new attempt.
    """

    started_at: float
    asked: AskedGroup
    workload: "Workload"
    number: int  # unique in its workload
    jobs: int  # still running
    returning: int  # how many of their Boxes will be free again
    late: bool = False  # the expected end has passed: ``last`` is what counts now

    # By the end that counts; the workload's id and the group's number break ties.
    entry: "RunningEntry" = attrs.field(init=False)
    pool: BoxPool = attrs.field(init=False)
    end: float = attrs.field(init=False)  # when they should have ended
    last: float = attrs.field(init=False)  # when they reach their time limit

    def __attrs_post_init__(self) -> None:
        self.pool = self.asked.pool
        self.end = self.started_at + self.asked.expected
        self.last = self.started_at + self.asked.limit
        self.entry = (self.end, self.workload.id, self.number, self)

    def taken_to_end(self, now: float) -> float:
        """Return when its jobs are expected to end (docs/scheduling.md, "Late jobs")."""
        return self.end if self.end >= now else max(self.last, now)


def number_given_again(ask: Ask, job: int) -> int:
    """The group number of a job that was given again: above all numbers of the ask's own groups."""
    return len(ask.groups) + job


RunningEntry = tuple[float, int, int, RunningGroup]


@attrs.define(eq=False)
class Run:
    """The running part of a workload: which job has which Box."""

    started_at: float
    boxes: list[Box | None]  # by job; None = it has ended. ``Box.group`` is the job's group
    live: int
    failed: bool = False
    stop_cause: StopCause | None = None

    def live_jobs(self) -> tuple[int, ...]:
        return tuple(job for job, box in enumerate(self.boxes) if box is not None)

    def take_apart(self) -> None:
        """Break its reference cycles, so that it is freed without the garbage collector."""
        for group in self.groups():
            del group.entry
        for box in self.boxes:
            if box is not None:
                box.group = None

    def groups(self) -> list[RunningGroup]:
        """The groups of the jobs that still run, in the order of their first jobs."""
        found = {box.group.number: box.group for box in self.boxes if box and box.group}
        return list(found.values())

    def given_again(self, ask: Ask) -> dict[int, float]:
        """Return when each running job with another attempt was assigned again, by its place."""
        return {
            job: box.group.started_at
            for job, box in enumerate(self.boxes)
            if box and box.group and box.group.number == number_given_again(ask, job)
        }

    def jobs_in_sight(self) -> tuple[int, ...]:
        """The running jobs whose Boxes are not away."""
        return tuple(j for j, box in enumerate(self.boxes) if box is not None and not box.away)


@attrs.define(eq=False)
class Workload:
    id: WorkloadId
    kind: Kind
    project: ProjectUse
    branch: str | None
    ask: Ask
    entry: Entry | None
    fail_fast: bool
    created_at: float
    priority: int
    state: State = State.REGISTERED
    lane: Lane | None = None
    ahead: "Workload | None" = None
    behind: "Workload | None" = None
    shape: "Shape | None" = None  # while it waits in the queue
    automatic: bool = False  # an automatic deploy
    spared: bool = False  # no strategy touches it
    promise: float | None = None  # the first time that was reserved for it as the head
    run: Run | None = None

    @property
    def planned(self) -> bool:
        """Whether its jobs are known."""
        return self.ask.total > 0

    def take_apart(self) -> None:
        """Break its reference cycles; it has finished, or its whole core is not used any more."""
        self.entry = self.lane = self.ahead = self.behind = self.shape = None
        if self.run is not None:
            self.run.take_apart()
