"""Artifacts: which attempt has which files, and where their contents are.

A content is stored once, under its hash. Its file has a name that is never used again. So the order
is always: the file, then the rows; and to delete: the rows, then the file. What remains after a
crash in between is a file without a row, which the leading node removes later.
"""

from collections.abc import Sequence

import attrs

from boxsched.errors import Conflict, LeaseEnded, TooLarge
from boxsched.model import JobId, WorkloadId, job_id
from boxsched.protocol.artifacts import MAX_ARTIFACTS, MAX_GIVEN, ArtifactFile
from boxsched.store.blocks import Steps, load
from boxsched.store.mapping import mapper

_SQL = load("blobs.sql")
_PRUNING = load("pruning.sql")

JOBS_A_WORKLOAD = 1_024  # ids of jobs: ``model.job_id``


@attrs.frozen
class HeldJob:
    """An attempt that a worker holds. ``keeps``: whether its job has patterns of artifacts."""

    attempt: int
    keeps: bool
    build: WorkloadId | None


@attrs.frozen
class StoredFile:
    """Where a content is: a file in a place."""

    place: str
    file: str
    size: int


@attrs.frozen
class StoredArtifact:
    """An artifact with the place of its content."""

    path: str
    size: int
    sha256: str
    executable: bool
    place: str
    file: str


_artifact = mapper(
    ArtifactFile,
    _SQL["artifacts_of"].returns,
    _SQL["artifacts_of_build"].returns,
    executable=bool,
)
_stored = mapper(StoredArtifact, _SQL["artifact"].returns, executable=bool)
_file = mapper(StoredFile, _SQL["content_of_build"].returns)


def held_job(job: JobId, lease_token: int, holder: str) -> Steps[HeldJob | None]:
    found = yield _SQL["held_job"](job=job, lease_token=lease_token, holder=holder)
    if not found:
        return None
    attempt, patterns, build = found[0]
    return HeldJob(attempt, patterns != "[]", None if build is None else WorkloadId(build))


def put_artifact(
    job: JobId,
    lease_token: int,
    holder: str,
    file: ArtifactFile,
    stored: StoredFile,
    most_bytes: int,
    now: float,
) -> Steps[StoredFile]:
    """Store an artifact whose content is in a file; return where the content is from now on."""
    yield _SQL["lock_job"](job=job)
    held = yield from held_job(job, lease_token, holder)
    if held is None:
        raise LeaseEnded("this worker does not hold the job any more")
    its = {"job": job, "attempt": held.attempt, "path": file.path}
    ((count, size),) = yield _SQL["kept_total"](**its)
    if count >= MAX_ARTIFACTS or size + file.size > most_bytes:
        raise TooLarge(f"a job has at most {MAX_ARTIFACTS} artifacts, of {most_bytes} bytes")
    ((place, name),) = yield _SQL["put_blob"](
        sha256=file.sha256, size=file.size, place=stored.place, file=stored.file, used_at=now
    )
    yield _SQL["put_artifact"](
        sha256=file.sha256, size=file.size, executable=file.executable, **its
    )
    return StoredFile(place, name, file.size)


def artifacts_of(job: JobId, attempt: int) -> Steps[list[ArtifactFile]]:
    found = yield _SQL["artifacts_of"](job=job, attempt=attempt)
    return [_artifact(row) for row in found]


def artifact(job: JobId, attempt: int, path: str) -> Steps[StoredArtifact | None]:
    found = yield _SQL["artifact"](job=job, attempt=attempt, path=path)
    return _stored(found[0]) if found else None


def given(build: WorkloadId) -> Steps[list[ArtifactFile]]:
    """Return the artifacts of a build, at most MAX_GIVEN + 1, in the order of its jobs.

    Raises Conflict if they were deleted.
    """
    ((dropped_at,),) = (yield _SQL["artifacts_dropped"](workload=build)) or [(0.0,)]
    if dropped_at is not None:
        raise Conflict("they were deleted, because they were old: run the build again")
    found = yield _SQL["artifacts_of_build"](**_jobs_of(build), limit=MAX_GIVEN + 1)
    return [_artifact(row) for row in found]


def given_content(build: WorkloadId, sha256: str) -> Steps[StoredFile | None]:
    found = yield _SQL["content_of_build"](sha256=sha256, **_jobs_of(build))
    return _file(found[0]) if found else None


