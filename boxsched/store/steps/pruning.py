"""Delete old data in small slices: events, workloads with their jobs, logs.

The history is deleted from its start, whole batches at a time. A workload is deleted in the
transaction that deletes its last event. A workload that must be kept (``kept_workloads``) is
marked, because a part of its history is deleted. It is deleted later, when nothing needs it any
more. So ``boxsched check`` finds a consistent state at any moment, also after a crash.

Only the leading node prunes. If a former leader still does, ``begin_history`` lets only one of them
continue.
"""

from collections import Counter
from collections.abc import Sequence

import attrs

from boxsched.model import WorkloadId, job_id, lane_branch, lane_project
from boxsched.store.blocks import Row, Steps, load

_SQL = load("pruning.sql")
_BLOBS = load("blobs.sql")

JOBS_A_WORKLOAD = 1_024  # ids of jobs: ``model.job_id``


@attrs.frozen
class Pruned:
    """What a slice has deleted, and whether there is more to delete now."""

    events: int = 0
    workloads: int = 0
    logs: int = 0  # chunks of logs
    more: bool = False


@attrs.frozen
class CutPlace:
    """The kept workload after which the next slice begins."""

    finished_at: float = -1.0
    id: int = 0


@attrs.frozen
class HistoryStart:
    """The events of a shard up to this batch were deleted. ``at``: the time of the last one."""

    batch: int
    at: float


def prune_history(shard: int, before: float, limit: int) -> Steps[Pruned]:
    """Delete the oldest events, about ``limit``, and the workloads that finished with them."""
    found = yield _SQL["oldest_events"](shard=shard, limit=limit)
    # all of one batch, perhaps not completely read
    while len(found) == limit and found[0][0] == found[-1][0]:
        limit *= 4
        found = yield _SQL["oldest_events"](shard=shard, limit=limit)
    gone = _whole_batches(found, before)
    if not gone:
        return Pruned()
    batch, at = gone[-1][0], gone[-1][1]
    if not (yield _SQL["begin_history"](shard=shard, batch=batch, at=at)):
        return Pruned()
    told = {workload for _, _, _, workload in gone if workload is not None}
    ended = {workload for _, _, type_, workload in gone if type_ == "workload.finished"}
    dropped = yield from _drop_workloads(sorted(ended))
    yield _SQL["cut_history"].rows([(id_,) for id_ in sorted(told - dropped)])
    yield _SQL["forget_events"](shard=shard, batch=batch)
    return Pruned(len(gone), len(dropped), 0, len(found) == limit)


def _whole_batches(found: Sequence[Row], before: float) -> Sequence[Row]:
    """Return the events to delete: old ones, of whole batches. The last batch is left out, because
    it is the newest or may have more events.
    """
    if not found:
        return ()
    young = next((row[0] for row in found if row[1] >= before), found[-1][0])
    return [row for row in found if row[0] < min(young, found[-1][0])]


def prune_cut(after: CutPlace, before: float, limit: int) -> Steps[tuple[int, CutPlace | None]]:
    """Of the next ``limit`` kept workloads, delete those that are no longer needed; return how
    many, and where to continue (None at the end).
    """
    found = yield _SQL["cut_workloads"](
        finished_at=after.finished_at, id=after.id, before=before, limit=limit
    )
    dropped = yield from _drop_workloads([id_ for id_, _ in found])
    if len(found) < limit:
        return len(dropped), None
    id_, finished_at = found[-1]
    return len(dropped), CutPlace(finished_at, id_)


def _drop_workloads(ids: Sequence[int]) -> Steps[set[int]]:
    """Delete those of these workloads that need not be kept; return them."""
    kept = {id_ for (id_,) in (yield _SQL["kept_workloads"].rows([(id_,) for id_ in ids]))}
    asked = [(id_,) for id_ in ids if id_ not in kept]
    boxes: dict[int, int] = dict((yield _SQL["boxes_of"].rows(asked)))
    jobs = [
        (job_id(WorkloadId(id_), index),) for id_, count in boxes.items() for index in range(count)
    ]
    yield _SQL["drop_logs"].rows(jobs)
    yield _BLOBS["drop_artifacts"].rows(jobs)
    yield _SQL["drop_log_files"].rows(jobs)
    yield _SQL["drop_jobs"].rows(jobs)
    projects = Counter(project for (project,) in (yield _SQL["drop_workloads"].rows(asked)))
    yield _SQL["count_pruned"].rows(sorted(projects.items()))
    return set(boxes)


def idle_lanes(after: str, before: float, limit: int) -> Steps[tuple[list[str], str | None]]:
    """Of the next ``limit`` lanes with a count of superseded builds, return those without a build
    since this time, and where to continue (None at the end).
    """
    found = [lane for (lane,) in (yield _SQL["counted_lanes"](after=after, limit=limit))]
    rows = [(lane, lane_project(lane), lane_branch(lane)) for lane in found]
    in_use = {lane for (lane,) in (yield _SQL["lanes_in_use"].rows(rows, before=before))}
    idle = [lane for lane in found if lane not in in_use]
    return idle, found[-1] if len(found) == limit else None


def prune_logs(after: int, before: float, limit: int) -> Steps[tuple[int, int | None]]:
    """Delete logs of the next jobs whose workloads finished before this time, at most ``limit``
    chunks; return how many, and after which job to continue (None at the end).
    """
    rows = yield _SQL["logs_behind"](job=after, limit=limit)
    found = list(dict.fromkeys(job for (job,) in rows))
    if not found:
        return 0, None
    workloads = sorted({job // JOBS_A_WORKLOAD for job in found})
    ends = {
        id_: (made, finished)
        for id_, made, finished in (yield _SQL["ends_of"].rows([(id_,) for id_ in workloads]))
    }
    old = [job for job in found if _is_old(ends.get(job // JOBS_A_WORKLOAD), before)]
    last = found[-1]
    if len(rows) == limit and len(found) > 1 and old and old[-1] == last:
        old.pop()  # it may have more chunks: it is the first of the next slice
        last = found[-2]
    if len(rows) == limit and found == old:  # a single long log
        tail = yield _SQL["drop_tail"](job=last, limit=limit)
        return len(tail), last - 1
    dropped = yield _SQL["drop_logs"].rows([(job,) for job in old])
    made = ends.get(last // JOBS_A_WORKLOAD, (before, None))[0]
    is_end = len(rows) < limit or made >= before  # later workloads have greater ids
    return len(dropped), None if is_end else last


def _is_old(end: tuple[float, float | None] | None, before: float) -> bool:
    """Whether the workload is old; true if it was deleted."""
    return end is None or (end[1] is not None and end[1] < before)


def history_starts() -> Steps[dict[int, HistoryStart]]:
    found = yield _SQL["history_starts"]()
    return {shard: HistoryStart(batch, at) for shard, batch, at in found}


def was_given(id_: WorkloadId) -> Steps[bool]:
    return bool((yield _SQL["were_given"](id=id_)))


def database_bytes() -> Steps[int]:
    ((size,),) = yield _SQL["database_bytes"]()
    return int(size)
