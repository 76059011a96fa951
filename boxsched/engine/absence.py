"""Workers that are not heard from, are back, or are lost: what becomes of their Boxes and jobs.

Silence makes a job ``unknown``, nothing more: it may be running. A build's job is ended by its own
supervisor after ``--lost-after``, worker or not; when that must have happened it is given again,
with a higher lease token, on the first free Box of its type. Deploys and sessions have no such
deadline: they stay unknown, and their lane closed, until the worker is back or an operator decides.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from boxsched.engine import endings, readiness
from boxsched.engine.books import LiveJob, LiveWorkload
from boxsched.engine.watch import Sights
from boxsched.model import BoxId, Kind, WorkerId, job_index
from boxsched.protocol.inbox import WorkerForgotten
from boxsched.protocol.reasons import waits_again
from boxsched.scheduling import interface as core
from boxsched.states import JOB_TRANSITIONS, JobMove, JobState, Result, State, moved

if TYPE_CHECKING:
    from boxsched.engine.turn import Turn

LOST = "lost: its worker was not heard from"


def apply(turn: "Turn", sights: Sights) -> None:
    readiness.apply(turn, sights)
    for worker in sights.back:
        back(turn, worker)
        turn.news.worker("heard_again", worker)
    for worker in sights.hung_up:
        turn.decide(core.BoxesAway(_boxes(turn, worker)))
        turn.news.worker("disconnected", worker)
    for worker in sights.silent:
        _silent(turn, worker)
        turn.news.worker("silent", worker)
    for worker in sights.lost:
        _lost(turn, worker)
        turn.news.worker("lost", worker)
        turn.news.boxes_changed()


def back(turn: "Turn", worker: WorkerId) -> None:
    """Its jobs are what they were before the silence; what else is true it will report."""
    if worker not in turn.books.problems:
        readiness.give_back(turn, worker)
    for live, job in list(_jobs(turn, worker)):
        if job.state is not JobState.UNKNOWN or turn.books.lost.get(job.id):
            continue  # what has ended as lost does not run again by that
        turn.books.lost.pop(job.id, None)
        turn.decide(core.JobsFound(live.id, (job_index(job.id),)))
        move = JobMove.SEEN_WAITING if job.started_at is None else JobMove.SEEN_AGAIN
        job.state = moved(JOB_TRANSITIONS, job.state, move)
        if live.state is State.STOPPING or job.reason is not None:  # its time is up
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
        turn.draft.job(job)
        turn.tell(job)
        turn.news.job(live, job, "seen_again")


def forget(turn: "Turn", command: WorkerForgotten) -> None:
    """Its Boxes go, unless it has connected anew, or a job is known on one."""
    worker = WorkerId(command.worker)
    books = turn.books.boxes_of(worker)
    newest = turn.books.connections.get(worker, command.connection)
    if newest != command.connection or any(book.job is not None for book in books):
        return
    for book in books:
        turn.retire(book.id)
    turn.news.worker("forgotten", worker, name=turn.books.names.get(worker), by=command.by)
    turn.books.forget_worker(worker, command.connection)
    turn.news.boxes_changed()


def _silent(turn: "Turn", worker: WorkerId) -> None:
    turn.decide(core.BoxesAway(_boxes(turn, worker)))
    for live, job in list(_jobs(turn, worker)):
        if job.state is not JobState.UNKNOWN:
            endings.lose_sight(turn, live, job)


def _lost(turn: "Turn", worker: WorkerId) -> None:
    """Its Boxes go, those of its jobs as these end or are given again."""
    for box in _boxes(turn, worker):
        turn.retire(box)
    for live, job in list(_jobs(turn, worker)):
        if live.kind is not Kind.BUILD or job.state is JobState.FINISHED:
            continue  # by a job before it, as it may be
        if waits_again(job.reason):
            continue  # it waits for another Box already
        if not endings.give_again(turn, live, job, ended=False):
            asked = endings.is_to_end(live, job)
            endings.end(turn, live, job, Result.STOPPED if asked else Result.FAILED, LOST)


def _boxes(turn: "Turn", worker: WorkerId) -> tuple[BoxId, ...]:
    return tuple(book.id for book in turn.books.boxes_of(worker))


def _jobs(turn: "Turn", worker: WorkerId) -> Iterator[tuple[LiveWorkload, LiveJob]]:
    """What runs on it, as far as one knows."""
    for book in turn.books.boxes_of(worker):
        found = None if book.job is None else turn.books.job(book.job)
        if found is not None and found[1].state is not JobState.FINISHED:
            yield found
