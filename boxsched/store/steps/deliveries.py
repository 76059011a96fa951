"""Deliveries of code hosts: each is stored with its results, in one transaction.

The project's row is locked first. So two deliveries of one project are processed one after the
other, on any nodes, and the second finds the first: a duplicate is never processed twice.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from boxsched.model import OrganizationId, ProjectId, WorkloadId, lane_key, short_name
from boxsched.protocol import inbox
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.delivery_records import (
    Delivered,
    DeliveryResult,
    NewDelivery,
    RepeatedDelivery,
    StoredDelivery,
    WebhookSecrets,
)
from boxsched.store.mapping import mapper
from boxsched.store.records import NewWorkload, ProjectChanged, Submitted
from boxsched.store.steps import submission
from boxsched.store.steps.locking import LockedProjects, lock, take_ids

_SQL = load("deliveries.sql")
_INSERT_COMMANDS = load("submission.sql")["insert_commands"]

_encode = msgspec.json.Encoder().encode
_ids = msgspec.json.Decoder(tuple[int, ...])

_Key = tuple[str, int, str]  # the kind of the key, project, text


def _workloads(text: str) -> tuple[WorkloadId, ...]:
    return tuple([WorkloadId(id_) for id_ in _ids.decode(text)])


_delivery = mapper(
    StoredDelivery,
    _SQL["deliveries"].returns,
    _SQL["deliveries_with_result"].returns,
    _SQL["deliveries_of_project"].returns,
    project=short_name,
    result=DeliveryResult,
    workloads=_workloads,
)
_secrets = mapper(WebhookSecrets, _SQL["webhook_secrets"].returns, unused=("name",))
_name_of_secrets = _SQL["webhook_secrets"].column("name")


def deliver(group: Sequence[NewDelivery]) -> Steps[list[Delivered | ProjectChanged]]:
    """Store a group of deliveries in one transaction, in order; skip those that are refused."""
    locked = yield from lock(new.project for new in group)
    outcomes: list[Delivered | ProjectChanged] = [ProjectChanged()] * len(group)
    # 1. Which deliveries are current, and which of these are duplicates, of the store or earlier in
    #    the group.
    current = [index for index, new in enumerate(group) if _is_current(locked, new)]
    fresh, repeats = yield from _without_repeats(group, current)
    # 2. Which workloads are in the lanes that end, before new ones are added.
    ended = yield from _unfinished([group[index] for index in fresh])
    # 3. The new builds: numbers, ids, rows, inbox entries.
    made = yield from _builds([group[index] for index in fresh], locked)
    # 4. The stops, after the builds: the leader applies them in this order.
    stops: list[Row] = []
    for index, builds in zip(fresh, made, strict=True):
        new = group[index]
        stopped = [id_ for end in new.ends for id_ in ended.get(end.lane, ())]
        stops += _stops(new, ended, locked)
        for build, done in zip(new.builds, builds, strict=True):
            ended.setdefault(_lane(build), []).append(done)
        outcomes[index] = Delivered(new.result, tuple(builds or stopped), new.reason)
    yield _INSERT_COMMANDS.rows(stops)
    # 5. The deliveries themselves.
    for index, earlier in repeats.items():
        before = outcomes[earlier] if isinstance(earlier, int) else earlier
        assert isinstance(before, Delivered)
        outcomes[index] = Delivered(DeliveryResult.DUPLICATE, before.workloads)
    yield _SQL["insert_deliveries"].rows(
        [
            _row(
                new.project,
                new.provider,
                new.event,
                new.received_at,
                outcome,
                new.delivery_id,
                new.body_sha256,
            )
            for new, outcome in zip(group, outcomes, strict=True)
            if isinstance(outcome, Delivered)
        ]
    )
    return outcomes


def repeat(group: Sequence[RepeatedDelivery]) -> Steps[list[Delivered | None]]:
    "Store duplicates; return None for a delivery that is not one, or if the project has changed."
    asked = {(one.project, one.project_version, one.body_sha256) for one in group}
    found = yield _SQL["same_deliveries"].rows(sorted(asked))
    known = {tuple(which): (event, workloads) for *which, event, workloads in found}
    rows: list[Row] = []
    answers: list[Delivered | None] = []
    for one in group:
        before = known.get((one.project, one.project_version, one.body_sha256))
        if before is None:
            answers.append(None)
            continue
        event, workloads = before
        answer = Delivered(DeliveryResult.DUPLICATE, _workloads(workloads))
        answers.append(answer)
        rows.append(_row(one.project, one.provider, event, one.received_at, answer))
    yield _SQL["insert_deliveries"].rows(rows)
    return answers


def webhook_secrets(names: Sequence[str]) -> Steps[Mapping[str, WebhookSecrets]]:
    found = yield _SQL["webhook_secrets"].rows([(name,) for name in sorted(set(names))])
    each = {_name_of_secrets(row): _secrets(row) for row in found}
    return {name: secrets for name, secrets in each.items() if secrets.project is not None}


def deliveries(
    project: ProjectId | None,
    result: DeliveryResult | None,
    before: int,
    limit: int,
    organization: OrganizationId,
) -> Steps[list[StoredDelivery]]:
    """Return deliveries, newest first. The index is by project and result; for a project alone,
    each result is read and the newest are taken.
    """
    if project is None:
        if result is None:
            rows = yield _SQL["deliveries"](organization=organization, before=before, limit=limit)
        else:
            rows = yield _SQL["deliveries_with_result"](
                organization=organization, result=result.value, before=before, limit=limit
            )
        return [_delivery(row) for row in rows]
    found: list[StoredDelivery] = []
    for one in DeliveryResult if result is None else (result,):
        rows = yield _SQL["deliveries_of_project"](
            project=project, result=one.value, before=before, limit=limit
        )
        found += [_delivery(row) for row in rows]
    return sorted(found, key=lambda one: one.id, reverse=True)[:limit]


def drop_old(before: float, limit: int) -> Steps[int]:
    return len((yield _SQL["drop_old_deliveries"](before=before, limit=limit)))


def _is_current(locked: LockedProjects, new: NewDelivery) -> bool:
    checked = locked.has_version(new.project, new.project_version)
    return checked and all(locked.admits(build) for build in new.builds)


def _keys(project: int, body_sha256: str, delivery_id: str | None) -> Iterator[_Key]:
    yield "body", project, body_sha256
    if delivery_id is not None:
        yield "id", project, delivery_id


def _without_repeats(
    group: Sequence[NewDelivery], current: Sequence[int]
) -> Steps[tuple[list[int], dict[int, int | Delivered]]]:
    """Return the indexes to process, and for each duplicate its first delivery: a stored one or an
    index.
    """
    asked = [
        (new.project, new.body_sha256, new.delivery_id)
        for new in [group[index] for index in current]
    ]
    known: dict[_Key, int | Delivered] = {}
    for project, body, name, workloads in (yield _SQL["known_deliveries"].rows(asked)):
        before = Delivered(DeliveryResult.DUPLICATE, _workloads(workloads))
        known.update(dict.fromkeys(_keys(project, body, name), before))
    fresh: list[int] = []
    repeats: dict[int, int | Delivered] = {}
    for index in current:
        new = group[index]
        keys = list(_keys(new.project, new.body_sha256, new.delivery_id))
        earlier = next((known[key] for key in keys if key in known), None)
        if earlier is not None:
            repeats[index] = earlier
            continue
        fresh.append(index)
        if new.result is not DeliveryResult.IGNORED:
            known.update(dict.fromkeys(keys, index))
    return fresh, repeats


def _unfinished(group: Sequence[NewDelivery]) -> Steps[dict[str, list[WorkloadId]]]:
    lanes = sorted({end.lane for new in group for end in new.ends})
    found: dict[str, list[WorkloadId]] = {}
    for lane, id_ in (yield _SQL["unfinished_of_lanes"].rows([(lane,) for lane in lanes])):
        found.setdefault(lane, []).append(WorkloadId(id_))
    return found


def _builds(
    group: Sequence[NewDelivery], locked: LockedProjects
) -> Steps[list[tuple[WorkloadId, ...]]]:
    """Store the builds of each delivery; return their ids."""
    builds = [build for new in group for build in new.builds]
    numbers = [locked.take_number(build.project) for build in builds]
    yield locked.store_numbers()
    ids = yield from take_ids(len(builds))
    done = [
        Submitted(id_, number, repeated=False) for id_, number in zip(ids, numbers, strict=True)
    ]
    yield from submission.insert(list(zip(builds, done, strict=True)), locked.shards)
    left = iter(ids)
    return [tuple([next(left) for _ in new.builds]) for new in group]


def _stops(
    new: NewDelivery, ended: Mapping[str, Sequence[WorkloadId]], locked: LockedProjects
) -> Iterator[Row]:
    for end in new.ends:
        for id_ in ended.get(end.lane, ()):
            kind, payload = inbox.written(inbox.Stop(id_, end.by))
            yield locked.shards[new.project], kind, payload.decode(), None


def _lane(build: NewWorkload) -> str:
    lane = lane_key(build.kind, build.project, build.branch, build.tag, build.server)
    assert lane is not None
    return lane


def _row(
    project: ProjectId,
    provider: str,
    event: str,
    received_at: float,
    outcome: Delivered,
    delivery_id: str | None = None,
    body_sha256: str | None = None,
) -> Row:
    return (
        project,
        provider,
        event,
        received_at,
        outcome.result.value,
        outcome.reason,
        _encode(outcome.workloads).decode(),
        delivery_id if outcome.changes else None,
        body_sha256 if outcome.changes else None,
    )
