"""The arithmetic of the benchmarks."""

import os

import pytest

from boxsched.bench.figures import disk, percentile, resident_mib, spread
from boxsched.bench.load import BenchConnection, BenchTarget
from boxsched.errors import Invalid


def test_percentiles_are_measured_values():
    hundred = list(range(1, 101))
    assert [percentile(hundred, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) == 0.0


def test_a_spread_is_shown_in_milliseconds():
    assert spread([0.001, 0.002, 0.5]) == {"p50": 2.0, "p99": 500.0, "max": 500.0}


def test_the_disk_is_measured_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("boxsched.bench.figures.FSYNC_SECONDS", 0.01)
    assert all(rate > 0 for rate in disk(tmp_path).values())
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_a_process_is_measured():
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc here")
    assert resident_mib(os.getpid()) > 1
    assert resident_mib(2**30) is None


ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\nX: y\r\n\r\n0123456789"


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
def test_an_answer_is_read_with_any_chunk_borders(cut):
    answers, errors = [], []
    connection = BenchConnection(
        lambda _, status, body: answers.append((status, body)), errors.append
    )
    for piece in (ANSWER[:cut], ANSWER[cut:]):
        connection.data_received(piece)
    assert answers == [(b"201", b"0123456789")]
    assert errors == []


def test_a_load_needs_plain_http():
    with pytest.raises(Invalid, match="without TLS"):
        BenchTarget("https://example.org", "x")
