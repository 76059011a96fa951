"""Sentences about jobs on absent workers, and what a person can do about them."""

from collections.abc import Sequence

from boxsched.engine.books import Books, LiveJob, LiveWorkload
from boxsched.model import Kind, job_text
from boxsched.protocol.reasons import is_not_begun, without_wait
from boxsched.states import JobState, State

NAMES_AT_MOST = 3


def unseen(books: Books, live: LiveWorkload) -> Sequence[LiveJob]:
    """Return the workload's jobs whose state is not known."""
    stopping = live.state is State.STOPPING
    return [
        job
        for job in live.running or ()
        if (job.state is JobState.UNKNOWN or (stopping and books.out_of_sight(job)))
        and not is_not_begun(job.reason)
    ]


def unbegun(live: LiveWorkload) -> Sequence[LiveJob]:
    """Return the jobs that a worker could not begin and that wait for another Box."""
    return [job for job in live.running or () if is_not_begun(job.reason)]


def waits_for_another(jobs: Sequence[LiveJob]) -> str:
    """Return the sentence for a workload with such jobs."""
    more = f", and {len(jobs) - 1} more wait" if len(jobs) > 1 else ""
    return f"A job waits for another Box{more}: {without_wait(jobs[0].reason)}."


def worker_away(books: Books, live: LiveWorkload, jobs: Sequence[LiveJob]) -> str:
    """Return the sentence for a workload with jobs on absent workers."""
    said = f"{len(jobs)} jobs is" if len(jobs) > 1 else "a job is"
    text = f"Its worker{_names(books, jobs)} is away: the state of {said} unknown."
    return f"{text} {what_to_do(live, jobs)}".rstrip()


def lane_blocked(books: Books, first: LiveWorkload, named: str) -> str | None:
    """The sentence for a workload that waits in its lane for ``first``, if the worker of ``first``
    is away; else None."""
    jobs = unseen(books, first)
    if not jobs:
        return None
    text = f"Waits for {named}, whose worker{_names(books, jobs)} is away."
    return f"{text} {what_to_do(first, jobs)}".rstrip()


def what_to_do(live: LiveWorkload, jobs: Sequence[LiveJob]) -> str:
    """Return what a person can do; empty for a build, which gets another Box automatically."""
    if live.kind is Kind.BUILD:
        return ""
    more = f" (and {len(jobs) - 1} more)" if len(jobs) > 1 else ""
    results = "passed|failed" if live.state is State.STOPPING else "passed|failed|again"
    return (
        "If the worker will not return, set the job's result: "
        f"`boxsched resolve {job_text(jobs[0].id)} {results}`{more}."
    )


def listed(names: Sequence[str]) -> str:
    left = len(names) - NAMES_AT_MOST
    more = f" and {left} more" if left > 0 else ""
    return ", ".join(names[:NAMES_AT_MOST]) + more


def _names(books: Books, jobs: Sequence[LiveJob]) -> str:
    boxes = (books.boxes.get(job.box) for job in jobs if job.box is not None)
    workers = {box.worker for box in boxes if box is not None}
    names = listed(sorted(books.names[worker] for worker in workers if worker in books.names))
    return f" ({names})" if names else ""
