"""Count the Boxes: how many exist, are in use, or belong to absent workers."""

import enum
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


class Withheld(enum.Enum):
    """Why a worker's Boxes are given no jobs."""

    ABSENT = "absent"
    DRAINING = "draining"
    INCOMPATIBLE = "incompatible"
    TROUBLED = "troubled"


@attrs.frozen
class Absence:
    """The Boxes of one type that are not retired.

    ``usable`` ones; ``absent`` ones, on workers that are not connected; and those of connected
    workers that are given no jobs: ``draining`` ones, ``incompatible`` ones, and ``troubled`` ones,
    which can begin no jobs.
    """

    usable: int
    absent: int
    absent_workers: tuple[str, ...]
    troubled: int
    troubled_workers: tuple[str, ...]  # their names, with their problems
    draining: int = 0
    draining_workers: tuple[str, ...] = ()
    incompatible: int = 0
    incompatible_workers: tuple[str, ...] = ()  # with what differs


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
        of = {why: [w for w in away if withheld(books, w) is why] for why in Withheld}
        absent, draining = of[Withheld.ABSENT], of[Withheld.DRAINING]
        incompatible, troubled = of[Withheld.INCOMPATIBLE], of[Withheld.TROUBLED]
        found[pool.box_type] = Absence(
            usable=pool.wanted - len(away),
            absent=len(absent),
            absent_workers=_names(books, absent),
            troubled=len(troubled),
            troubled_workers=_names(books, troubled),
            draining=len(draining),
            draining_workers=_names(books, draining),
            incompatible=len(incompatible),
            incompatible_workers=_names(books, incompatible),
        )
    return found


def _names(books: Books, workers: Sequence[WorkerId]) -> tuple[str, ...]:
    return tuple(sorted({named(books, worker) for worker in workers}))


def withheld(books: Books, worker: WorkerId) -> Withheld | None:
    """Why the worker's Boxes are given no jobs; None: they are."""
    if worker in books.absent:
        return Withheld.ABSENT
    drain = books.drains.get(worker)
    if drain is not None and not drain.automatic:
        return Withheld.DRAINING
    if worker in books.incompatible or drain is not None:
        return Withheld.INCOMPATIBLE
    return Withheld.TROUBLED if worker in books.problems else None


def named(books: Books, worker: WorkerId) -> str:
    """Return the worker's name, with its problem."""
    name = books.names.get(worker, f"worker {worker}")
    wrong = books.problems.get(worker)
    if withheld(books, worker) is Withheld.INCOMPATIBLE:
        wrong = "; ".join(books.incompatible.get(worker, ()))
    return f"{name} ({wrong})" if wrong else name
