"""Workers that fall silent, come back, or are lost: what happens to their Boxes and jobs.

Silence only makes a job ``unknown``, because it may still be running. A build's supervisor ends the
job after ``--lost-after``, with or without its worker. When that must have happened, the job gets
the next free Box of its type, with a higher lease token. Deploys and sessions have no such
deadline. They stay unknown, and their lane stays closed, until the worker is back or an operator
decides.
"""

from collections.abc import Iterator

from boxsched.engine import compatibility, draining, endings, readiness
from boxsched.engine.books import BoxBook, LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.model import BoxId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import BoxesSet, WorkerForgotten
from boxsched.protocol.reasons import LOST, waits_again
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved


def apply(out: Outcomes, sights: Sights) -> None:
    for worker in sights.back:
        back(out, worker)
        out.news.worker("heard_again", worker)
    for worker in sights.hung_up:
        out.leave(worker)
        out.news.worker("disconnected", worker)
    for worker in sights.silent:
        _silent(out, worker)
        out.news.worker("silent", worker)
    for worker in sights.lost:
        _lost(out, worker)
        out.news.worker("lost", worker)
        out.news.boxes_changed()
    readiness.apply(out, sights)
    for worker in sights.unfit:
        compatibility.drain(out, worker)


def connected(out: Outcomes, command: BoxesSet) -> None:
    """A worker connected: add its new Boxes, retire those that it no longer has."""
    worker = WorkerId(command.worker)
    if command.connection < out.books.connections.get(worker, 0):
        return  # it has connected again since; that connection has another command
    out.books.connections[worker] = command.connection
    has = {BoxId(id_): box_type for id_, _, box_type in command.boxes}
    for book in out.books.boxes_of(worker):
        if book.id not in has:
            out.retire(book.id)
    for id_, box_type in has.items():
        out.draft.come(id_)
        known = out.books.boxes.get(id_)
        if known is None:
            known = BoxBook(id_, worker, None, None, None, out.now)
            out.books.add_box(known)
            out.draft.free(known)
        elif out.books.core.boxes[id_].retired:  # the worker is back and has this Box
            out.draft.take(known)
        out.decide(core.BoxAdded(id_, box_type))
    out.books.places[worker] = command.node
    if command.name:
        out.books.names[worker] = command.name
    readiness.connected(out, worker, command.problem)
    draining.connected(out, worker)
    compatibility.judge(out.books, worker, command.fingerprint)
    back(out, worker)
    out.news.worker("connected", worker)
    out.news.boxes_changed()
    out.to_notify.add(worker)


def back(out: Outcomes, worker: WorkerId) -> None:
    """Restore the jobs' states from before the silence; the worker will report what has changed."""
    out.books.absent.discard(worker)
    if out.books.gets_jobs(worker):
        readiness.give_back(out, worker)
    else:  # also the Boxes that it has just brought
        out.decide(core.BoxesAway(out.books.box_ids(worker)))
    for live, job in list(_jobs(out, worker)):
        if job.state is not JobState.UNKNOWN or out.books.lost.get(job.id):
            continue  # an attempt that has ended as lost does not run again
        out.books.lost.pop(job.id, None)
        out.decide(core.JobsFound(live.id, (job_index(job.id),)))
        move = JobMove.SEEN_WAITING if job.started_at is None else JobMove.SEEN_AGAIN
        job.state = moved(JOB_TRANSITIONS, job.state, move)
        if live.state is State.STOPPING or job.reason is not None:  # its time limit has passed
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
        out.draft.job(job)
        out.notify(job)
        out.news.job(live, job, "seen_again")


def forget(out: Outcomes, command: WorkerForgotten) -> None:
    """Remove the worker's Boxes, unless it has connected again or one of them has a job."""
    worker = WorkerId(command.worker)
    books = out.books.boxes_of(worker)
    newest = out.books.connections.get(worker, command.connection)
    if newest != command.connection or any(book.job is not None for book in books):
        return
    for book in books:
        out.retire(book.id)
    out.news.worker("forgotten", worker, name=out.books.names.get(worker), by=command.by)
    out.books.forget_worker(worker, command.connection)
    out.news.boxes_changed()


def _silent(out: Outcomes, worker: WorkerId) -> None:
    out.leave(worker)
    for live, job in list(_jobs(out, worker)):
        if job.state is not JobState.UNKNOWN:
            endings.lose_sight(out, live, job)


def _lost(out: Outcomes, worker: WorkerId) -> None:
    """Retire the worker's Boxes. One with a job is removed when it has no job any more."""
    for box in out.books.box_ids(worker):
        out.retire(box)
    for live, job in list(_jobs(out, worker)):
        if live.kind is not Kind.BUILD or job.state is JobState.FINISHED:
            continue  # an earlier job may have ended it (fail_fast)
        if waits_again(job.reason):
            continue  # it already waits for another Box
        if not endings.give_again(out, live, job, ended=False):
            asked = endings.is_to_end(live, job)
            out.end(live, job, Result.STOPPED if asked else Result.FAILED, LOST)


def _jobs(out: Outcomes, worker: WorkerId) -> Iterator[tuple[LiveWorkload, LiveJob]]:
    """Return the unfinished jobs on the worker's Boxes."""
    for book in out.books.boxes_of(worker):
        found = None if book.job is None else out.books.job(book.job)
        if found is not None and found[1].state is not JobState.FINISHED:
            yield found
