"""Sentences about jobs on absent workers, and what a person can do about them."""

import math
from collections.abc import Sequence

from boxsched.engine.books import Books, LiveJob, LiveWorkload
from boxsched.engine.endings import was_lost_too_often
from boxsched.engine.watch import given_again_after
from boxsched.model import Kind, WorkerId, job_text
from boxsched.protocol.reasons import AGAIN, is_not_begun, without_wait
from boxsched.protocol.timing import LOST_AFTER_SECONDS
from boxsched.states import JobState, State

NAMES_AT_MOST = 3


def unseen(books: Books, live: LiveWorkload) -> Sequence[LiveJob]:
    """Return the workload's jobs whose state is not known."""
    stopping = live.state is State.STOPPING
    return [
        job
        for job in live.running or ()
        if (job.state is JobState.UNKNOWN or (stopping and books.out_of_sight(job)))
        and not books.waits_for_box(live, job)
    ]


def waiting_again(books: Books, live: LiveWorkload) -> Sequence[LiveJob]:
    """Return the jobs of lost attempts, or of ones that a worker could not begin: they wait for
    another Box.
    """
    return [job for job in live.running or () if books.waits_for_box(live, job)]


def waits_for_another(books: Books, jobs: Sequence[LiveJob], what: str = "A job") -> str:
    """Return the beginning of the sentence for a workload with such jobs: for what they wait."""
    more = f", and {len(jobs) - 1} more wait" if len(jobs) > 1 else ""
    return f"{what} waits for another Box{more}: {_why_again(books, jobs[0])}."


def box_type_of(books: Books, job: LiveJob) -> str:
    """Return the type of Box that the admitted job has, or waits for."""
    assert job.box is not None
    return books.core.boxes[job.box].pool.box_type


def _why_again(books: Books, job: LiveJob) -> str:
    if job.reason == AGAIN:
        return "it is to be run again"
    if is_not_begun(job.reason):
        return without_wait(job.reason)
    return f"its worker{_names(books, [job])} was not heard from for too long"


def worker_away(books: Books, live: LiveWorkload, jobs: Sequence[LiveJob]) -> str:
    """Return the sentence for a workload with jobs on absent workers."""
    said = f"{len(jobs)} jobs is" if len(jobs) > 1 else "a job is"
    text = f"Its worker{_names(books, jobs)} is away: the state of {said} unknown."
    return f"{text} {what_to_do(books, live, jobs)}"


def lane_blocked(books: Books, first: LiveWorkload, named: str) -> str | None:
    """The sentence for a workload that waits in its lane for ``first``, if the worker of ``first``
    is away or its job waits for another Box; else None.
    """
    jobs = unseen(books, first)
    if not jobs:
        again = waiting_again(books, first)
        return (
            f"Waits for {named}. {waits_for_another(books, again, 'A job of it')}"
            if again
            else None
        )
    text = f"Waits for {named}, whose worker{_names(books, jobs)} is away."
    return f"{text} {what_to_do(books, first, jobs)}"


def what_to_do(books: Books, live: LiveWorkload, jobs: Sequence[LiveJob]) -> str:
    """Return what a person can do, or until when a build waits for the worker."""
    if live.kind is Kind.BUILD:
        return _until(books, live, jobs)
    more = f" (and {len(jobs) - 1} more)" if len(jobs) > 1 else ""
    results = "passed|failed" if live.state is State.STOPPING else "passed|failed|again"
    return (
        "If the worker will not return, set the job's result: "
        f"`boxsched resolve {job_text(jobs[0].id)} {results}`{more}."
    )


def _until(books: Books, live: LiveWorkload, jobs: Sequence[LiveJob]) -> str:
    after = [books.lost_after.get(worker, LOST_AFTER_SECONDS) for worker in _workers(books, jobs)]
    seconds = given_again_after(max(after, default=LOST_AFTER_SECONDS))
    it, ends = ("the jobs", "end") if len(jobs) > 1 else ("the job", "ends")
    if live.state is State.RUNNING and not all(was_lost_too_often(books, job) for job in jobs):
        ends = "get free Boxes" if len(jobs) > 1 else "gets a free Box"
        ends += " of another worker"
    silence = f"about {math.ceil(seconds)} s after its silence began"
    return f"If it stays away, {it} {ends} {silence}."


def listed(names: Sequence[str]) -> str:
    left = len(names) - NAMES_AT_MOST
    more = f" and {left} more" if left > 0 else ""
    return ", ".join(names[:NAMES_AT_MOST]) + more


def _names(books: Books, jobs: Sequence[LiveJob]) -> str:
    workers = _workers(books, jobs)
    names = listed(sorted(books.names[worker] for worker in workers if worker in books.names))
    return f" ({names})" if names else ""


def _workers(books: Books, jobs: Sequence[LiveJob]) -> set[WorkerId]:
    boxes = (books.boxes.get(job.box) for job in jobs if job.box is not None)
    return {box.worker for box in boxes if box is not None}
