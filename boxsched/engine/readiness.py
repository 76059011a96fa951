"""Workers that cannot begin jobs: the disk is full, git is missing, no memory is left.

A worker reports this with each heartbeat, and in the report of a job whose commands it could not
begin. Its Boxes are withdrawn: they get no new job, and the jobs on them continue. The worker
checks whether it can begin jobs again. Its first heartbeat without a problem makes its Boxes usable
again.

A report withdraws the Boxes in the same turn, so that no other job meets the problem. After that
the worker's row decides (``Sights.problems``), which contains the problem before the report
arrives.
"""

from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.model import WorkerId
from boxsched.scheduling import interface as core


def apply(out: Outcomes, sights: Sights) -> None:
    """Apply the problems in the workers' rows, if they have changed."""
    if sights.problems is None:
        return
    for worker in list(out.books.problems):
        if worker not in sights.problems:
            _can_begin(out, worker)
            if out.books.gets_jobs(worker):
                give_back(out, worker)
    for worker, problem in sights.problems.items():
        withdraw(out, worker, problem)


def connected(out: Outcomes, worker: WorkerId, problem: str | None) -> None:
    """A worker has connected, with or without a problem; the caller gives its Boxes back."""
    if problem is not None:
        withdraw(out, worker, problem)
    elif worker in out.books.problems:
        _can_begin(out, worker)


def withdraw(out: Outcomes, worker: WorkerId, problem: str) -> None:
    """Withdraw the worker's Boxes: they get no more jobs."""
    books = out.books
    if books.problems.get(worker) == problem:
        return
    books.problems[worker] = problem
    out.decide(core.BoxesAway(out.books.box_ids(worker)))
    out.news.worker("cannot_begin", worker, name=books.names.get(worker), problem=problem)
    out.news.boxes_changed()
    out.problems[worker] = problem


def give_back(out: Outcomes, worker: WorkerId) -> None:
    """Make the worker's Boxes free again, at the end of the order of free Boxes."""
    boxes = out.books.box_ids(worker)
    out.free_anew([box for box in boxes if out.books.core.boxes[box].away])
    out.decide(core.BoxesBack(boxes))


def _can_begin(out: Outcomes, worker: WorkerId) -> None:
    del out.books.problems[worker]
    out.news.worker("can_begin", worker, name=out.books.names.get(worker))
    out.news.boxes_changed()
    out.problems[worker] = None
