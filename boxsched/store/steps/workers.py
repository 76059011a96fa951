"""Workers and their Boxes, and what each worker should be doing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from boxsched.errors import Conflict
from boxsched.model import OrganizationId, WorkerId, short_name
from boxsched.protocol.assignments import Assignment, with_files
from boxsched.protocol.reasons import AGAIN, WAITS_AGAIN
from boxsched.protocol.shards import Box
from boxsched.protocol.timing import UNKNOWN_AFTER_SECONDS
from boxsched.protocol.workers import BoxRow, Connected, NewWorker, Pulse, WorkerConnection
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.errors import BoundToAnother, InUse, NoPlace, NotYet, TokenTaken, in_use
from boxsched.store.mapping import mapper
from boxsched.store.records import Worker

NO_PROBLEMS: Mapping[WorkerId, str] = {}

# limit for one worker's Boxes with jobs or not yet processed by the leader
MAX_FORMER_BOXES = 10_000

_SQL = load("fleet.sql")

_assigned = msgspec.json.Decoder(list[tuple[Any, ...]])


class _Known(NamedTuple):
    """A row of ``find_workers``. ``token_holds``: whether its token is valid. ``fresh``: whether it
    has sent a heartbeat in the last UNKNOWN_AFTER_SECONDS.
    """

    id: int
    identity: str | None
    name: str
    organization: OrganizationId
    token: str | None
    token_holds: bool
    address: str
    node: str
    start: str | None
    fresh: bool


_known = mapper(_Known, _SQL["find_workers"].returns, token_holds=bool, fresh=bool)


def connect_worker(new: NewWorker) -> Steps[Connected]:
    known = yield from _find(new)
    values = {
        "identity": new.identity,
        "name": new.name,
        "address": new.address,
        "token": new.token,
        "problem": new.problem,
        "node": new.node,
        "lost_after": new.lost_after,
        "stop_grace": new.stop_grace,
        "fingerprint": new.fingerprint,
        "start": new.start,
    }
    bound = yield from _take_token(new)
    if known is None:
        if not bound:
            yield from _make_place(new)
        written = yield _SQL["insert_worker"](organization=new.organization, **values)
    else:
        worker, is_bound = known
        if not (bound or is_bound):
            yield from _make_place(new)
        written = yield _SQL["connect_worker"](worker=worker, **values)
    worker, number = written[0]
    boxes = yield from _boxes(WorkerId(worker), new.box_types)
    shard = yield _SQL["shard_of_organization"](organization=new.organization)
    return Connected(WorkerConnection(WorkerId(worker), number), shard[0][0], boxes)


class WouldConnect(Exception):
    """Ends the transaction of ``check_worker``, so that it is rolled back."""


def check_worker(new: NewWorker) -> Steps[None]:
    """Connect the worker, and undo it. Raises what ``connect_worker`` raises, else WouldConnect."""
    yield from connect_worker(new)
    raise WouldConnect


def _find(new: NewWorker) -> Steps[tuple[int, bool] | None]:
    """Return the id of the worker's row, and whether it is bound to this token; None for a new
    worker.

    The row has its identity, or its name if that row has no identity yet. Raises Conflict,
    BoundToAnother, InUse.
    """
    mine = named = None
    found = yield _SQL["find_workers"](
        identity=new.identity, name=new.name, silence=UNKNOWN_AFTER_SECONDS
    )
    for row in found:
        known = _known(row)
        if known.identity == new.identity:
            mine = known
        if known.name == new.name:
            named = known
    if mine is None and named is not None and named.identity is None:
        mine = named
    if named is not None and (mine is None or named.id != mine.id):
        raise Conflict(f"another worker has the name {short_name(new.name)!r}: use another name")
    if mine is None:
        return None
    if mine.organization != new.organization:
        raise Conflict(f"the worker {short_name(new.name)!r} belongs to another organization")
    if mine.token != new.token and mine.token_holds:
        raise BoundToAnother(
            f"this worker is bound to another token, {mine.token}: connect with that one, revoke "
            "it first, or give this worker a data folder of its own"
        )
    _refuse_copy(mine, new)
    return mine.id, mine.token == new.token


def _refuse_copy(known: _Known, new: NewWorker) -> None:
    """Raise InUse while another process is this worker at another node.

    Two processes with one data folder are copies. Each would end the connection of the other, for
    ever. What is connected to its own node, a node knows better than the store.
    """
    differs = None not in (known.start, new.start) and known.start != new.start
    if differs and known.fresh and known.node != new.node:
        raise InUse(in_use(known.address, known.node))


def _take_token(new: NewWorker) -> Steps[bool]:
    """Return whether the worker's token is for one worker, which it is. Raises TokenTaken."""
    found = yield _SQL["lock_token"](token=new.token)
    if not found:
        return False  # a node's in-process worker
    _, bound, taken_by = found[0]
    if not bound:
        return False
    if taken_by is None:
        yield _SQL["take_token"](token=new.token, identity=new.identity)
    elif taken_by != new.identity:
        raise TokenTaken(
            f"another worker has taken this token, {new.token}: create one for each worker, or one "
            "for several with `boxsched token create --role worker --fleet N`"
        )
    return True


