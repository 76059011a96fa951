"""Workers and their Boxes, and what each worker should be doing."""

from collections.abc import Sequence
from typing import Any

import msgspec

from boxsched.errors import Conflict
from boxsched.model import BoxId, WorkerId
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.values import (
    Assignment,
    Box,
    BoxRow,
    Connected,
    Connection,
    NewWorker,
    Pulse,
    Worker,
)

_SQL = load("fleet.sql")

_assigned = msgspec.json.Decoder(list[tuple[Any, ...]])


def connect_worker(new: NewWorker) -> Steps[Connected]:
    known = yield from _known(new)
    values = {
        "identity": new.identity,
        "name": new.name,
        "address": new.address,
        "node": new.node,
        "lost_after": new.lost_after,
    }
    if known is None:
        written = yield _SQL["insert_worker"](organization=new.organization, **values)
    else:
        written = yield _SQL["connect_worker"](worker=known, **values)
    worker, number = written[0]
    wanted = list(enumerate(new.box_types, 1))
    yield _SQL["add_boxes"].rows(wanted, worker=worker)
    found = yield _SQL["boxes_of_worker"](worker=worker)
    boxes = [BoxRow(BoxId(id_), worker, ordinal, type_) for id_, _, ordinal, type_ in found]
    shard = yield _SQL["shard_of_organization"](organization=new.organization)
    asked = set(wanted)
    return Connected(
        Connection(WorkerId(worker), number),
        shard[0][0],
        tuple(box for box in boxes if (box.ordinal, box.box_type) in asked),
    )


def _known(new: NewWorker) -> Steps[int | None]:
    """The worker's row: of its identity, or of its name where that has no identity yet."""
    found = yield _SQL["find_workers"](identity=new.identity, name=new.name)
    mine = named = None
    for id_, identity, name, organization in found:
        if identity == new.identity:
            mine = (id_, organization)
        if name == new.name:
            named = (id_, organization, identity)
    if mine is None and named is not None and named[2] is None:
        mine = named[:2]
    if named is not None and (mine is None or named[0] != mine[0]):
        raise Conflict(f"another worker has the name {new.name!r}: give this one its own")
    if mine is not None and mine[1] != new.organization:
        raise Conflict(f"the worker {new.name!r} belongs to another organization")
    return None if mine is None else mine[0]


def disconnect_workers(connections: Sequence[Connection]) -> Steps[None]:
    yield _SQL["disconnect_workers"].rows(_rows(connections))


def beat(connections: Sequence[Connection], lost_after: float | None) -> Steps[set[WorkerId]]:
    alive = yield _SQL["beat"].rows(_rows(connections), lost_after=lost_after)
    return {WorkerId(row[0]) for row in alive}


def forget_worker(connection: Connection) -> Steps[bool]:
    worker, number = connection.worker, connection.number
    if not (yield _SQL["gone_worker"](worker=worker, connection=number)):
        return False
    yield _SQL["forget_boxes"](worker=worker)
    yield _SQL["forget_worker"](worker=worker)
    return True


def _rows(connections: Sequence[Connection]) -> list[tuple[int, int]]:
    """By their ids: so two statements never wait for each other's rows in a circle."""
    return sorted({(each.worker, each.number) for each in connections})


def pulses(shard: int) -> Steps[list[Pulse]]:
    return [rows.pulse(row) for row in (yield _SQL["pulses"](shard=shard))]


def assignments(workers: Sequence[WorkerId]) -> Steps[dict[WorkerId, list[Assignment]]]:
    """Durations come with the 15 digits that SQLite writes: plenty for a time limit."""
    assigned: dict[WorkerId, list[Assignment]] = {worker: [] for worker in workers}
    for worker, text in (yield _SQL["assignments"].rows([(worker,) for worker in assigned])):
        assigned[worker] = [rows.assignment(row) for row in _assigned.decode(text)]
    return assigned


def boxes() -> Steps[list[Box]]:
    return [rows.box(row) for row in (yield _SQL["boxes"]())]


def workers() -> Steps[list[Worker]]:
    return [Worker(*row) for row in (yield _SQL["workers"]())]
