"""Logs of jobs: chunks without gaps (V18)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from boxsched.model import JobId, job_text
from boxsched.store.blocks import Row, Steps, load

CHUNK_BYTES = 64 * 1024

_SQL = load("logs.sql")
_READING = load("reading.sql")
_log = logging.getLogger(__name__)


class TimedOutput(NamedTuple):
    """Output, and when it was stored, in seconds since the epoch; None: an older node stored it."""

    data: bytes
    stored_at: float | None


Chunk = tuple[JobId, int, int, bytes]  # job, attempt, offset, bytes


def append_log(chunks: Sequence[Chunk]) -> Steps[None]:
    """Append chunks. Chunks that exist already are skipped; chunks that would leave a gap are
    refused.

    If the database may have lost output, in a failover or a restoration, a line in the log says so
    instead, because the worker does not send it again.
    """
    attempts = sorted({(job, attempt) for job, attempt, _, _ in chunks})
    found = yield _SQL["log_ends"].rows(attempts)
    ends = dict.fromkeys(attempts, 0) | {(job, attempt): end for job, attempt, end in found}
    fresh: list[Row] = []
    missing: dict[tuple[JobId, int], tuple[int, int]] = {}
    lost_some = yield from _lost_some(chunks, ends)
    for job, attempt, offset, data in chunks:
        end = ends[job, attempt]
        if offset > end and lost_some:
            fresh += [(job, attempt, first, last, text) for first, last, text in gap(end, offset)]
            end = ends[job, attempt] = offset
        if offset > end:
            missing[job, attempt] = (end, offset)
        elif offset + len(data) > end:
            ends[job, attempt] = offset + len(data)
            fresh.append((job, attempt, end, ends[job, attempt], data[end - offset :]))
    for (job, _), (end, offset) in missing.items():  # one line for any number of chunks
        _log.warning("log of %s: bytes %d to %d are missing", job_text(job), end, offset)
    # Always in the same order, so that two transactions on the same logs cannot deadlock.
    yield _SQL["insert_chunks"].rows(sorted(fresh))


def _lost_some(chunks: Sequence[Chunk], ends: Mapping[tuple[JobId, int], int]) -> Steps[bool]:
    """Whether output may have been lost; queried only if there is a gap."""
    if all(offset <= ends[job, attempt] for job, attempt, offset, _ in chunks):
        return False
    return bool((yield _READING["latest_history"]()))


def gap(first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
    """Return a line about missing output, as long as the gap, in chunks (first, end, bytes)."""
    text = b"\n[boxsched: %d bytes of output were lost by the database]\n" % (last - first)
    while first < last:
        end = min(last, first + CHUNK_BYTES)
        piece = text[: end - first]
        yield (
            first,
            end,
            piece
            + b" " * (end - first - len(piece) - 1)
            + (b"\n" if len(piece) < end - first else b""),
        )
        first, text = end, b""


def log(job: JobId, attempt: int, offset: int, limit: int) -> Steps[bytes]:
    found = yield _SQL["log"](job=job, attempt=attempt, start=offset, end=offset + limit)
    if not found:
        return b""
    skipped = offset - found[0][0]
    return b"".join(bytes(data) for _, data in found)[skipped : skipped + limit]


def log_chunks(job: JobId, attempt: int, offset: int, limit: int) -> Steps[list[TimedOutput]]:
    """Return the chunks of a range, cut to it, with the times at which they were stored."""
    found = yield _SQL["log_chunks"](job=job, attempt=attempt, start=offset, end=offset + limit)
    return [
        TimedOutput(bytes(data)[max(0, offset - first) : offset + limit - first], at)
        for first, data, at in found
    ]


def log_end(job: JobId, attempt: int) -> Steps[int]:
    found = yield _SQL["log_end"](job=job, attempt=attempt)
    return found[0][0] if found else 0
