"""The leader's side: a new epoch, the inbox, and the one fenced transaction."""

from collections.abc import Iterable, Sequence

import msgspec

from boxsched.errors import Fenced
from boxsched.model import WorkerId, WorkloadId
from boxsched.protocol.batches import (
    SUBMISSION_SET_ASIDE,
    Batch,
    BoxChange,
    Committed,
    Differences,
    DrainChange,
    Event,
    InboxEntry,
    JobChange,
    SetAside,
)
from boxsched.store import rows
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.steps import notifications
from boxsched.store.steps.workers import assignments

_SQL = load("leading.sql")

_entries = msgspec.json.Decoder(list[tuple[int, str, str, int | None]])


def raise_epoch(shard: int, node: str) -> Steps[int]:
    raised = yield _SQL["raise_epoch"](shard=shard, node=node)
    if not raised:
        raise Fenced(f"there is no shard {shard}")
    epoch: int = raised[0][0]
    return epoch


def inbox(shard: int, limit: int) -> Steps[list[InboxEntry]]:
    found = yield _SQL["inbox"](shard=shard, limit=limit)
    entries = _entries.decode(found[0][0] or "[]")
    return [
        InboxEntry(id_, kind, payload.encode(), None if workload is None else WorkloadId(workload))
        for id_, kind, payload, workload in entries
    ]


def shards_with_commands(shards: Sequence[int]) -> Steps[list[int]]:
    found = yield _SQL["shards_with_commands"].rows([(shard,) for shard in shards])
    return [shard for (shard,) in found]


def batch_number(shard: int) -> Steps[tuple[int, int]]:
    found = yield _SQL["batch_number"](shard=shard)
    if not found:
        raise Fenced(f"there is no shard {shard}")
    epoch, batch = found[0]
    return epoch, batch


def commit(batch: Batch, ahead: int, level_of: WorkerId | None) -> Steps[Committed]:
    """Commit a batch. Ends come before begins, and freed Boxes before taken ones, for unique
    indexes.

    ``ahead``: how many remaining commands of the inbox to read. ``level_of``: the worker whose
    assignments to read.
    """
    yield _SQL["fence"](shard=batch.shard, epoch=batch.epoch, batch=batch.batch)
    if batch.set_aside:
        yield from _set_aside(batch.set_aside)
    yield _SQL["empty_inbox"].rows(_runs(batch.inbox))
    yield _SQL["end_workloads"].rows(
        [
            (
                c.id,
                c.result,
                c.stop_cause,
                c.queued_at,
                c.started_at,
                c.finished_at,
                c.commit,
                c.reason,
            )
            for c in batch.ended
        ]
    )
    yield _SQL["change_workloads"].rows(
        [
            (
                c.id,
                c.state,
                c.stop_cause,
                c.queued_at,
                c.started_at,
                c.commit,
                c.reason,
                c.promise,
                c.priority,
                c.spared,
                c.priority_by,
                c.priority_note,
            )
            for c in batch.workloads
        ]
    )
    yield _SQL["change_jobs"].rows(_job_rows(batch.jobs))
    yield _SQL["free_boxes"].rows(_free_rows(batch.freed))
    yield _SQL["remove_boxes"].rows([(box,) for box in batch.gone])
    yield _SQL["take_boxes"].rows(_take_rows(batch.taken))
    yield _SQL["retire_boxes"].rows([(box,) for box in batch.retired])
    yield _SQL["keep_durations"].rows(
        [
            (each.project, each.job_name, rows.json_text(each.recent), each.expected_seconds)
            for each in batch.durations
            if each.recent
        ]
    )
    yield _SQL["forget_job_names"].rows(
        [(each.project, each.job_name) for each in batch.durations if not each.recent]
    )
    yield _SQL["count_lanes"].rows(
        [(each.lane, each.project, each.superseded) for each in batch.lanes if each.superseded]
    )
    yield _SQL["forget_lanes"].rows([(each.lane,) for each in batch.lanes if not each.superseded])
    yield _SQL["end_pauses"].rows(
        [(each.name, each.until) for each in batch.pauses_over], shard=batch.shard
    )
    yield _SQL["set_drains"].rows([_drain_row(each) for each in batch.drains])
    yield _SQL["set_differences"].rows([_differences_row(each) for each in batch.differences])
    yield _SQL["go_live"].rows([(each.project, each.server, each.workload) for each in batch.live])
    yield _SQL["deploys_due"].rows([(each.build, each.server) for each in batch.deploys_due])
    if batch.notices:  # after the workloads: a commit status needs the commit
        yield notifications.write(batch.notices)
    events = _event_rows(batch.events)
    yield _SQL["insert_events"].rows(events, shard=batch.shard, batch=batch.batch + 1)
    left = (yield from inbox(batch.shard, ahead)) if ahead else []
    if level_of is None:
        return Committed(left)
    levels = yield from assignments([level_of])
    return Committed(left, levels[level_of])


def _set_aside(commands: Sequence[SetAside]) -> Steps[None]:
    """Set commands aside, before the inbox is emptied. The workload of such a submission never
    runs.
    """
    yield _SQL["set_aside"].rows([(c.id, c.workload, c.error, c.at) for c in commands])
    submissions = [(c.id, c.at, f"{SUBMISSION_SET_ASIDE}: {c.error}") for c in commands]
    yield _SQL["cancel_jobs_set_aside"].rows([row[:2] for row in submissions])
    yield _SQL["cancel_workloads_set_aside"].rows(submissions)


def _runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return ranges (first, last) of consecutive ids, usually a single one."""
    runs: list[tuple[int, int]] = []
    for id_ in sorted(ids):
        if runs and runs[-1][1] == id_ - 1:
            runs[-1] = (runs[-1][0], id_)
        else:
            runs.append((id_, id_))
    return runs


def _job_rows(changes: Sequence[JobChange]) -> list[Row]:
    return [
        (
            c.id,
            c.state,
            c.result,
            c.box,
            c.attempt,
            c.lease_token,
            c.started_at,
            c.finished_at,
            c.exit_status,
            c.reason,
            c.given_at,
            c.restored_from,
            rows.retries_text(c.retried),
        )
        for c in changes
    ]


def _free_rows(changes: Sequence[BoxChange]) -> list[Row]:
    return [(c.id, c.last_project, c.last_branch, c.freed_at) for c in changes]


def _take_rows(changes: Sequence[BoxChange]) -> list[Row]:
    return [(c.id, c.job, c.last_project, c.last_branch, c.freed_at) for c in changes]


def _drain_row(change: DrainChange) -> Row:
    worker, drain = change.worker, change.drain
    if drain is None:
        return worker, None, None, None, None, False, False, 0
    return (
        worker,
        drain.by,
        drain.since,
        drain.note,
        drain.stop_at,
        drain.done,
        drain.automatic,
        change.connection,
    )


def _differences_row(change: Differences) -> Row:
    return change.worker, rows.json_text(change.differs) if change.differs else None


def _event_rows(events: Sequence[Event]) -> list[Row]:
    return [
        (n, event.type, event.at, event.workload, event.job, event.data.decode())
        for n, event in enumerate(events, 1)
    ]
