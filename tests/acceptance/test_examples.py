"""Everything in examples/ runs and does what its README says."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from boxsched.cli import main
from tests.conftest import EXAMPLES

SCENARIOS = EXAMPLES / "scenarios"
NEVER = None
PATIENCE_SECONDS = 60

# (queued, started, finished, result) of each workload.
EXPECTED = {
    "gate.json": {
        "search": (0, 0, 60, "passed"),
        "basket": (1, 1, 81, "passed"),
        "prices": (2, 60, 110, "passed"),
    },
    "deploy-overtakes.json": {
        "main-1": (0, 0, 60, "passed"),
        "search-2": (5, 120, 160, "passed"),
        "production-3": (10, 60, 90, "passed"),
        "production-4": (90, 90, 120, "passed"),
    },
    "policy-strict.json": {
        "long": (0, 0, 100, "passed"),
        "wide": (10, 100, 150, "passed"),
        "short": (20, 150, 210, "passed"),
        "slow": (90, 150, 270, "passed"),
    },
    "policy-best-effort.json": {
        "long": (0, 0, 100, "passed"),
        "wide": (10, 210, 260, "passed"),
        "short": (20, 20, 80, "passed"),
        "slow": (90, 90, 210, "passed"),
    },
    "policy-backfill.json": {
        "long": (0, 0, 100, "passed"),
        "wide": (10, 100, 150, "passed"),
        "short": (20, 20, 80, "passed"),
        "slow": (90, 150, 270, "passed"),
    },
    "late-job.json": {
        "late": (0, 0, 90, "passed"),
        "wide": (10, 100, 150, "passed"),
        "short": (40, 40, 100, "passed"),
        "long": (40, 150, 250, "passed"),
    },
    "cancellation.json": {
        "main-1": (0, 0, 60, "passed"),
        "main-2": (60, 60, 120, "passed"),
        "main-3": (120, 120, 180, "passed"),
        "release-1": (0, 0, 60, "passed"),
        "release-2": (NEVER, NEVER, 20, "canceled"),
        "release-3": (60, 60, 120, "passed"),
        "search-1": (0, 0, 10, "stopped"),
        "search-2": (10, 10, 20, "stopped"),
        "search-3": (20, 20, 80, "passed"),
    },
    "box-types.json": {
        "app-1": (0, 0, 120, "passed"),
        "app-2": (5, 30, 150, "passed"),
        "app-3": (100, 150, 270, "passed"),
    },
}


def simulate(*paths):
    done = CliRunner().invoke(main, ["simulate", "--json", *map(str, paths)])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", sorted(p.name for p in SCENARIOS.glob("*.json")))
def test_a_scenario_has_the_outcome_that_its_readme_shows(name):
    [report] = simulate(SCENARIOS / name)
    came_out = {
        workload: (row["queued_at"], row["started_at"], row["finished_at"], row["result"])
        for workload, row in report["workloads"].items()
    }
    assert came_out == EXPECTED[name]


def test_all_scenarios_run_in_one_command():
    names = sorted(EXPECTED)
    reports = simulate(*(SCENARIOS / name for name in names))
    assert [set(r["workloads"]) for r in reports] == [set(EXPECTED[n]) for n in names]


def test_the_readme_names_every_scenario_and_no_other():
    named = re.findall(r"^\| `(.+?\.json)`", (SCENARIOS / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(p.name for p in SCENARIOS.glob("*.json")) == sorted(EXPECTED)


@pytest.fixture(scope="module")
def boxsched(tmp_path_factory):
    """Run a command of the CLI on a service with 4 Boxes; return (exit status, output)."""
    environment = {**os.environ, "BOXSCHED_DATA": str(tmp_path_factory.mktemp("examples") / "data")}
    serve = [sys.executable, "-m", "boxsched", "serve", "--port", "0", "--boxes", "4"]
    service = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True)

    def run(*words):
        command = [sys.executable, "-m", "boxsched", *map(str, words)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        return done.returncode, done.stdout + done.stderr

    try:
        assert service.stdout.readline().startswith("listening on http://127.0.0.1:")
        yield run
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_SECONDS) == 0
        service.stdout.close()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.json")), ids=lambda p: p.stem)
def test_a_project_builds_and_deploys_to_each_of_its_servers(boxsched, file):
    apply = boxsched("project", "apply", file, "--name", file.stem)
    assert apply == (0, f"{file.stem}: created\n")

    status, said = boxsched("build", file.stem, "--wait")
    assert status == 0, said
    for server in json.loads(file.read_bytes()).get("servers", ()):
        status, said = boxsched("deploy", file.stem, server, "--wait")
        assert status == 0, said
