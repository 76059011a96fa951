"""A supervisor's report of a job's end, from the files in the attempt's folder."""

import signal
from pathlib import Path

import pytest

from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import verdict
from boxsched.worker.supervisor.verdict import LOST, STOPPED, TIMED_OUT, Verdict, judge
from tests.worker.harness import at

COMMIT = "1a410efbd13591db07496601ebc7a059dd55cfe9"


@pytest.mark.parametrize(
    ("cause", "status", "expected"),
    [
        (None, 0, Verdict("passed", None, 0)),
        (None, 3, Verdict("failed", "exit status 3", 3)),
        (None, -9, Verdict("failed", "signal SIGKILL", None, 9)),
        (None, -1_000, Verdict("failed", "signal 1000", None, 1_000)),
        (None, None, Verdict("failed", "exit status 0", None)),
        (TIMED_OUT, 0, Verdict("failed", "time limit of 60 s", None, None, True)),
        (TIMED_OUT, -15, Verdict("failed", "time limit of 60 s", None, 15, True)),
        (LOST, 0, Verdict("failed", "lost: no node answered for 7.5 s", None, None, lost=True)),
        (LOST, -9, Verdict("failed", "lost: no node answered for 7.5 s", None, 9, lost=True)),
        (STOPPED, 0, Verdict("stopped", "stopped", 0)),
        (STOPPED, 143, Verdict("stopped", "stopped", 143)),
        (STOPPED, -15, Verdict("stopped", "stopped", None, 15)),
    ],
)
def test_the_cause_of_an_end_takes_precedence_over_the_exit_status(
    cause: str | None, status: int | None, expected: Verdict
) -> None:
    assert judge(cause, status, 60.0, 7.5) == expected


def test_every_signal_has_its_name() -> None:
    assert {verdict.ending(-one) for one in signal.Signals} == {
        f"signal {one.name}" for one in signal.Signals
    }


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        (f"{COMMIT}\n", COMMIT),
        (f"{COMMIT} refs/heads/main\n\n", COMMIT),
        (f"warning\n{'b' * 40}\n{COMMIT}\n", COMMIT),
        (f"{COMMIT}\nwarning\n", None),
        (COMMIT[:39], None),
        ("\n \n", None),
        ("", None),
    ],
)
def test_the_commit_is_a_whole_hash_at_the_start_of_the_last_line(
    tmp_path: Path, text: str, commit: str | None
) -> None:
    assert verdict.commit(at(tmp_path), "commit") is None
    (tmp_path / "commit").write_text(text)
    assert verdict.commit(at(tmp_path), "commit") == commit


@pytest.mark.parametrize(
    ("cause", "why", "said"),
    [
        (TIMED_OUT, "x", "time limit of 60 s reached, so the job is ended"),
        (LOST, "x", "no node answered for 7.5 s, so the job is ended: it may run elsewhere"),
        (STOPPED, None, "stopped"),
        (STOPPED, "stopped by ada", "stopped by ada"),
        (STOPPED, "ended with its build", "ended with its build"),
        (STOPPED, "ada asked", "stopped: ada asked"),
    ],
)
def test_a_log_says_why_its_job_is_ended(cause: str, why: str | None, said: str) -> None:
    assert verdict.ended_by(cause, 60.0, 7.5, why) == said


def test_the_reason_for_a_stop_is_one_printable_line(tmp_path: Path) -> None:
    assert verdict.why_stopped(at(tmp_path)) is None
    for text, why in (
        (b" stopped by a\nda\x1b \n", "stopped by a?da?"),
        (b"\xff", "\ufffd"),
        (b" \n", None),
    ):
        (tmp_path / files.WHY).write_bytes(text)
        assert verdict.why_stopped(at(tmp_path)) == why
    (tmp_path / files.WHY).unlink()
    (tmp_path / files.WHY).symlink_to("/etc/hostname")
    assert verdict.why_stopped(at(tmp_path)) is None
