"""What the core remembers of a workload: little while it waits, more while it runs."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import attrs

from boxsched.model import Kind, ProjectId, WorkloadId
from boxsched.scheduling.boxes import Box, Pool
from boxsched.scheduling.values import JobAsk
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


@attrs.define(eq=False)
class Ask:
    """What a workload's jobs ask for, counted once for all workloads that ask the same."""

    jobs: tuple[JobAsk, ...]
    total: int
    needs: tuple[tuple[Pool, int], ...]  # Boxes by type
    groups: tuple[tuple[Pool, float, int], ...]  # Boxes by type and expected duration
    group_of: tuple[int, ...]  # job -> its group
    pool_of: tuple[Pool, ...]  # job -> its type's Boxes
    only: Pool | None  # where all are of one type
    users: int = 0


def ask_for(jobs: tuple[JobAsk, ...], pools: dict[str, Pool]) -> Ask:
    """Counts the jobs by type, and by type and expected duration, in the order of the jobs."""
    if jobs.count(jobs[0]) == len(jobs):  # most gangs; and gangs can be large
        pool, n = pools[jobs[0].box_type], len(jobs)
        group = (pool, jobs[0].expected, n)
        return Ask(jobs, n, ((pool, n),), (group,), (0,) * n, (pool,) * n, pool)
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
        groups=tuple((pools[job.box_type], job.expected, counts[n]) for job, n in numbers.items()),
        group_of=tuple(group_of),
        pool_of=tuple(pools[job.box_type] for job in jobs),
        only=pools[jobs[0].box_type] if len(needs) == 1 else None,
    )


@attrs.define(eq=False)
class Lane:
    """What is served strictly one after the other: a linked list, since its middle may go."""

    key: Hashable
    first: "Workload | None" = None
    last: "Workload | None" = None


@attrs.define(eq=False)
class RunningGroup:
    """Jobs of one workload with one Box type and one expected end."""

    end: float
    workload: "Workload"
    pool: Pool
    jobs: int  # still running
    returning: int  # of their Boxes, those that will be free again

    # Ends in order; the workload's id and the group's number break ties.
    entry: "RunningEntry" = attrs.field(init=False)


RunningEntry = tuple[float, int, int, RunningGroup]


@attrs.define(eq=False)
class Run:
    """The running part of a workload: which job has which Box."""

    started_at: float
    boxes: list[Box | None]  # by job; None = it has ended
    live: int
    groups: list[RunningGroup]
    failed: bool = False
    stop_cause: StopCause | None = None

    def live_jobs(self) -> tuple[int, ...]:
        return tuple(job for job, box in enumerate(self.boxes) if box is not None)

    def jobs_in_sight(self) -> tuple[int, ...]:
        """Those whose Boxes are not away."""
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
    run: Run | None = None
