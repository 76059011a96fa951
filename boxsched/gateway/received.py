"""Decodes and checks a worker's messages completely, before anything else uses them."""

import msgspec

from boxsched import commits
from boxsched.protocol import wire
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result

MAX_HELLO_BYTES = 512 << 10  # 10,000 Boxes, and as many jobs
MAX_CHUNK_BYTES = 64 << 10
MAX_LOG_BYTES = 1 << 30
MAX_REASON_CHARACTERS = 500
MAX_AT = 1e11  # in the year 5138

_MOST = (1 << 63) - 1  # the range of the store's columns
_NUMBERS = range(_MOST + 1)
_EXIT_STATUSES = range(-(1 << 31), 1 << 32)
_RESULTS = frozenset({Result.PASSED, Result.FAILED, Result.STOPPED})

Report = JobStarted | JobFinished


class ProtocolViolation(Exception):
    """The worker violates the protocol: its connection is closed, and counted under ``reason``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _HelloOfAnyVersion(msgspec.Struct, frozen=True, tag="hello"):
    """The fields that a Hello of any version has."""

    version: int


class _CheckOfAnyVersion(msgspec.Struct, frozen=True, tag="check"):
    version: int


_greeting = msgspec.json.Decoder(_HelloOfAnyVersion | _CheckOfAnyVersion)
_hello = msgspec.json.Decoder(wire.Hello | wire.Check)


def read(text: str) -> wire.Beat | wire.Said | wire.Logged | wire.Found | wire.Opened:
    """Decode one message after the Hello. Raises ProtocolViolation."""
    try:
        said: wire.FromWorker = wire.from_worker.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("malformed", str(error)) from None
    if isinstance(said, wire.Hello | wire.Check):
        raise ProtocolViolation("order", "a second hello")
    if said.number not in _NUMBERS:
        raise ProtocolViolation("values", "its number is out of range")
    if isinstance(said, wire.Said):
        return _checked(said)
    if isinstance(said, wire.Logged):
        for chunk in said.chunks:
            _check_chunk(chunk)
    if isinstance(said, wire.Found):
        _check_found(said)
    if isinstance(said, wire.Opened):
        _check_opened(said)
    return said


def read_version(text: str) -> int:
    """Return the version of a Hello or a Check. Raises ProtocolViolation if it is neither."""
    if len(text) > MAX_HELLO_BYTES:
        raise ProtocolViolation("too_large", f"a hello has at most {MAX_HELLO_BYTES} bytes")
    try:
        return _greeting.decode(text).version
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("no_hello", str(error)) from None


def read_hello(text: str) -> wire.Hello | wire.Check:
    """Decode a Hello or a Check of our version. Raises ProtocolViolation."""
    try:
        said: wire.Hello | wire.Check = _hello.decode(text)
        return said
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("malformed", str(error)) from None


def _checked(said: wire.Said) -> wire.Said:
    """Check a message, and return it with shortened reasons. Raises ProtocolViolation."""
    long = False
    for report in said.reports:
        if not (0 <= report.job <= _MOST and 0 <= report.lease_token <= _MOST):
            raise ProtocolViolation("values", "a report's job or lease token is out of range")
        if not 0 <= report.at <= MAX_AT:
            raise ProtocolViolation("values", "a report's time is out of range")
        if isinstance(report, JobFinished):
            _check_end(report)
            long = long or len(report.reason or "") > MAX_REASON_CHARACTERS
    return wire.Said(said.number, tuple(map(_shortened, said.reports))) if long else said


def _shortened(report: Report) -> Report:
    if not isinstance(report, JobFinished) or len(report.reason or "") <= MAX_REASON_CHARACTERS:
        return report
    return msgspec.structs.replace(report, reason=(report.reason or "")[:MAX_REASON_CHARACTERS])


def _check_end(report: JobFinished) -> None:
    if report.result not in _RESULTS:
        raise ProtocolViolation("values", f"a worker cannot report {report.result}")
    if report.seconds is not None and not 0 <= report.seconds <= MAX_AT:
        raise ProtocolViolation("values", "the duration of a run is out of range")
    if report.exit_status is not None and report.exit_status not in _EXIT_STATUSES:
        raise ProtocolViolation("values", "an exit status is out of range")
    if report.reason is not None and "\0" in report.reason:
        raise ProtocolViolation("values", "a reason contains a NUL character")
    if report.commit is not None and not commits.is_reported(report.commit):
        raise ProtocolViolation("values", "a commit is not a valid hash")


def _check_found(found: wire.Found) -> None:
    if found.job not in _NUMBERS or found.lease_token not in _NUMBERS:
        raise ProtocolViolation("values", "a commit's job or lease token is out of range")
    if not commits.is_whole(found.commit):
        raise ProtocolViolation("values", "a commit is not a whole hash")


def _check_opened(opened: wire.Opened) -> None:
    if opened.job not in _NUMBERS or opened.lease_token not in _NUMBERS:
        raise ProtocolViolation("values", "a session's job or lease token is out of range")
    if (opened.host is None) != (opened.port is None):
        raise ProtocolViolation("values", "a session has both host and port, or none")


def _check_chunk(chunk: wire.Chunk) -> None:
    if chunk.job not in _NUMBERS or chunk.attempt not in _NUMBERS:
        raise ProtocolViolation("values", "a chunk's job or attempt is out of range")
    if not 0 <= chunk.offset <= MAX_LOG_BYTES:
        raise ProtocolViolation("values", "a chunk's offset is out of range")
    if not 0 < len(chunk.data) <= MAX_CHUNK_BYTES:
        raise ProtocolViolation("values", f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes")
