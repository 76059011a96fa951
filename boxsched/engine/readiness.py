"""Workers that can begin no jobs at present: the disk is full, git is missing, memory ran out.

A worker says so with each heartbeat, and with the report of a job whose commands it could not
begin. Its Boxes are withdrawn: they get no job, and what runs on them goes on. The worker looks by
itself whether it can begin jobs again; the first heartbeat that says so gives its Boxes back.

A report withdraws the Boxes in its own turn, so that no other job meets the same trouble. What the
worker's row says (``Sights.problems``) then decides: the worker has it stored before its report.
"""

from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.model import WorkerId
from boxsched.scheduling import interface as core


def apply(out: Outcomes, sights: Sights) -> None:
    """What the workers' rows say now, where it is news."""
    if sights.problems is None:
        return
    for worker in list(out.books.problems):
        if worker not in sights.problems:
            _can_begin(out, worker, there=worker in sights.ready)
    for worker, problem in sights.problems.items():
        withdraw(out, worker, problem)


def connected(out: Outcomes, worker: WorkerId, problem: str | None) -> None:
    """It has come, and said so: to be called once its Boxes are in the books."""
    if problem is not None:
        withdraw(out, worker, problem)
        out.decide(core.BoxesAway(out.books.box_ids(worker)))  # those that came just now, too
    elif worker in out.books.problems:
        _can_begin(out, worker, there=False)  # as every Box of a worker that comes is given back


def withdraw(out: Outcomes, worker: WorkerId, problem: str) -> None:
    """Its Boxes get no job from now on."""
    books = out.books
    if books.problems.get(worker) == problem:
        return
    books.problems[worker] = problem
    out.decide(core.BoxesAway(out.books.box_ids(worker)))
    out.news.worker("cannot_begin", worker, name=books.names.get(worker), problem=problem)
    out.news.boxes_changed()
    out.problems[worker] = problem


def give_back(out: Outcomes, worker: WorkerId) -> None:
    """Its Boxes are to be had again, behind all that were free before."""
    boxes = out.books.box_ids(worker)
    out.free_anew([box for box in boxes if out.books.core.boxes[box].away])
    out.decide(core.BoxesBack(boxes))


def _can_begin(out: Outcomes, worker: WorkerId, *, there: bool) -> None:
    """``there``: it is connected; else its Boxes come back with it."""
    del out.books.problems[worker]
    if there:
        give_back(out, worker)
    out.news.worker("can_begin", worker, name=out.books.names.get(worker))
    out.news.boxes_changed()
    out.problems[worker] = None
