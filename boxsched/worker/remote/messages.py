"""Divide an agent's reports into messages that a node accepts."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from boxsched.protocol.inbox import JobFinished
from boxsched.protocol.wire import (
    MAX_WORKER_MESSAGE_BYTES,
    Beat,
    Chunk,
    Found,
    Logged,
    Opened,
    Said,
)
from boxsched.worker.agent.outbox import Finding, LogChunk, Opening, Report

MAX_REASON_CHARACTERS = 500
MAX_PROBLEM_CHARACTERS = 200
_BUDGET = MAX_WORKER_MESSAGE_BYTES - 1_024
_MAX_CHUNKS = 64  # as in wire.Logged
_MAX_REPORTS = 20_000  # as in wire.Said

# Makes the message with its number, which is known only when it is sent.
NumberedMessage = Callable[[int], Said | Logged | Beat | Found | Opened]
_Part = TypeVar("_Part")


def report_messages(reports: Sequence[Report]) -> Iterator[NumberedMessage]:
    clean = [_clean(report) for report in reports]
    for part in _portions(clean, _report_bytes, _MAX_REPORTS):
        yield lambda number, part=part: Said(number, part)  # type: ignore[misc]


def log_messages(chunks: Sequence[LogChunk]) -> Iterator[NumberedMessage]:
    pieces = [Chunk(*chunk) for chunk in chunks]
    for part in _portions(pieces, _chunk_bytes, _MAX_CHUNKS):
        yield lambda number, part=part: Logged(number, part)  # type: ignore[misc]


def short_problem(problem: str | None) -> str | None:
    """Return the problem for a heartbeat: short and printable."""
    return problem and printable(problem[:MAX_PROBLEM_CHARACTERS])


def found_message(found: Finding) -> NumberedMessage:
    return lambda number: Found(number, *found)


def opened_message(opening: Opening) -> NumberedMessage:
    return lambda number: Opened(number, *opening)


def _clean(report: Report) -> Report:
    """Return the report with a reason of one printable line: a job may have written the reason."""
    if not isinstance(report, JobFinished) or not report.reason:
        return report
    reason = report.reason[:MAX_REASON_CHARACTERS]
    if reason.isprintable() and reason == report.reason:
        return report
    return msgspec.structs.replace(report, reason=printable(reason))


def printable(text: str) -> str:
    """Return the text with `?` in place of each character that cannot be printed."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _report_bytes(report: Report) -> int:
    """Return an upper bound of the JSON's size: a character has up to six bytes."""
    return 256 + 6 * len(report.reason or "") if isinstance(report, JobFinished) else 96


def _chunk_bytes(chunk: Chunk) -> int:
    return 128 + 4 * ((len(chunk.data) + 2) // 3)


def _portions(
    parts: Sequence[_Part], size: Callable[[_Part], int], at_most: int
) -> Iterator[tuple[_Part, ...]]:
    portion: list[_Part] = []
    filled = 0
    for part in parts:
        if portion and (filled + size(part) > _BUDGET or len(portion) == at_most):
            yield tuple(portion)
            portion, filled = [], 0
        portion.append(part)
        filled += size(part)
    if portion:
        yield tuple(portion)
