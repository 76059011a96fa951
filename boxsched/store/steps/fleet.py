"""Workers and their Boxes, and what each worker should be doing."""

from collections.abc import Sequence
from typing import Any

import msgspec

from boxsched.model import BoxId, WorkerId
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.values import Assignment, Box, BoxRow, Worker

_SQL = load("fleet.sql")

_assigned = msgspec.json.Decoder(list[tuple[Any, ...]])


def register_worker(
    name: str, address: str, box_types: Sequence[str]
) -> Steps[tuple[WorkerId, list[BoxRow]]]:
    connected = yield _SQL["connect_worker"](name=name, address=address)
    worker = WorkerId(connected[0][0])
    wanted = list(enumerate(box_types, 1))
    yield _SQL["add_boxes"].rows(wanted, worker=worker)
    found = yield _SQL["boxes_of_worker"](worker=worker)
    boxes = [BoxRow(BoxId(id_), worker, ordinal, type_) for id_, _, ordinal, type_ in found]
    return worker, [box for box in boxes if (box.ordinal, box.box_type) in set(wanted)]


def assignments(worker: WorkerId) -> Steps[list[Assignment]]:
    """Durations come with the 15 digits that SQLite writes: plenty for a time limit."""
    found = yield _SQL["assignments"](worker=worker)
    return [rows.assignment(row) for row in _assigned.decode(found[0][0] or "[]")]


def boxes() -> Steps[list[Box]]:
    return [rows.box(row) for row in (yield _SQL["boxes"]())]


def workers() -> Steps[list[Worker]]:
    return [Worker(*row) for row in (yield _SQL["workers"]())]
