"""Workers that operators drain: they finish their jobs, get no new ones, and then end.

The Boxes of such a worker are withdrawn from the queue; the jobs on them continue. When the last
job has ended, the worker's row has ``Drain.done``, and its node tells the worker to end. Then its
Boxes stay withdrawn until it connects again, even if the drain is cancelled, because the worker may
already be ending.
"""

from collections.abc import Sequence

import attrs

from boxsched.engine import readiness, submissions
from boxsched.engine.books import Books
from boxsched.engine.news import rfc3339
from boxsched.engine.outcomes import Outcomes
from boxsched.model import WorkerId, WorkloadId, job_workload
from boxsched.protocol.batches import DrainChange
from boxsched.protocol.inbox import DrainEnded, DrainSet, Stop
from boxsched.protocol.workers import Drain
from boxsched.scheduling import interface as core


def begin(out: Outcomes, command: DrainSet) -> None:
    worker = WorkerId(command.worker)
    before = out.books.drains.get(worker)
    done = before is not None and before.done
    drain = Drain(command.by, command.since, command.note, command.stop_at, done)
    start(out, worker, drain)


def start(out: Outcomes, worker: WorkerId, drain: Drain) -> None:
    """Drain the worker, or change its drain."""
    books = out.books
    if worker not in books.places:
        return  # the worker was removed
    _set(out, worker, drain)
    out.decide(core.BoxesAway(books.box_ids(worker)))
    out.news.worker(
        "draining",
        worker,
        name=books.names.get(worker),
        by=drain.by,
        note=drain.note,
        stop_at=drain.stop_at and rfc3339(drain.stop_at),
    )
    out.news.boxes_changed()


def end(out: Outcomes, command: DrainEnded) -> None:
    lift(out, WorkerId(command.worker), command.by)


def lift(out: Outcomes, worker: WorkerId, by: str) -> None:
    """End the drain. If the worker may already be ending, it must connect again before it gets
    jobs.
    """
    books = out.books
    drain = books.drains.pop(worker, None)
    if drain is None:
        return
    out.draft.drain(DrainChange(worker, None, 0))
    if drain.done and worker not in books.absent:
        out.hang_up(worker)
    elif books.gets_jobs(worker):
        readiness.give_back(out, worker)
    out.news.worker("drain_ended", worker, name=books.names.get(worker), by=by)
    out.news.boxes_changed()


def connected(out: Outcomes, worker: WorkerId) -> None:
    """Note that the worker has connected again, so it is no longer ending."""
    drain = out.books.drains.get(worker)
    if drain is not None and drain.done:
        _set(out, worker, attrs.evolve(drain, done=False))


def overdue(books: Books, now: float) -> Sequence[WorkerId]:
    """Return the workers whose jobs must be stopped now."""
    return [
        worker
        for worker, drain in books.drains.items()
        if drain.stop_at is not None and drain.stop_at <= now
    ]


def stop_overdue(out: Outcomes) -> None:
    """Stop the workloads with jobs on workers whose drain time has passed."""
    books = out.books
    for worker in overdue(books, out.now):
        drain = books.drains[worker]
        _set(out, worker, attrs.evolve(drain, stop_at=None))
        by = f"{drain.by}, who drains {books.names.get(worker, f'worker {worker}')}"
        for workload in _workloads(books, worker):
            submissions.stop(out, Stop(workload, by))


def note_done(out: Outcomes) -> None:
    """Note which drained workers have no jobs left, after the core has decided."""
    books = out.books
    for worker, drain in list(books.drains.items()):
        if not drain.done and all(book.job is None for book in books.boxes_of(worker)):
            _set(out, worker, attrs.evolve(drain, done=True))
            out.news.worker("drained", worker, name=books.names.get(worker))


def _set(out: Outcomes, worker: WorkerId, drain: Drain) -> None:
    out.books.drains[worker] = drain
    out.draft.drain(DrainChange(worker, drain, out.books.connections.get(worker, 0)))


def _workloads(books: Books, worker: WorkerId) -> Sequence[WorkloadId]:
    """Return the workloads with jobs on the worker's Boxes."""
    jobs = [book.job for book in books.boxes_of(worker) if book.job is not None]
    return list(dict.fromkeys(job_workload(job) for job in jobs))
