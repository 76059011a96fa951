"""Notifications: their targets, the outbox that the engine writes, and the calls of senders."""

from collections.abc import Sequence

import attrs

from boxsched.errors import Invalid
from boxsched.model import OrganizationId, ProjectId, WorkloadId, short_name
from boxsched.protocol.batches import Notice
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import Workload
from boxsched.store.steps import reads
from boxsched.store.steps.secrets import Seal

_SQL = load("notifications.sql")

STATUSES = "statuses"  # the name of the target for commit statuses
KEPT = "kept"  # instead of a seal: the secret stays unchanged
HOSTS_AT_ONCE = 1_000
WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
STATES = (WAITING, DELIVERED, DEAD)
_ALL_JOBS = 1 << 30


@attrs.frozen
class Target:
    """A target of a project's notifications. ``seal``: makes the text of a new secret; KEPT: the
    old secret stays; None: no secret.
    """

    name: str
    provider: str | None  # the provider of commit statuses
    url: str
    host: str
    events: tuple[str, ...]
    seal: Seal | str | None = attrs.field(repr=False, default=None)


@attrs.frozen
class StoredTarget:
    """A stored target. ``sealed``: its secret, if any."""

    name: str
    host: str
    sealed: str | None = attrs.field(repr=False)


@attrs.frozen
class Claimed:
    """A notification that this node delivers now. ``url`` is None if its target was removed."""

    id: int
    workload: WorkloadId
    target: str
    host: str
    event: str
    at: float
    since: float
    attempts: int
    failures: int
    provider: str | None
    url: str | None
    sealed: str | None = attrs.field(repr=False)
    project: ProjectId
    repository: str | None


@attrs.frozen
class Settled:
    """The result of a try: the new values of the row."""

    claimed: Claimed
    state: str
    due_at: float
    failures: int = 0
    status: int | None = None  # the HTTP status of the answer
    error: str | None = None
    done_at: float | None = None


@attrs.frozen
class StoredNotification:
    """A notification for a list."""

    id: int
    workload: WorkloadId
    number: int  # the workload's number in its project
    project: str
    target: str
    provider: str | None
    url: str | None
    host: str
    event: str
    at: float
    state: str
    attempts: int
    due_at: float
    status: int | None
    error: str | None
    done_at: float | None
    signed: bool  # its target has a secret or a token


_claimed = mapper(Claimed, _SQL["claimed"].returns)
_listed = mapper(
    StoredNotification,
    _SQL["notifications"].returns,
    _SQL["notifications_of_state"].returns,
    project=short_name,
    signed=bool,
)


def write(notices: Sequence[Notice]) -> Call:
    """Write the notifications of a batch, as part of the engine's transaction."""
    return _SQL["write_notifications"].rows(
        [(one.workload, one.event, one.at, n) for n, one in enumerate(notices)]
    )


def stored_targets(project: ProjectId) -> Steps[list[StoredTarget]]:
    return [StoredTarget(*row) for row in (yield _SQL["targets"](project=project))]


def check_tokens(before: Sequence[StoredTarget], targets: Sequence[Target]) -> None:
    """Raises Invalid for commit statuses without a token.

    A token belongs to its host: for another host it must be given again.
    """
    hosts = {one.name: one.host for one in before if one.sealed is not None}
    for target in targets:
        if target.provider is not None and target.seal == KEPT:
            if target.name not in hosts:
                raise Invalid("commit statuses need a token", "statuses.token")
            if hosts[target.name] != target.host:
                raise Invalid("must be given again, because the host has changed", "statuses.token")


def put_targets(project: ProjectId, targets: Sequence[Target]) -> Steps[None]:
    """Replace a project's targets. Raises Invalid for commit statuses without a token."""
    wanted = {target.name for target in targets}
    before = yield from stored_targets(project)
    check_tokens(before, targets)
    for name in [one.name for one in before if one.name not in wanted]:
        yield _SQL["drop_target"](project=project, name=name)
    for target in targets:
        yield _SQL["put_target"](
            project=project,
            name=target.name,
            provider=target.provider,
            url=target.url,
            host=target.host,
            events=f" {' '.join(target.events)} ",
        )
        if isinstance(target.seal, str):
            continue
        sealed = None if target.seal is None else target.seal(project, 1)
        yield _SQL["seal_target"](project=project, name=target.name, sealed=sealed)


def drop_targets(project: ProjectId) -> Call:
    return _SQL["drop_targets"](project=project)


def notifying(organization: int) -> Steps[frozenset[ProjectId]]:
    found = yield _SQL["notifying"](organization=organization)
    return frozenset(ProjectId(project) for (project,) in found)


def due_hosts(now: float) -> Steps[list[str]]:
    return [host for (host,) in (yield _SQL["due_hosts"](now=now, limit=HOSTS_AT_ONCE))]


def settle_and_claim(
    settled: Sequence[Settled], rooms: Sequence[tuple[str, int]], now: float, until: float
) -> Steps[list[Claimed]]:
    yield _SQL["settle"].rows(
        [
            (
                one.claimed.id,
                one.claimed.attempts,
                one.state,
                one.due_at,
                one.failures,
                one.status,
                one.error,
                one.done_at,
            )
            for one in settled
        ]
    )
    yield _SQL["put_off_those_behind"].rows(
        [
            (one.claimed.id, one.claimed.workload, one.claimed.target, one.due_at)
            for one in settled
            if one.state == WAITING
        ]
    )
    ids: list[tuple[int]] = []
    for host, room in rooms:
        ids += yield _SQL["due_of_host"](host=host, now=now, limit=room)
    yield _SQL["claim"].rows(ids, until=until)
    return [_claimed(row) for row in (yield _SQL["claimed"].rows(ids))]


def workloads_of(
    ids: Sequence[WorkloadId], jobs_at_most: int | None = None
) -> Steps[list[Workload]]:
    """Return these workloads, with all their jobs."""
    return (yield from reads.listed(ids, _ALL_JOBS if jobs_at_most is None else jobs_at_most))


def notifications(
    state: str | None, before: int, limit: int, organization: OrganizationId
) -> Steps[list[StoredNotification]]:
    if state is None:
        found = yield _SQL["notifications"](organization=organization, before=before, limit=limit)
    else:
        found = yield _SQL["notifications_of_state"](
            organization=organization, before=before, state=state, limit=limit
        )
    return [_listed(row) for row in found]


def resend(id: int, now: float) -> Steps[bool]:
    return bool((yield _SQL["resend"](id=id, now=now)))


def waiting(limit: int) -> Steps[int]:
    ((count,),) = yield _SQL["waiting_notifications"](limit=limit)
    found: int = count
    return found


def drop_old(delivered: float, dead: float, limit: int) -> Steps[int]:
    dropped = yield _SQL["drop_old_notifications"](delivered=delivered, dead=dead, limit=limit)
    return len(dropped)
