"""Logs that were moved into files: which ones, and where they are."""

from boxsched.model import JobId
from boxsched.store.blocks import Steps, load

_SQL = load("logs.sql")
_PRUNING = load("pruning.sql")

JOBS_A_WORKLOAD = 1_024  # ids of jobs: ``model.job_id``

Log = tuple[JobId, int]  # a job and an attempt


def finished_logs(after: JobId, before: float, limit: int) -> Steps[tuple[list[Log], JobId | None]]:
    """Return those of the next logs in the database whose workloads finished before this time, and
    after which job to continue (None at the end).
    """
    rows = yield _SQL["next_logs"](job=after, limit=limit)
    workloads = sorted({job // JOBS_A_WORKLOAD for job, _ in rows})
    ends = yield _PRUNING["ends_of"].rows([(id_,) for id_ in workloads])
    old = {id_ for id_, _, finished in ends if finished is not None and finished < before}
    found = [(JobId(job), attempt) for job, attempt in rows if job // JOBS_A_WORKLOAD in old]
    return found, JobId(rows[-1][0]) if len(rows) == limit else None


def move_log(job: JobId, attempt: int, file: str, size: int) -> Steps[bool]:
    """Note that a log of this size is in a file, and delete it from the database.

    Return False if the log has another size, or is in a file already.
    """
    its = {"job": job, "attempt": attempt}
    found = yield _SQL["log_end"](**its)
    if not found or found[0][0] != size:
        return False
    if not (yield _SQL["put_log_file"](file=file, size=size, **its)):
        return False
    yield _SQL["drop_chunks"](**its)
    return True


def log_file(job: JobId, attempt: int) -> Steps[tuple[str, int] | None]:
    found = yield _SQL["log_file"](job=job, attempt=attempt)
    return (found[0][0], found[0][1]) if found else None


def prune_log_files(after: int, before: float, limit: int) -> Steps[tuple[int, int | None]]:
    """Delete the rows of files of the next jobs whose workloads finished before this time.

    Return how many, and where to continue (None at the end). The files are removed later.
    """
    rows = yield _SQL["log_files_behind"](job=after, limit=limit)
    jobs = list(dict.fromkeys(job for (job,) in rows))
    workloads = sorted({job // JOBS_A_WORKLOAD for job in jobs})
    found = yield _PRUNING["ends_of"].rows([(id_,) for id_ in workloads])
    ends = {id_: finished for id_, _, finished in found}
    old = []
    for job in jobs:
        finished = ends.get(job // JOBS_A_WORKLOAD, 0.0)  # it may have been deleted
        if finished is not None and finished < before:
            old.append((job,))
    dropped = yield _PRUNING["drop_log_files"].rows(old)
    return len(dropped), jobs[-1] if len(rows) == limit else None
