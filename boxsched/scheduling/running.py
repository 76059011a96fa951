"""Phase 3: a workload's jobs get Boxes, run, and free the Boxes when they end."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from boxsched.model import BoxId
from boxsched.scheduling.boxes import Box
from boxsched.scheduling.interface import Admitted, BoxFreed, Decision
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import Run, RunningGroup, Workload, number_given_again
from boxsched.states import TRANSITIONS, Move, moved


def admit(workload: Workload, usage: Usage, now: float) -> Admitted:
    """Give each of its jobs a free Box; there are enough."""
    project, branch, ask = workload.project, workload.branch, workload.ask
    boxes: list[Box | None] = []
    ids: list[BoxId] = []
    warm = 0
    for pool in ask.pool_of:
        box, was_warm = pool.take(project.id, branch)
        boxes.append(box)
        ids.append(box.id)
        warm += was_warm
    workload.state = moved(TRANSITIONS, workload.state, Move.ADMITTED)
    run_on(workload, boxes, usage, now)
    return Admitted(workload.id, tuple(ids), warm)


def run_on(
    workload: Workload,
    boxes: list[Box | None],
    usage: Usage,
    started_at: float,
    given_again: Mapping[int, float] = MappingProxyType({}),
) -> None:
    """Restore jobs that run on these Boxes, by job; None for a job that has ended.

    ``given_again``: when each job that was given again was given; the others started with the
    workload.
    """
    groups: dict[int, RunningGroup] = {}
    live = 0
    for job, (box, of) in enumerate(zip(boxes, workload.ask.group_of, strict=True)):
        if box is None:
            continue
        live += 1
        number = of if job not in given_again else number_given_again(workload.ask, job)
        group = groups.get(number)
        if group is None:
            since = given_again.get(job, started_at)
            group = RunningGroup(since, workload.ask.groups[of], workload, number, 0, 0)
            groups[number] = group
        group.jobs += 1
        group.returning += not box.retired
        box.group = group
    for group in groups.values():
        usage.add(group)
    workload.run = Run(started_at, boxes, live)
    usage.boxes += live
    workload.project.used += live


def free_boxes(
    workload: Workload,
    jobs: Iterable[int],
    boxes: dict[BoxId, Box],
    usage: Usage,
    decisions: list[Decision],
) -> None:
    """Free or remove the Boxes of these jobs, which have ended. ``boxes``: all existing Boxes."""
    run, project = workload.run, workload.project
    assert run is not None
    freed = 0
    for job in jobs:
        box = run.boxes[job]
        if box is None:
            continue  # its end was reported before
        run.boxes[job] = None
        freed += 1
        usage.leave(box)
        gone = box.pool.give_back(box, project.id, workload.branch)
        if gone:
            del boxes[box.id]
        decisions.append(BoxFreed(box.id, gone))
    run.live -= freed
    usage.boxes -= freed
    project.used -= freed
