"""Submissions and other commands, from any node; durable before the answer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import attrs

from boxsched.model import WorkloadId, lane_key
from boxsched.protocol import inbox
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import (
    IdempotencyKey,
    KeyTaken,
    NewWorkload,
    ProjectChanged,
    SubmitOutcome,
    Submitted,
)
from boxsched.store.steps import jobs, schedules, servers
from boxsched.store.steps.commands import add_commands, add_workload_command
from boxsched.store.steps.locking import lock, take_ids

_SQL = load("submission.sql")

_Key = tuple[str, str]  # scope and key


class _Known(NamedTuple):
    """A row of ``known_keys``: the first answer under a key."""

    scope: str
    key: str
    body_sha256: str
    workload: int
    number: int
    project_deleted: bool


_known = mapper(_Known, _SQL["known_keys"].returns, project_deleted=bool)


def ask(shard: int, commands: Sequence[tuple[str, bytes]]) -> Steps[None]:
    yield add_commands(shard, commands)


def idempotency(key: IdempotencyKey, *, living: bool = False) -> Steps[Submitted | KeyTaken | None]:
    found = yield _SQL["known_keys"].rows([(key.scope, key.key)])
    for row in found:
        known = _known(row)
        return None if living and known.project_deleted else _seen_before(known, key)
    return None


def drop_old_keys(seconds: float, limit: int) -> Steps[int]:
    yield _SQL["stamp_keys"](limit=limit)
    return len((yield _SQL["drop_old_keys"](seconds=seconds, limit=limit)))


def ask_once(
    command: inbox.Stop | inbox.Resolve | inbox.Reprioritize,
    workload: WorkloadId,
    number: int,
    key: IdempotencyKey,
) -> Steps[Submitted | KeyTaken]:
    """Store a command with its key, like a submission; the key refers to the command's workload."""
    before = yield from idempotency(key)
    if before is not None:
        return before
    yield _SQL["insert_keys"].rows([(key.scope, key.key, key.body_sha256, workload, number)])
    yield add_workload_command(command, workload)
    return Submitted(workload, number, repeated=False)


def submit(group: Sequence[NewWorkload]) -> Steps[list[SubmitOutcome]]:
    """Store a group in one transaction; refused members are left out."""
    # 1. Keys seen before, in the store or earlier in the group. One that a deleted project had
    # counts as new.
    known, former = yield from _known_keys(group)
    fresh, repeats = _without_repeats(group, known)
    # 2. Numbers, under the projects' row locks. A submission without a number: the project has
    #    changed, or another node has processed the schedule.
    locked = yield from lock(group[index].project for index in fresh)
    stale = yield from schedules.stale([group[index] for index in fresh])  # after the locks
    overtaken = yield from servers.overtaken(group, fresh)
    taken = [
        (index, locked.take_number(group[index].project))
        for index in fresh
        if locked.admits(group[index])
        and group[index].firing not in stale
        and index not in overtaken
    ]
    yield locked.store_numbers()
    # 3. Ids, taken after the locks, so that within a project they grow with the numbers.
    ids = yield from take_ids(len(taken))
    submitted = {
        index: Submitted(id_, number, repeated=False)
        for (index, number), id_ in zip(taken, ids, strict=True)
    }
    # 4. Rows, inbox entries and keys.
    for index in submitted:
        key = group[index].idempotency
        if key is not None and (key.scope, key.key) in former:
            yield _SQL["drop_key"](scope=key.scope, key=key.key)
    group = yield from servers.with_rollbacks(group)
    submitted = {
        index: attrs.evolve(done, rollback=group[index].rollback)
        for index, done in submitted.items()
    }
    yield from insert([(group[index], done) for index, done in submitted.items()], locked.shards)
    yield from schedules.fired(
        [
            (firing, done.id)
            for index, done in submitted.items()
            if (firing := group[index].firing) is not None
        ]
    )
    for index, done in submitted.items():
        if group[index].rollback:
            yield from servers.hold_after_rollback(
                locked.organizations[group[index].project], group[index], done.number
            )
    outcomes: dict[int, SubmitOutcome] = {
        index: submitted.get(index, ProjectChanged()) for index in fresh
    }
    for index, earlier in repeats.items():
        outcomes[index] = _repeated(group, index, earlier, known, outcomes)
    return [outcomes[index] for index in range(len(group))]


