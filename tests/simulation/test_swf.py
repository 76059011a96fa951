"""Workload logs: the meaning of a line, what is skipped, and published figures from real logs."""

import gzip
import json
import math

import attrs
import pytest

from boxsched.model import Policy
from boxsched.simulation import BadInput, run, swf


def line(submit=0, run=10, allocated=-1, requested=1, estimate=-1, number=1):
    """Return a line of 18 columns."""
    columns = [number, submit, -1, run, allocated, -1, -1, requested, estimate, *[-1] * 9]
    return " ".join(map(str, columns))


def log(*lines, limit=None):
    return swf.parse("\n".join(lines).encode().splitlines(keepends=True), limit)


def outcome(*lines, boxes=4, policy=Policy.BACKFILL):
    return run(swf.scenario(log(*lines), boxes, policy))


def test_boxes_are_the_requested_processors_or_else_the_allocated_ones():
    jobs = log(line(allocated=3, requested=2), line(allocated=3, requested=-1), line(requested=0))
    assert [job.processors for job in jobs] == [2, 3, -1]


def test_the_run_is_cut_at_the_requested_time_which_is_the_expected_duration():
    jobs = log(line(run=10, estimate=7), line(run=10, estimate=20), line(run=10, estimate=-1))
    assert [(job.seconds, job.expected) for job in jobs] == [(7, 7), (10, 20), (10, 10)]


def test_comments_and_empty_lines_are_no_jobs():
    assert len(log("; UnixStartTime: 0", "", "  ;", line(), "   ", line() + " ; cut")) == 2


@pytest.mark.parametrize(
    "bad",
    [
        line(run=0),
        line(run=-1),
        line(allocated=-1, requested=-1),
        line(allocated=0, requested=0),
        line(requested=5),
        line(submit=-1),
    ],
)
def test_skipped_lines_are_counted(bad):
    assert len(swf.scenario(log(line(), bad, line()), 4, Policy.STRICT).events) == 2


def test_the_limit_counts_job_lines_before_any_are_skipped():
    jobs = log("; header", line(run=0), line(), line(), limit=2)
    assert len(jobs) == 2
    assert len(swf.scenario(jobs, 4, Policy.STRICT).events) == 1
    assert log(line(), "not a job", limit=1)
    assert not log(line(), limit=0)


@pytest.mark.parametrize(
    "bad",
    [
        "1 2 3",
        line(submit="x"),
        line(run="nan"),
        line(run="inf"),
        line(run="2e290"),
        line(requested=1.5),
        "\x00\xff",
    ],
)
def test_a_corrupt_line_is_named(bad):
    with pytest.raises(BadInput, match=r"^line 3: "):
        log("; header", line(), bad, line())


def test_lines_out_of_order_are_sorted_by_submit_time():
    jobs = line(submit=5, run=1), line(submit=3, run=2), line(submit=5, run=3)
    records = outcome(*jobs, boxes=1, policy=Policy.STRICT).records
    assert [(r.registered_at, r.finished_at) for r in records] == [(3, 5), (5, 6), (5, 9)]


def test_equal_times_keep_the_logs_order():
    gangs = line(requested=3, run=10), line(requested=2, run=10), line(requested=1, run=10)
    assert [r.started_at for r in outcome(*gangs, policy=Policy.STRICT).records] == [0, 10, 10]
    assert [r.started_at for r in outcome(*gangs).records] == [0, 10, 0]


def test_a_log_may_be_plain_or_gzipped_whatever_its_name(tmp_path):
    text = "\n".join(["; grüße", line(), line()]).encode("latin-1")
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.swf"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    assert swf.read(plain) == swf.read(packed)
    assert len(swf.read(packed)) == 2


def test_a_damaged_archive_is_bad_input(tmp_path):
    path = tmp_path / "log.swf.gz"
    path.write_bytes(gzip.compress(line().encode() * 1_000)[:-20])
    with pytest.raises(BadInput, match=r"damaged"):
        swf.read(path)


# --- Published figures ----------------------------------------------------------------------


def trace(shared, name):
    path = shared / "traces" / name
    if not path.is_file():
        pytest.skip(f"no {name}")
    return path


@pytest.mark.slow
def test_kth_sp2_with_backfilling_has_the_published_figures(shared):
    jobs = swf.read(trace(shared, "KTH-SP2-1996-2.filtered.swf.gz"))
    summary = run(swf.scenario(jobs, 100, Policy.BACKFILL)).summary
    assert summary.workloads == len(jobs) == 28_481
    assert summary.mean_bounded_slowdown == pytest.approx(92.6876537427, rel=1e-12)


def test_kth_sp2_first_come_first_served_agrees_with_a_naive_count(shared):
    jobs = swf.read(trace(shared, "KTH-SP2-1996-2.filtered.swf.gz"), limit=2_000)
    records = run(swf.scenario(jobs, 100, Policy.STRICT)).records
    assert [r.started_at for r in records] == first_come_first_served(jobs, 100)


def first_come_first_served(jobs, boxes):
    """Return when each starts: not before the one ahead of it, and not before enough Boxes are
    free."""
    starts, running, now = [], [], -math.inf
    for job in jobs:
        now = max(now, job.submitted)
        while boxes - sum(n for end, n in running if end > now) < job.processors:
            now = min(end for end, _ in running if end > now)
        running = [(end, n) for end, n in running if end > now]
        running.append((now + job.seconds, job.processors))
        starts.append(now)
    return starts


@pytest.mark.slow
def test_lublin_1_first_come_first_served_to_the_digit(shared):
    """The published mean over ten windows, with the method given beside the figure."""
    published = json.loads(trace(shared, "published_Lublin-1.json").read_text())
    row = next(r for r in published["rows"] if r["policy"] == "FCFS" and not r["backfilling"])
    jobs = [
        attrs.evolve(job, run=job.run if job.run > 0 else 10, requested=max_processors(job))
        for job in swf.read(trace(shared, "lublin_256.swf.gz"))
        if job.run
    ]
    windows = [
        run(swf.scenario(jobs[at : at + 1024], 256, Policy.STRICT)).summary.mean_bounded_slowdown
        for at in published["protocol"]["starts"]
    ]
    assert windows == pytest.approx(row["recomputed_bsld_per_window"], rel=1e-12)
    assert round(sum(windows) / len(windows), 2) == row["published_mean_bsld"] == 7273.77


def max_processors(job):
    return max(job.allocated, job.requested)