def _make_place(new: NewWorker) -> Steps[None]:
    """Make room for one more worker of its token: if the limit is reached, delete the worker that
    has been disconnected longest. Raises NoPlace, and NotYet if one is disconnected but has Boxes.
    """
    found = yield _SQL["lock_token"](token=new.token)
    if not found:
        return  # a node's in-process worker
    most = found[0][0]
    workers = yield _SQL["workers_of_token"](token=new.token)
    for id_, _, gone in workers[: max(0, len(workers) + 1 - most)]:
        if not gone:
            limit = f"this token has reached its limit of {most} worker{'s' if most > 1 else ''}: "
            if any(away for _, away, _ in workers):
                raise NotYet(limit + "the place of one that is disconnected is not free yet")
            raise NoPlace(
                limit + "stop some, or create another with `boxsched token create --role worker`"
            )
        yield _SQL["forget_boxes"](worker=id_)
        yield _SQL["forget_worker"](worker=id_)


def _boxes(worker: WorkerId, box_types: Sequence[str]) -> Steps[tuple[BoxRow, ...]]:
    """Return the rows of the Boxes that it should have; delete those that no longer exist."""
    wanted = list(enumerate(box_types, 1))
    yield _SQL["add_boxes"].rows(wanted, worker=worker)
    found = yield _SQL["boxes_of_worker"](worker=worker)
    boxes = [rows.box_row(row) for row in found]
    asked = set(wanted)
    former = [(box.id,) for box in boxes if (box.ordinal, box.box_type) not in asked]
    if former:
        dropped = yield _SQL["drop_boxes"].rows(former)
        if len(former) - len(dropped) > MAX_FORMER_BOXES:
            raise NotYet("earlier Boxes of this worker are not removed yet")
    return tuple(box for box in boxes if (box.ordinal, box.box_type) in asked)


def disconnect_workers(connections: Sequence[WorkerConnection]) -> Steps[None]:
    yield _SQL["disconnect_workers"].rows(_rows(connections))


def beat(
    connections: Sequence[WorkerConnection],
    lost_after: float | None,
    problems: Mapping[WorkerId, str],
) -> Steps[dict[WorkerId, bool]]:
    beats = [
        (worker, number, problems.get(WorkerId(worker))) for worker, number in _rows(connections)
    ]
    alive = yield _SQL["beat"].rows(beats, lost_after=lost_after)
    return {WorkerId(worker): bool(drained) for worker, drained in alive}


def forget_worker(connection: WorkerConnection) -> Steps[bool]:
    worker, number = connection.worker, connection.number
    if not (yield _SQL["gone_worker"](worker=worker, connection=number)):
        return False
    yield _SQL["forget_boxes"](worker=worker)
    yield _SQL["forget_worker"](worker=worker)
    return True


def _rows(connections: Sequence[WorkerConnection]) -> list[tuple[int, int]]:
    """Sort by id, so that two statements cannot deadlock."""
    return sorted({(each.worker, each.number) for each in connections})


def pulses(shard: int) -> Steps[list[Pulse]]:
    return [rows.pulse(row) for row in (yield _SQL["pulses"](shard=shard))]


def places(workers: Collection[WorkerId]) -> Steps[dict[WorkerId, str]]:
    found = yield _SQL["places"].rows([(worker,) for worker in sorted(workers)])
    return {WorkerId(worker): node for worker, node in found}


def assignments(workers: Sequence[WorkerId]) -> Steps[dict[WorkerId, list[Assignment]]]:
    """Return the workers' assignments. Durations have SQLite's 15 digits, which is sufficient."""
    assigned: dict[WorkerId, list[Assignment]] = {worker: [] for worker in workers}
    found = yield _SQL["assignments"].rows(
        [(worker,) for worker in assigned], again=AGAIN, waits_again=f"%{WAITS_AGAIN}"
    )
    for worker, text in found:
        assigned[worker] = [with_files(rows.assignment(row)) for row in _assigned.decode(text)]
    return assigned


def boxes(organization: OrganizationId) -> Steps[list[Box]]:
    return [rows.shown_box(row) for row in (yield _SQL["boxes"](organization=organization))]


def workers(organization: OrganizationId) -> Steps[list[Worker]]:
    return [rows.worker(row) for row in (yield _SQL["workers"](organization=organization))]
