"""Workers whose fingerprint differs from what this leader requires: incompatible ones.

They get no new jobs; their present jobs continue. If no other live node would accept such a worker
either, it is drained, so that it ends and can be restarted with a matching version. The drain ends
automatically when the worker matches again.
"""

from boxsched.engine import draining
from boxsched.engine.books import Books
from boxsched.engine.outcomes import Outcomes
from boxsched.model import WorkerId
from boxsched.protocol import fingerprint
from boxsched.protocol.batches import Differences
from boxsched.protocol.workers import Drain

BY = "boxsched"  # shown as the one who drains a worker that no node accepts


def judge(books: Books, worker: WorkerId, reported: str) -> None:
    "Compare the fingerprint that the worker reported. The caller enables or withdraws its Boxes."
    differs = fingerprint.differences(fingerprint.parts(reported), books.required)
    if differs:
        books.incompatible[worker] = differs
    else:
        books.incompatible.pop(worker, None)


def apply(out: Outcomes) -> None:
    """Store and report what has changed since the last turn, and end drains that are over."""
    books = out.books
    if books.incompatible != books.shown_incompatible:
        for worker in books.incompatible.keys() | books.shown_incompatible.keys():
            if books.incompatible.get(worker) != books.shown_incompatible.get(worker):
                _report(out, worker)
        books.shown_incompatible = dict(books.incompatible)
    for worker, drain in list(books.drains.items()):
        if drain.automatic and worker not in books.incompatible:
            draining.lift(out, worker, BY)


def drain(out: Outcomes, worker: WorkerId) -> None:
    """Drain the worker, because no node would accept it."""
    differs = out.books.incompatible.get(worker)
    if differs is not None and worker not in out.books.drains:
        note = f"incompatible: {'; '.join(differs)}"
        draining.start(out, worker, Drain(BY, out.now, note, automatic=True))


def _report(out: Outcomes, worker: WorkerId) -> None:
    books = out.books
    differs = books.incompatible.get(worker, ())
    if worker not in books.places:
        return  # the worker was removed
    out.draft.differences(Differences(worker, differs))
    name = books.names.get(worker)
    out.news.worker("incompatible" if differs else "compatible", worker, name=name, differs=differs)
    out.news.boxes_changed()