def _known_keys(group: Sequence[NewWorkload]) -> Steps[tuple[dict[_Key, _Known], set[_Key]]]:
    """Return the earlier answers under the group's keys, and the keys of deleted projects."""
    keys = {(key.scope, key.key) for new in group if (key := new.idempotency)}
    found = [_known(row) for row in (yield _SQL["known_keys"].rows(sorted(keys)))]
    former = {(one.scope, one.key) for one in found if one.project_deleted}
    return {(one.scope, one.key): one for one in found if not one.project_deleted}, former


def _without_repeats(
    group: Sequence[NewWorkload], known: Mapping[_Key, _Known]
) -> tuple[list[int], dict[int, int | None]]:
    """Return the indexes to store, and for each repetition the index that it repeats (None: a
    stored one).
    """
    fresh: list[int] = []
    repeats: dict[int, int | None] = {}
    first: dict[_Key, int] = {}
    for index, new in enumerate(group):
        key = new.idempotency
        if key is None:
            fresh.append(index)
        elif (pair := (key.scope, key.key)) in known:
            repeats[index] = None
        elif pair in first:
            repeats[index] = first[pair]
        else:
            first[pair] = index
            fresh.append(index)
    return fresh, repeats


def _repeated(
    group: Sequence[NewWorkload],
    index: int,
    earlier: int | None,
    known: Mapping[_Key, _Known],
    outcomes: Mapping[int, SubmitOutcome],
) -> SubmitOutcome:
    key = group[index].idempotency
    assert key is not None
    if earlier is None:
        return _seen_before(known[key.scope, key.key], key)
    first, outcome = group[earlier].idempotency, outcomes[earlier]
    if first is None or not isinstance(outcome, Submitted):
        return outcome
    if first.body_sha256 != key.body_sha256:
        return KeyTaken()
    return attrs.evolve(outcome, repeated=True)


def _seen_before(known: _Known, key: IdempotencyKey) -> Submitted | KeyTaken:
    """Return the earlier answer; KeyTaken if the key was used with another body."""
    if known.body_sha256 != key.body_sha256:
        return KeyTaken()
    return Submitted(WorkloadId(known.workload), known.number, repeated=True)


def insert(
    group: Sequence[tuple[NewWorkload, Submitted]], shards: Mapping[int, int]
) -> Steps[None]:
    """Insert the rows of new workloads, their commands for the leaders, and their keys."""
    expected = yield from jobs.expected(
        {(new.project, job.name) for new, _ in group for job in new.jobs}
    )
    yield _SQL["insert_workloads"].rows([_workload_row(new, done) for new, done in group])
    yield _SQL["insert_jobs"].rows(
        [row for new, done in group for row in jobs.rows(new.project, done.id, new.jobs, expected)]
    )
    yield _SQL["insert_commands"].rows(
        [(shards[new.project], *_command(new, done, expected)) for new, done in group]
    )
    yield _SQL["insert_keys"].rows(
        [
            (key.scope, key.key, key.body_sha256, done.id, done.number)
            for new, done in group
            if (key := new.idempotency)
        ]
    )


def _workload_row(new: NewWorkload, done: Submitted) -> Row:
    return (
        done.id,
        new.project,
        done.number,
        new.kind,
        lane_key(new.kind, new.project, new.branch, new.tag, new.server),
        new.branch,
        new.tag,
        new.server,
        new.commit,
        new.message,
        new.author,
        new.priority,
        new.cancellation,
        new.fail_fast,
        len(new.jobs),
        new.rebuild_of,
        new.build,
        new.public_key,
        new.created_at,
        new.from_fork,
        new.compare_url,
        new.event_at,
        new.automatic,
        new.rollback,
        new.target_branch,
        new.submitted_by or None,
        new.ssh_forwarding,
    )


def _command(new: NewWorkload, done: Submitted, expected: jobs.Expected) -> Row:
    command = inbox.Submit(
        done.id,
        new.project,
        done.number,
        new.kind,
        new.branch,
        new.tag,
        new.server,
        new.message,
        new.author,
        new.commit,
        new.priority,
        new.created_at,
        new.cancellation,
        new.fail_fast,
        jobs.asked(new.project, new.jobs, expected),
        new.spare_after,
        new.automatic,
        new.queue,
    )
    kind, payload = inbox.written(command)
    return kind, payload.decode(), done.id
