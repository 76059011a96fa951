"""The simulate command: what it prints, where, and its exit status."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from boxsched.cli.simulate import simulate
from boxsched.simulation import parse, report, run
from tests.simulation.scenarios import build, outcome_of, scenario_bytes, settings, stop, wide_build
from tests.simulation.test_swf import line


def call(*arguments, given=b""):
    return CliRunner().invoke(simulate, [str(a) for a in arguments], input=given)


def refused(*arguments, given=b""):
    """Return the only line on standard error."""
    result = call(*arguments, given=given)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


ONE = scenario_bytes(2, build("b1"), build("b2", 0.5, [0.25]), stop("b2", 0.5))


def test_one_json_object_is_printed_per_line_in_the_order_of_the_arguments(write):
    first, second = write("a.json", ONE), write("b.json", scenario_bytes(1))
    result = call(second, first, second, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    empty, full, again = map(json.loads, result.stdout.splitlines())
    assert empty == again == {
        "workloads": {},
        "summary": {
            "workloads": 0,
            "jobs": 0,
            "makespan": 0,
            "mean_wait": 0.0,
            "mean_bounded_slowdown": 1.0,
            "utilization": 0.0,
        },
    }  # fmt: skip
    assert full["workloads"] == {
        "b1": way(0, 0, 0, 10, "passed"),
        "b2": way(0.5, None, None, 0.5, "canceled"),
    }


def way(registered, queued, started, finished, result):
    return {
        "registered_at": registered,
        "queued_at": queued,
        "started_at": started,
        "finished_at": finished,
        "result": result,
    }


def test_whole_times_are_printed_without_a_fraction():
    text = report.as_json(outcome_of(2, build("b1", 1, [2]), build("b2", 1.5, [1e17])))
    assert '"registered_at": 1,' in text
    assert '"registered_at": 1.5,' in text
    assert '"finished_at": 1e+17,' in text


def test_standard_input_is_read():
    assert json.loads(call("-", "--json", given=ONE).stdout)["summary"]["jobs"] == 2


def test_nothing_is_printed_unless_all_are_valid(write):
    good, bad = write("good.json", ONE), write("bad.json", scenario_bytes(1, build("b1", jobs=[])))
    text = refused(good, bad, "--json")
    assert text.startswith(f"{bad}: events[0].jobs: ")
    assert refused(good, bad) == text


def test_the_position_comes_first_for_a_single_file(write):
    assert refused(write("x.json", b"{}"), "--json").startswith("boxes: ")
    assert refused("-", given=b"{").startswith("line 1 column 2: ")


def test_with_several_files_the_file_is_named_too(write):
    path = write("x.json", b"{}")
    assert refused(path) == f"boxes: is missing (in {path})"


def test_unreadable_files_are_reported(tmp_path):
    missing = tmp_path / "missing.json"
    assert refused(missing).startswith(f"{missing}: ")
    assert refused(tmp_path).startswith(f"{tmp_path}: ")
    assert refused("--swf", missing, "--boxes", 1).startswith(f"{missing}: ")
    assert refused("x\ny").startswith("x\N{REPLACEMENT CHARACTER}y: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--nonsense"],
        ["-", "--boxes", "3"],
        ["-", "--policy", "strict"],
        ["-", "--limit", "3"],
        ["--swf", "x.swf"],
        ["--swf", "x.swf", "--boxes", "3", "scenario.json"],
        ["--swf", "x.swf", "--boxes", "-1"],
        ["--swf", "x.swf", "--boxes", "many"],
        ["--swf", "x.swf", "--boxes", "3", "--policy", "fifo"],
        ["--swf", "x.swf", "--boxes", "3", "--limit", "-1"],
    ],
)
def test_wrong_use_is_reported_in_one_line(arguments):
    refused(*arguments, given=ONE)


def test_a_workload_log_is_simulated(write):
    lines = [line(), line(run=0), line(requested=9), line(requested=2), line(requested=2)]
    path = write("log.swf", "\n".join(["; a header", *lines]))
    result = call("--swf", path, "--boxes", 2, "--policy", "strict", "--limit", 4, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "summary": {
            "workloads": 2,
            "jobs": 3,
            "makespan": 20,
            "mean_wait": 5.0,
            "mean_bounded_slowdown": 1.5,
            "utilization": 0.75,
            "left_out": 2,
        }
    }
    assert "left out of the log" in call("--swf", path, "--boxes", 2).stdout


def test_a_corrupt_log_names_the_line(write):
    path = write("log.swf", "; a header\n1 2 three\n")
    assert refused("--swf", path, "--boxes", 2, "--json").startswith("line 2: ")


# --- The table ------------------------------------------------------------------------------


def table(outcome, limit=None, width=80, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    report.show(Console(file=file, width=width, highlight=False), outcome, "", limit)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_a_workload_has_one_line_with_its_timeline():
    outcome = outcome_of(
        2,
        wide_build("b1", 2, 30),
        build("b2", jobs=[30]),
        wide_build("never", 3, 5, at=15),
        wide_build("limited", 4, 5, at=15),
        max_boxes=3,
    )
    rows = {row.split()[0]: row for row in table(outcome).splitlines() if row.strip()}
    assert "0 s to 1:00" in rows["workload"]
    column = rows["workload"].index("0 s to")
    bars = {name: rows[name][column:].rstrip() for name in outcome.workloads}
    width = len(bars["b2"])
    assert bars["b1"] == "█" * len(bars["b1"])
    assert bars["b2"].strip("·").strip("█") == ""
    assert len(bars["b1"]) == width // 2
    assert set(bars["never"].strip()) == {"·"}
    assert rows["never"].split()[-2] == "waits"
    assert "refused" in rows["limited"]
    assert "utilization" in rows


def test_the_whole_table_is_printed():
    outcome = outcome_of(
        2, wide_build("b1", 2, 30), build("b2", jobs=[30]), wide_build("w" * 30, 3, 5, at=15)
    )
    shown = [line.rstrip() for line in table(outcome).splitlines()]
    assert shown == [
        "workload              kind   registered  waited   ran  result  0 s to 1:00",
        "b1                    build         0 s     0 s  30 s  passed  ████████",
        "b2                    build         0 s    30 s  30 s  passed  ········█████████",
        "wwwwwwwwwwwwwwwww...  build        15 s    45 s     -  waits       ·············",
        "",
        "workloads                  3",
        "jobs                       6",
        "makespan                1:00",
        "mean wait               15 s",
        "mean bounded slowdown   1.50",
        "utilization            75.0%",
    ]
    assert "... and 2 more; --all shows them" in table(outcome, limit=1).splitlines()
    assert "... and 1 more; --all shows them" in table(outcome, limit=2).splitlines()
    assert "more" not in table(outcome, limit=3)


def test_a_run_without_any_seconds_has_a_table():
    shown = table(outcome_of(1, build("b1", jobs=[0])))
    assert "0 s to 0 s" in shown
    assert "passed" in shown


def test_a_terminal_shows_results_in_colours():
    jobs = [{"seconds": 9, "result": "failed"}]
    outcome = outcome_of(2, build("good", jobs=[9]), build("bad", jobs=jobs, branch="x"))
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="standard")
    report.show(console, outcome, "", 1)
    good, more = (line for line in file.getvalue().splitlines() if "good" in line or "more" in line)
    assert more.startswith("\x1b[2m")
    file.truncate(0)
    report.show(console, outcome, "", None)
    (bad,) = (line for line in file.getvalue().splitlines() if "bad" in line)
    colour = {row: row[: row.index("█")].rpartition("\x1b")[2] for row in (good, bad)}
    assert colour[good] != colour[bad]


def test_it_is_readable_at_80_columns_and_in_ascii():
    outcome = outcome_of(3, *(wide_build("x" * 200 + str(i), 1, 1e7, at=i * 1e6) for i in range(5)))
    for encoding in ("utf-8", "ascii"):
        rows = table(outcome, encoding=encoding).splitlines()
        assert max(map(len, rows)) <= 80
        assert all("passed" in row for row in rows[1:6])


def test_outside_of_a_terminal_there_is_no_colour_and_no_control_character():
    outcome = outcome_of(3, build("\x1b[31mred\u202e[bold]x[/]", branch="b"))
    text = table(outcome)
    assert "\x1b" not in text
    assert "[bold]x[/]" in text


def test_at_most_a_hundred_workloads_are_shown(write):
    path = write("many.json", scenario_bytes(9, *(build(f"b{i}") for i in range(150))))
    assert "and 50 more" in call(path).stdout
    assert len(call(path, "--all").stdout.splitlines()) > 150


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.04, "0 s"), (12.5, "12.5 s"), (59.96, "1:00"), (61, "1:01"), (-5, "-5 s"),
        (3_599.9, "1:00:00"), (3_605, "1:00:05"), (29_363_626, "339 d 20 h"),
    ],
)  # fmt: skip
def test_durations_are_shown_in_words(seconds, text):
    assert report.duration(seconds) == text


def test_a_long_run_can_be_watched():
    events = [build(f"b{i}", i, [1], branch="x") for i in range(1_200)]
    seen = []
    run(parse(scenario_bytes(2, *events, projects=settings())), seen.append)
    assert seen == [512, 1024]
