"""How answers are shown to people and to programs."""

import asyncio
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from boxsched import errors
from boxsched.cli.following import Printer, print_logs
from boxsched.cli.output import (
    duration,
    in_local_time,
    local_time,
    now,
    print_json,
    print_table,
    set_clock,
    with_unknown,
)
from boxsched.cli.waiting import Trouble, reason_line
from boxsched.client import Explanation, Job, Workload
from boxsched.model import Kind
from boxsched.states import JobState, State
from tests.conftest import PROJECT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.0 s"),
        (0.42, "0.4 s"),
        (7, "7 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (7_500, "2 h 5 m"),
        (86_400, "1 d"),
        (4 * 86_400 + 3_700, "4 d 1 h"),
    ],
)
def test_lengths_of_time_have_short_forms(seconds, text):
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("zone", "text"), [("UTC", "2026-11-22 09:33:52 UTC"), ("CET-1", "2026-11-22 10:33:52 CET")]
)
def test_a_time_in_a_sentence_has_its_zone_too(zone, text, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local_time(datetime(2026, 11, 22, 9, 33, 52, tzinfo=UTC)) == text
        said = "Paused until {} (freeze); nothing ran until 2026-99-22T09:33:52Z."
        for form in ("2026-11-22T09:33:52Z", "2026-11-22T11:33:52.5+02:00"):
            assert in_local_time(said.format(form)) == said.format(text)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_no_command_formats_a_time_in_its_own_way():
    """All use ``local_time``; only --until of a pause is sent to the API."""
    for path in sorted((PROJECT / "boxsched" / "cli").glob("*.py")):
        found = re.findall(r"strftime|isoformat|astimezone", path.read_text())
        wanted = {"output.py": ["astimezone", "strftime"], "pause.py": ["isoformat"]}
        assert found == wanted.get(path.name, []), path.name


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ((JobState.RUNNING, JobState.FINISHED), "running"),
        ((JobState.RUNNING, JobState.UNKNOWN), "running, 1 job unknown"),
        ((JobState.UNKNOWN, JobState.UNKNOWN), "running, 2 jobs unknown"),
    ],
)
def test_jobs_on_a_worker_that_does_not_answer(states, text):
    at = datetime(2026, 11, 22, tzinfo=UTC)
    jobs = tuple(
        Job(
            id=f"w1-{n}", name="unit", state=state, result=None, box=None, attempt=1,
            started_at=at, finished_at=None, exit_status=None,
        )
        for n, state in enumerate(states, 1)
    )  # fmt: skip
    workload = Workload(
        id="w1", project="web", number=1, kind=Kind.BUILD, branch="main", tag=None, server=None,
        commit=None, message=None, author=None, state=State.RUNNING, result=None, priority=50,
        created_at=at, queued_at=at, started_at=at, finished_at=None, jobs=jobs,
    )  # fmt: skip
    assert with_unknown(workload) == text


def test_a_table_outside_of_a_terminal_has_plain_columns(capsys):
    print_table(("id", "name"), [("w1", "short"), ("w100", "with\x1b[2J tricks\n")])
    assert capsys.readouterr().out == "ID    NAME\nw1    short\nw100  with tricks\n"


def test_json_moves_no_cursor(capsys):
    print_json({"branch": "\x1b[2J\u202e\x9b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"branch": "\x1b[2J\u202e\x9b"}


def shown(chunks, prefix=""):
    out = io.StringIO()
    printer = Printer(out, prefix)
    for chunk in chunks:
        printer.feed(chunk)
    printer.end()
    return out.getvalue()


def test_a_single_log_is_passed_through_as_it_arrives():
    assert shown([b"one\ntw", b"o\n"]) == "one\ntwo\n"


def test_the_bytes_of_a_character_may_arrive_separately():
    assert shown(["ü".encode()[:1], "ü".encode()[1:]]) == "ü"
    assert shown([b"\xff\n"]) == "\ufffd\n"


def test_simultaneous_logs_have_a_prefix_on_each_complete_line():
    assert shown([b"on", b"e\ntwo\nlast"], "unit | ") == "unit | one\nunit | two\nunit | last\n"


def test_a_line_without_an_end_is_shown_in_pieces():
    assert shown([b"x" * 100_000], "unit | ").startswith("unit | xxx")


def test_the_current_time_is_the_services():
    try:
        set_clock(-3_600.0)
        assert timedelta(minutes=59) < datetime.now(UTC) - now() < timedelta(minutes=61)
    finally:
        set_clock(0.0)


def test_wide_characters_align(capsys):
    print_table(("name", "state"), [("日本語", "passed"), ("plain", "failed"), ("e\u0301", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME    STATE", "日本語  passed", "plain   failed", "e\u0301       x"]
    out = io.StringIO()
    jobs = [job_named("日本語"), job_named("unit")]
    asyncio.run(print_logs(Logs().log, jobs, out))
    assert out.getvalue() == "日本語 | said\nunit   | said\n"


class Logs:
    async def log(self, job):
        return b"said\n"


def job_named(name):
    return Job(
        id="w1-1", name=name, state=JobState.RUNNING, result=None, box=None, attempt=1,
        started_at=None, finished_at=None, exit_status=None,
    )  # fmt: skip


def test_connection_errors_are_reported_once_per_lasting_outage(capsys):
    now = 0.0
    trouble = Trouble(lambda: now)

    def fails(at):
        nonlocal now
        now = at
        trouble(errors.StoreAway("the database is away"))
        return capsys.readouterr().err

    assert fails(0.0) == ""  # a short restart is not reported
    assert fails(1.9) == ""
    assert fails(2.1) == "boxsched: the database is away; trying again\n"
    assert fails(9.0) == ""
    assert fails(100.0) == ""  # the connection had returned in between
    assert fails(103.0) != ""


@pytest.mark.parametrize(
    ("phase", "reason", "text", "position", "said"),
    [
        ("ordering", "waits_for_lane", "Waits for it.", None, "waits for it."),
        (
            "admission",
            "needs_boxes",
            "Needs 3 Boxes; 1 free now.",
            2,
            "waits: Needs 3 Boxes; 1 free now. It is number 2 in the queue.",
        ),
        (
            "admission",
            "no_such_boxes",
            "Asks for 5 Boxes; there are only 4.",
            None,
            "cannot start now: Asks for 5 Boxes; there are only 4.",
        ),
        ("assignment", "running", "Has its Boxes.", None, "has started"),
        ("assignment", "unknown_job", "Its worker is away.", None, "runs: Its worker is away."),
    ],
)
def test_a_workload_that_is_waited_for_has_a_message_for_each_state(
    phase, reason, text, position, said
):
    why = Explanation(
        phase=phase, reason=reason, text=text, blocked_by=(), needs={}, free={},
        position=position, expected_start=None,
    )  # fmt: skip
    assert reason_line(why) == said
