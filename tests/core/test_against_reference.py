"""Random scenarios through the simulator and through the naive reference: they must agree.

3,000 seeds by default (about 20 s); ``BOXSCHED_SCENARIOS=N`` runs N, and
``BOXSCHED_FIRST_SCENARIO`` is the first seed. A difference is shrunk before it is shown;
then docs/scheduling.md decides which of the two is right.
"""

import json
import os

import pytest
from hypothesis import given, settings

from boxsched.simulation import parse, run
from tests.reference.model import FIELDS, simulate
from tests.reference.scenarios import random_scenario, scenarios
from tests.reference.shrink import shrunk

FIRST = int(os.environ.get("BOXSCHED_FIRST_SCENARIO", "0"))
COUNT = int(os.environ.get("BOXSCHED_SCENARIOS", "3000"))
SEEDS_A_TEST = 100


def simulated(scenario):
    """Return the core's outcome, in the form of ``boxsched simulate``."""
    outcome = run(parse(json.dumps(scenario).encode()))
    summary = outcome.summary
    return {
        "workloads": {
            name: {field: getattr(record, field) for field in FIELDS}
            for name, record in outcome.workloads.items()
        },
        "summary": {name: getattr(summary, name) for name in summary.__slots__ if name[0] != "_"},
    }


def differs(scenario):
    got, expected = simulated(scenario), simulate(scenario)
    if got["workloads"] != expected["workloads"]:
        return True
    return got["summary"] != pytest.approx(expected["summary"], rel=1e-9, abs=1e-9)


def complaint(scenario):
    small = shrunk(scenario, differs)
    events = "\n ".join(json.dumps(event) for event in small.pop("events"))
    small_run = {**small, "events": [json.loads(line) for line in events.split("\n ")]}
    got, expected = simulated(small_run), simulate(small_run)
    lines = [json.dumps(small), f" {events}"]
    for name, record in expected["workloads"].items():
        if got["workloads"][name] != record:
            lines += [f"{name} core      {got['workloads'][name]}", f"{name} reference {record}"]
    if got["workloads"] == expected["workloads"]:
        lines += [f"core      {got['summary']}", f"reference {expected['summary']}"]
    return "\n".join(lines)


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, SEEDS_A_TEST))
def test_the_simulator_agrees_with_the_reference(first):
    for seed in range(first, min(first + SEEDS_A_TEST, FIRST + COUNT)):
        made = random_scenario(seed)
        if differs(made):
            pytest.fail(f"seed {seed}:\n{complaint(made)}")


@given(scenarios())
@settings(max_examples=100)
def test_the_simulator_agrees_on_scenarios_from_hypothesis(made):
    assert simulated(made)["workloads"] == simulate(made)["workloads"]


def test_the_example_of_the_docs_has_the_documented_outcome():
    """Section 2, to the digit."""
    scenario = {
        "boxes": 8,
        "policy": "backfill",
        "priority_aging": None,
        "max_boxes": None,
        "projects": [
            {
                "name": "web",
                "priority_branches": ["main"],
                "max_boxes": None,
                "fail_fast": False,
                "cancellation": [["main", "none"], ["*", "queued"]],
            }
        ],
        "events": [
            {
                "at": 0,
                "submit": "build",
                "id": "b1",
                "project": "web",
                "branch": "main",
                "jobs": [60, 60, {"seconds": 30, "expected": 45, "result": "failed"}],
            },
            {
                "at": 1,
                "submit": "deploy",
                "id": "d1",
                "project": "web",
                "server": "production",
                "jobs": [20],
                "priority": 90,
            },
            {"at": 1, "submit": "ssh", "id": "s1", "project": "web", "jobs": [300]},
            {"at": 9, "stop": "s1"},
            {"at": 10, "boxes": 6},
        ],
    }
    got = simulated(scenario)
    assert got["workloads"]["b1"] == {
        "registered_at": 0,
        "queued_at": 0,
        "started_at": 0,
        "finished_at": 60,
        "result": "failed",
    }
    summary = got["summary"]
    assert (summary["workloads"], summary["jobs"], summary["makespan"]) == (3, 5, 60)
    assert (summary["mean_wait"], summary["mean_bounded_slowdown"]) == (0.0, 1.0)
    assert summary["utilization"] == pytest.approx(0.468, abs=0.0005)
    assert not differs(scenario)
