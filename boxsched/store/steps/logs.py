"""Logs of jobs: chunks that join without a gap (V18)."""

import logging
from collections.abc import Sequence

from boxsched.model import JobId, job_text
from boxsched.store.blocks import Row, Steps, load

_SQL = load("logs.sql")
_log = logging.getLogger(__name__)

Chunk = tuple[JobId, int, int, bytes]  # job, attempt, offset, bytes


def append_log(chunks: Sequence[Chunk]) -> Steps[None]:
    """What is there already is left out; what would leave a gap is refused, and said so."""
    attempts = sorted({(job, attempt) for job, attempt, _, _ in chunks})
    found = yield _SQL["log_ends"].rows(attempts)
    ends = dict.fromkeys(attempts, 0) | {(job, attempt): end for job, attempt, end in found}
    fresh: list[Row] = []
    for job, attempt, offset, data in chunks:
        end = ends[job, attempt]
        if offset > end:
            _log.warning("log of %s: bytes %d to %d are missing", job_text(job), end, offset)
        elif offset + len(data) > end:
            ends[job, attempt] = offset + len(data)
            fresh.append((job, attempt, end, ends[job, attempt], data[end - offset :]))
    # In one order everywhere: two that write the same logs never wait for each other in a circle.
    yield _SQL["insert_chunks"].rows(sorted(fresh))


def log(job: JobId, attempt: int, offset: int, limit: int) -> Steps[bytes]:
    found = yield _SQL["log"](job=job, attempt=attempt, start=offset, end=offset + limit)
    if not found:
        return b""
    skipped = offset - found[0][0]
    return b"".join(bytes(data) for _, data in found)[skipped : skipped + limit]


def log_end(job: JobId, attempt: int) -> Steps[int]:
    found = yield _SQL["log_end"](job=job, attempt=attempt)
    return found[0][0] if found else 0
