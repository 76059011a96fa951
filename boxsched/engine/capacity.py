"""How many Boxes exist and are in use, and which are away with their workers."""

from collections.abc import Mapping, Sequence

import attrs

from boxsched.engine.books import Books
from boxsched.model import WorkerId
from boxsched.scheduling import Scheduler


@attrs.frozen
class Capacity:
    """Numbers of Boxes. ``total`` and ``busy`` include absent ones. ``away_busy``: absent Boxes
    with a job.
    """

    total: int
    busy: int
    away: int
    away_busy: int


@attrs.frozen
class Absence:
    """The Boxes of one type that are not retired.

    ``usable`` ones; ``absent`` ones, on workers that are not connected; ``troubled`` ones, on
    workers that can begin no jobs; and ``draining`` ones.
    """

    usable: int
    absent: int
    absent_workers: tuple[str, ...]
    troubled: int
    troubled_workers: tuple[str, ...]  # their names, with their problems
    draining: int = 0
    draining_workers: tuple[str, ...] = ()


def capacity(core: Scheduler) -> Capacity:
    total, busy = len(core.boxes), core.usage.boxes
    away = sum(pool.away for pool in core.pools.values())
    free = sum(pool.free for pool in core.pools.values())
    return Capacity(total, busy, away, max(0, away - (total - busy - free)) if away else 0)


def absences(books: Books) -> Mapping[str, Absence]:
    """Return the absences by Box type, for the types with Boxes that are not usable."""
    found = {}
    for pool in books.core.pools.values():
        if not pool.away:
            continue
        away = [
            books.boxes[box.id].worker
            for box in pool.boxes.values()
            if box.away and not box.retired
        ]
        absent = [worker for worker in away if worker in books.absent]
        connected = [worker for worker in away if worker not in books.absent]
        draining = [worker for worker in connected if worker in books.drains]
        troubled = [worker for worker in connected if worker not in books.drains]
        found[pool.box_type] = Absence(
            usable=pool.wanted - len(away),
            absent=len(absent),
            absent_workers=_names(books, absent),
            troubled=len(troubled),
            troubled_workers=_names(books, troubled),
            draining=len(draining),
            draining_workers=_names(books, draining),
        )
    return found


def _names(books: Books, workers: Sequence[WorkerId]) -> tuple[str, ...]:
    return tuple(sorted({named(books, worker) for worker in workers}))


def named(books: Books, worker: WorkerId) -> str:
    """Return the worker's name, with its problem."""
    name = books.names.get(worker, f"worker {worker}")
    problem = books.problems.get(worker)
    return name if problem is None else f"{name} ({problem})"