def _jobs_of(build: WorkloadId) -> dict[str, int]:
    return {"first": job_id(build, 0), "end": job_id(WorkloadId(build + 1), 0)}


# --- Files in the database --------------------------------------------------------------------


def put_part(file: str, first_byte: int, data: bytes, now: float) -> Steps[int]:
    """Store the next part of a file, or not if it is not the next; return the file's length."""
    end = yield from parts_end(file)
    if first_byte != end:
        return end
    yield _SQL["put_part"](file=file, first_byte=first_byte, stored_at=now, data=data)
    return end + len(data)


def parts_end(file: str) -> Steps[int]:
    found = yield _SQL["parts_end"](file=file)
    return int(found[0][0] + found[0][1]) if found else 0


def part(file: str, at: int) -> Steps[bytes]:
    """Return bytes from ``at`` on; b"" at the end."""
    found = yield _SQL["part"](file=file, at=at)
    return bytes(found[0][1])[at - found[0][0] :] if found else b""


def drop_parts(files: Sequence[str]) -> Steps[None]:
    for file in files:
        yield _SQL["drop_parts"](file=file)


# --- Deletion ---------------------------------------------------------------------------------


def drop_unused(
    after: str, before: float, limit: int
) -> Steps[tuple[list[StoredFile], str | None]]:
    """Delete the next contents that nothing refers to, except those used since ``before``.

    Return the files to remove, and after which hash to continue (None at the end).
    """
    found = yield _SQL["next_blobs"](after=after, limit=limit)
    if not found:
        return [], None
    last = found[-1][0]
    gone = yield _SQL["drop_unused_blobs"](after=after, last=last, before=before)
    for place, file in gone:
        if place == "database":
            yield _SQL["drop_parts"](file=file)
    files = [StoredFile(place, file, 0) for place, file in gone]
    return files, last if len(found) == limit else None


def oldest_files(place: str) -> Steps[list[str]]:
    logs = yield _SQL["first_log_file"]()
    contents = yield _SQL["oldest_blob"]()
    return [file for (file,) in logs] + [file for its, file in contents if its == place]


def known_files(files: Sequence[str]) -> Steps[set[str]]:
    found = yield _SQL["known_files"].rows([(file,) for file in files])
    return {file for (file,) in found}


def drop_unknown_parts(after: str, before: float, limit: int) -> Steps[str | None]:
    """Delete files of the database that no content refers to; return where to continue."""
    found = yield _SQL["next_part_files"](after=after, limit=limit)
    if not found:
        return None
    known = yield from known_files([file for file, _ in found])
    yield from drop_parts([file for file, at in found if file not in known and at < before])
    return found[-1][0] if len(found) == limit else None


def prune_artifacts(
    after: int, before: float, limit: int, now: float
) -> Steps[tuple[int, int | None]]:
    """Delete artifacts of the next jobs whose workloads finished before this time; return how many,
    and after which job to continue (None at the end).

    Those of workloads that are kept (``kept_workloads``) stay: what is live, and what passed last.
    """
    rows = yield _SQL["artifacts_behind"](job=after, limit=limit)
    found = list(dict.fromkeys(job for (job,) in rows))
    if not found:
        return 0, None
    workloads = sorted({job // JOBS_A_WORKLOAD for job in found})
    ids = [(id_,) for id_ in workloads]
    ends = {id_: finished for id_, _, finished in (yield _PRUNING["ends_of"].rows(ids))}
    kept = {id_ for (id_,) in (yield _PRUNING["kept_workloads"].rows(ids))}
    old = [
        job
        for job in found
        if (id_ := job // JOBS_A_WORKLOAD) not in kept and _is_old(ends, id_, before)
    ]
    dropped = yield _SQL["drop_artifacts"].rows([(job,) for job in old])
    noted = sorted({job // JOBS_A_WORKLOAD for job in old} & ends.keys())
    yield _SQL["note_dropped"].rows([(id_, now) for id_ in noted])
    return len(dropped), found[-1] if len(rows) == limit else None


def _is_old(ends: dict[int, float | None], workload: int, before: float) -> bool:
    """Whether the workload is old; true if it was deleted."""
    finished = ends.get(workload, 0.0)
    return finished is not None and finished < before
