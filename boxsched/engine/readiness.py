"""Workers that can begin no jobs at present: the disk is full, git is missing, memory ran out.

A worker says so with each heartbeat, and with the report of a job whose commands it could not
begin. Its Boxes are withdrawn: they get no job, and what runs on them goes on. The worker looks by
itself whether it can begin jobs again; the first heartbeat that says so gives its Boxes back.

A report withdraws the Boxes in its own turn, so that no other job meets the same trouble. What the
worker's row says (``Sights.problems``) then decides: the worker has it stored before its report.
"""

from typing import TYPE_CHECKING

from boxsched.engine.watch import Sights
from boxsched.model import BoxId, WorkerId
from boxsched.scheduling import interface as core

if TYPE_CHECKING:
    from boxsched.engine.turn import Turn


def apply(turn: "Turn", sights: Sights) -> None:
    """What the workers' rows say now, where it is news."""
    if sights.problems is None:
        return
    for worker in list(turn.books.problems):
        if worker not in sights.problems:
            _can_begin(turn, worker, there=worker in sights.ready)
    for worker, problem in sights.problems.items():
        withdraw(turn, worker, problem)


def connected(turn: "Turn", worker: WorkerId, problem: str | None) -> None:
    """It has come, and said so: to be called once its Boxes are in the books."""
    if problem is not None:
        withdraw(turn, worker, problem)
        turn.decide(core.BoxesAway(_boxes(turn, worker)))  # those that came just now, too
    elif worker in turn.books.problems:
        _can_begin(turn, worker, there=False)  # as every Box of a worker that comes is given back


def withdraw(turn: "Turn", worker: WorkerId, problem: str) -> None:
    """Its Boxes get no job from now on."""
    books = turn.books
    if books.problems.get(worker) == problem:
        return
    books.problems[worker] = problem
    turn.decide(core.BoxesAway(_boxes(turn, worker)))
    turn.news.worker("cannot_begin", worker, name=books.names.get(worker), problem=problem)
    turn.news.boxes_changed()
    turn.problems[worker] = problem


def give_back(turn: "Turn", worker: WorkerId) -> None:
    """Its Boxes are to be had again, behind all that were free before."""
    boxes = _boxes(turn, worker)
    turn.free_anew([box for box in boxes if turn.books.core.boxes[box].away])
    turn.decide(core.BoxesBack(boxes))


def _can_begin(turn: "Turn", worker: WorkerId, *, there: bool) -> None:
    """``there``: it is connected; else its Boxes come back with it."""
    del turn.books.problems[worker]
    if there:
        give_back(turn, worker)
    turn.news.worker("can_begin", worker, name=turn.books.names.get(worker))
    turn.news.boxes_changed()
    turn.problems[worker] = None


def _boxes(turn: "Turn", worker: WorkerId) -> tuple[BoxId, ...]:
    return tuple(book.id for book in turn.books.boxes_of(worker))
