"""Workers that are not heard from, are back, or are lost: what becomes of their Boxes and jobs.

Silence makes a job ``unknown``, nothing more: it may be running. A build's job is ended by its own
supervisor after ``--lost-after``, worker or not; when that must have happened it is given again,
with a higher lease token, on the first free Box of its type. Deploys and sessions have no such
deadline: they stay unknown, and their lane closed, until the worker is back or an operator decides.
"""

from collections.abc import Iterator

from boxsched.engine import endings, readiness
from boxsched.engine.books import BoxBook, LiveJob, LiveWorkload
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import Sights
from boxsched.model import BoxId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import BoxesSet, WorkerForgotten
from boxsched.protocol.reasons import LOST, waits_again
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved


def apply(out: Outcomes, sights: Sights) -> None:
    readiness.apply(out, sights)
    for worker in sights.back:
        back(out, worker)
        out.news.worker("heard_again", worker)
    for worker in sights.hung_up:
        out.decide(core.BoxesAway(out.books.box_ids(worker)))
        out.news.worker("disconnected", worker)
    for worker in sights.silent:
        _silent(out, worker)
        out.news.worker("silent", worker)
    for worker in sights.lost:
        _lost(out, worker)
        out.news.worker("lost", worker)
        out.news.boxes_changed()


def connected(out: Outcomes, command: BoxesSet) -> None:
    """A worker connected: its Boxes that are new come, those it has no more go."""
    worker = WorkerId(command.worker)
    if command.connection < out.books.connections.get(worker, 0):
        return  # it has connected anew since: that is told, too
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
        elif out.books.core.boxes[id_].retired:  # the worker is back with it
            out.draft.take(known)
        out.decide(core.BoxAdded(id_, box_type))
    out.books.places[worker] = command.node
    readiness.connected(out, worker, command.problem)
    back(out, worker)
    out.news.worker("connected", worker)
    out.news.boxes_changed()
    out.to_tell.add(worker)


def back(out: Outcomes, worker: WorkerId) -> None:
    """Its jobs are what they were before the silence; what else is true it will report."""
    if worker not in out.books.problems:
        readiness.give_back(out, worker)
    for live, job in list(_jobs(out, worker)):
        if job.state is not JobState.UNKNOWN or out.books.lost.get(job.id):
            continue  # what has ended as lost does not run again by that
        out.books.lost.pop(job.id, None)
        out.decide(core.JobsFound(live.id, (job_index(job.id),)))
        move = JobMove.SEEN_WAITING if job.started_at is None else JobMove.SEEN_AGAIN
        job.state = moved(JOB_TRANSITIONS, job.state, move)
        if live.state is State.STOPPING or job.reason is not None:  # its time is up
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
        out.draft.job(job)
        out.tell(job)
        out.news.job(live, job, "seen_again")


def forget(out: Outcomes, command: WorkerForgotten) -> None:
    """Its Boxes go, unless it has connected anew, or a job is known on one."""
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
    out.decide(core.BoxesAway(out.books.box_ids(worker)))
    for live, job in list(_jobs(out, worker)):
        if job.state is not JobState.UNKNOWN:
            endings.lose_sight(out, live, job)


def _lost(out: Outcomes, worker: WorkerId) -> None:
    """Its Boxes go, those of its jobs as these end or are given again."""
    for box in out.books.box_ids(worker):
        out.retire(box)
    for live, job in list(_jobs(out, worker)):
        if live.kind is not Kind.BUILD or job.state is JobState.FINISHED:
            continue  # by a job before it, as it may be
        if waits_again(job.reason):
            continue  # it waits for another Box already
        if not endings.give_again(out, live, job, ended=False):
            asked = endings.is_to_end(live, job)
            out.end(live, job, Result.STOPPED if asked else Result.FAILED, LOST)


def _jobs(out: Outcomes, worker: WorkerId) -> Iterator[tuple[LiveWorkload, LiveJob]]:
    """What runs on it, as far as one knows."""
    for book in out.books.boxes_of(worker):
        found = None if book.job is None else out.books.job(book.job)
        if found is not None and found[1].state is not JobState.FINISHED:
            yield found
