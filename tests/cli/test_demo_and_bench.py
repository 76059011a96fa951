"""``boxsched demo`` and ``boxsched bench`` as a user runs them."""

import contextlib
import json
import signal

import pytest

from boxsched.demo.traffic import projects
from boxsched.engine.stages import STAGES
from tests.cli.conftest import START_SECONDS, CommandRunner, end, start
from tests.contract.postgres_server import database, served


def until(process, text):
    """Return the lines up to one that contains the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {text!r}: {lines}")


def test_the_demo_prints_its_address_keeps_busy_and_ends_with_ctrl_c(tmp_path):
    process = start("demo", "--port", "0", data=tmp_path)
    try:
        welcome = until(process, "Ctrl-C ends it")
        token = (tmp_path / "admin-token").read_text().strip()
        assert f"Sign in with: {token}" in welcome
        assert str(tmp_path / "admin-token") in welcome
        until(process, "build of")
        shell = CommandRunner(str(tmp_path))
        assert {one["name"] for one in shell.json("project", "list")["projects"]} == {
            project["name"] for project in projects()
        }
        assert shell.json("list")["workloads"]
        process.send_signal(signal.SIGINT)
        assert "The demo has ended." in process.stdout.read()
        assert process.wait(START_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_bench_measures_a_service(tmp_path):
    process = start("serve", "--port", "0", "--box-driver", "none", "--boxes", "8", data=tmp_path)
    try:
        figures = json.loads(
            CommandRunner(str(tmp_path)).process("bench", "--builds", "300", "--jobs", "2").stdout
        )
    finally:
        end(process)
    assert (figures["builds"], figures["jobs_per_build"], figures["boxes"]) == (300, 2, 8)
    assert "round_trips_per_batch" not in figures
    for name in ("submissions_per_second", "finished_builds_per_second", "peak_memory_mib"):
        assert figures[name] > 0
    assert figures["jobs_per_second"] == pytest.approx(2 * figures["finished_builds_per_second"], 1)
    for spread in (figures["latency_ms"], figures["submit_to_start_ms"]):
        assert 0 < spread["p50"] <= spread["p99"] <= spread["max"]
    assert 0 <= figures["idle_boxes_on_average"] < 8
    stages = figures["time_of_a_build_ms"]
    assert set(stages) == set(STAGES)
    for stage in ("submit", "inbox", "decide", "commit", "tell", "report"):
        assert 0 < stages[stage] < 60_000, stage
    assert figures["longest_loop_hold_ms"] > 0
    assert figures["disk"]["appends_per_second"] > 0
    assert figures["machine"]["cores"]
    assert figures["versions"]["python"]


@pytest.mark.slow
def test_the_bench_measures_deliveries(tmp_path):
    process = start("serve", "--port", "0", "--box-driver", "none", "--boxes", "8", data=tmp_path)
    try:
        figures = json.loads(
            CommandRunner(str(tmp_path)).process("bench", "--webhooks", "--builds", "200").stdout
        )
    finally:
        end(process)
    assert (figures["deliveries"], figures["duplicates"]) == (200, 200)
    assert figures["bytes_of_a_delivery"] > 5_000
    for rate in ("deliveries_per_second", "duplicates_per_second"):
        assert figures[rate] > 0
    for spread in (figures["latency_ms"], figures["latency_of_duplicates_ms"]):
        assert 0 < spread["p50"] <= spread["p99"] <= spread["max"]


def test_the_bench_refuses_boxes_that_run_jobs(shell):
    done = shell("bench", "--builds", "10", status=2)
    assert "the Boxes of this service run real jobs" in done.stderr
    assert done.stdout == ""


def test_the_bench_refuses_another_kind_of_database(shell):
    done = shell("bench", "--database", "sqlite:///x", status=2)
    assert "--database: must be postgresql://" in done.stderr


@contextlib.contextmanager
def node(folder, url):
    process = start(
        "serve", "--port", "0", "--box-driver", "none", "--boxes", "8", "--database", url,
        data=folder,
    )  # fmt: skip
    try:
        yield json.loads((folder / "service.json").read_text())["url"]
    finally:
        end(process)


@pytest.mark.slow
def test_the_bench_measures_a_cluster(tmp_path):
    with (
        served() as server,
        database(server.url("postgres")) as url,
        node(tmp_path / "one", url) as one,
        node(tmp_path / "two", url) as two,
    ):
        shell = CommandRunner(str(tmp_path / "one"))
        figures = json.loads(
            shell.process(
                "bench", "--url", one, "--url", two, "--seconds", "2", "--database", url
            ).stdout
        )
        done = shell("bench", "--url", two, status=2)
    assert f"add --url {one}" in done.stderr
    assert (figures["nodes"], figures["boxes"]) == (2, 16)
    assert figures["builds"] > 0
    assert figures["load_seconds"] >= 2
    assert figures["round_trips_per_batch"] >= 1
    assert figures["database"]["single_row_inserts_per_second"] > 0


@pytest.mark.slow
def test_the_bench_measures_the_core(tmp_path):
    figures = json.loads(
        CommandRunner(str(tmp_path)).process("bench", "--core", "--waiting", "10000").stdout
    )
    [row] = figures["core"]
    assert (row["waiting"], row["cost_ratio"]) == (10_000, 1.0)
    assert row["workloads_per_second"] > 0
    assert row["bytes_per_waiting_workload"] > 0
