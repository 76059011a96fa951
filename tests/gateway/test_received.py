"""The limits of what a worker may send, each at its last valid value and one beyond it."""

import contextlib
from collections.abc import Callable

import attrs
import pytest

from boxsched.gateway.figures import Times
from boxsched.gateway.received import ProtocolViolation, read, read_version
from boxsched.protocol import wire
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result

GREATEST = (1 << 63) - 1
LATEST = 1e11  # in the year 5138
COMMIT = "a" * 40
MIB = 1 << 20

Making = Callable[[float], wire.FromWorker]


def finished(**changes: object) -> wire.Said:
    told: dict[str, object] = {
        "job": 1, "lease_token": 1, "at": 1.0, "result": Result.PASSED, "exit_status": 0,
        "reason": None, **changes,
    }  # fmt: skip
    return wire.Said(1, (JobFinished(**told),))  # type: ignore[arg-type]


def opened(**changes: object) -> wire.Opened:
    told: dict[str, object] = {
        "number": 1, "job": 1, "lease_token": 1, "host": None, "port": None,
        "host_key": f"ssh-ed25519 {'A' * 68}",
        **changes,
    }  # fmt: skip
    return wire.Opened(**told)  # type: ignore[arg-type]


def chunk(job: float = 1, attempt: float = 1, offset: float = 0, size: float = 1) -> wire.Logged:
    piece = wire.Chunk(int(job), int(attempt), int(offset), b"x" * int(size))
    return wire.Logged(1, (piece,))


# What is sent, its least and greatest accepted number, and the step beyond.
LIMITS: dict[str, tuple[Making, float, float, float]] = {
    "number": (lambda n: wire.Beat(int(n)), 0, GREATEST, 1),
    "started job": (lambda n: wire.Said(1, (JobStarted(int(n), 1, 1.0),)), 0, GREATEST, 1),
    "started token": (lambda n: wire.Said(1, (JobStarted(1, int(n), 1.0),)), 0, GREATEST, 1),
    "started at": (lambda n: wire.Said(1, (JobStarted(1, 1, n),)), 0, LATEST, 0.1),
    "finished job": (lambda n: finished(job=int(n)), 0, GREATEST, 1),
    "finished token": (lambda n: finished(lease_token=int(n)), 0, GREATEST, 1),
    "finished at": (lambda n: finished(at=n), 0, LATEST, 0.1),
    "seconds": (lambda n: finished(seconds=n), 0, LATEST, 0.1),
    "exit status": (lambda n: finished(exit_status=int(n)), -(1 << 31), (1 << 32) - 1, 1),
    "chunk's job": (lambda n: chunk(job=n), 0, GREATEST, 1),
    "chunk's attempt": (lambda n: chunk(attempt=n), 0, GREATEST, 1),
    "chunk's offset": (lambda n: chunk(offset=n), 0, 1024 * MIB, 1),
    "chunk's size": (lambda n: chunk(size=n), 1, 64 * 1024, 1),
    "found job": (lambda n: wire.Found(1, int(n), 1, COMMIT), 0, GREATEST, 1),
    "opened job": (lambda n: opened(job=int(n)), 0, GREATEST, 1),
    "opened token": (lambda n: opened(lease_token=int(n)), 0, GREATEST, 1),
    "found token": (lambda n: wire.Found(1, 1, int(n), COMMIT), 0, GREATEST, 1),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_number_is_accepted_up_to_its_limits(what: str) -> None:
    made, least, greatest, step = LIMITS[what]
    for number in (least, greatest):
        assert read(wire.encode(made(number)).decode()) == made(number)
    for number in (least - step, greatest + step):
        with pytest.raises(ProtocolViolation) as refused:
            read(wire.encode(made(number)).decode())
        assert refused.value.reason == "values"


@pytest.mark.parametrize("result", [*Result])
def test_a_worker_reports_only_results_that_jobs_can_have(result: Result) -> None:
    text = wire.encode(finished(result=result)).decode()
    if result in (Result.PASSED, Result.FAILED, Result.STOPPED):
        assert read(text) == finished(result=result)
    else:
        with pytest.raises(ProtocolViolation, match=f"a worker cannot report {result}"):
            read(text)


@pytest.mark.parametrize(
    ("commit", "reported", "whole"),
    [
        ("a" * 6, False, False),
        ("a" * 7, True, False),
        ("a" * 40, True, True),
        ("a" * 41, True, False),
        ("0123456789abcdef" * 4, True, True),
        ("a" * 65, False, False),
        ("A" * 40, False, False),
        ("a" * 39 + "\n", False, False),
    ],
)
def test_a_commit_is_reported_whole_or_short_and_found_whole(
    commit: str, reported: bool, whole: bool
) -> None:
    for message, good in (
        (finished(commit=commit), reported),
        (wire.Found(1, 1, 1, commit), whole),
    ):
        with contextlib.nullcontext() if good else pytest.raises(ProtocolViolation):
            assert read(wire.encode(message).decode()) == message


def test_a_session_has_both_host_and_port_or_none() -> None:
    for message in (opened(), opened(host="192.0.2.7", port=22)):
        assert read(wire.encode(message).decode()) == message
    for message in (opened(host="192.0.2.7"), opened(port=22)):
        with pytest.raises(ProtocolViolation, match="both host and port, or none"):
            read(wire.encode(message).decode())


def test_only_long_reasons_are_cut() -> None:
    reasons = [None, "", "x" * 500, "x" * 501]
    message = wire.Said(1, tuple(finished(reason=each).reports[0] for each in reasons))
    read_ = read(wire.encode(message).decode())
    assert isinstance(read_, wire.Said)
    assert [each.reason for each in read_.reports] == [None, "", "x" * 500, "x" * 500]  # type: ignore[union-attr]
    started = wire.Said(1, (*message.reports, JobStarted(1, 1, 1.0)))
    assert read(wire.encode(started).decode()).reports[-1] == JobStarted(1, 1, 1.0)  # type: ignore[union-attr]


def test_a_hello_has_at_most_512_kib() -> None:
    hello = wire.encode(wire.Hello(7, "i", "n", ("d",), "f", "b")).decode()
    assert read_version(hello.ljust(512 * 1024)) == 7
    with pytest.raises(ProtocolViolation) as refused:
        read_version(hello.ljust(512 * 1024 + 1))
    assert refused.value.reason == "too_large"


def test_a_node_waits_for_these_times() -> None:
    """Workers of other versions go by some of them."""
    assert attrs.asdict(Times()) == {
        "hello": 10.0, "silence": 15.0, "beats": 1.0, "level": 10.0, "poll": 0.2,
        "poll_fastest": 0.02, "write": 10.0, "leave": 2.0, "hang_up": 1.0, "first_retry": 0.1,
        "longest_retry": 1.0,
    }  # fmt: skip
