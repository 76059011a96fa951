"""How many Boxes there are and are in use, and which are away with a worker that is not there."""

from collections.abc import Mapping

import attrs

from boxsched.engine.books import Books
from boxsched.scheduling import Scheduler


@attrs.frozen
class Capacity:
    """``total`` and ``busy`` count those that are ``away`` too; ``away_busy``: with a job."""

    total: int
    busy: int
    away: int
    away_busy: int


@attrs.frozen
class Absence:
    """The Boxes of one type that are to stay: on connected workers, and on which others."""

    connected: int
    away: int
    workers: tuple[str, ...]


def capacity(core: Scheduler) -> Capacity:
    total, busy = len(core.boxes), core.usage.boxes
    away = sum(pool.away for pool in core.pools.values())
    free = sum(pool.free for pool in core.pools.values())
    return Capacity(total, busy, away, max(0, away - (total - busy - free)) if away else 0)


def absences(books: Books) -> Mapping[str, Absence]:
    """By type, of those types that have Boxes away."""
    found = {}
    for pool in books.core.pools.values():
        if not pool.away:
            continue
        away = [box.id for box in pool.boxes.values() if box.away and not box.retired]
        workers = {books.boxes[id_].worker for id_ in away}
        names = sorted(books.names.get(worker, f"worker {worker}") for worker in workers)
        found[pool.box_type] = Absence(pool.wanted - len(away), len(away), tuple(names))
    return found
