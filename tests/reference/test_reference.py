"""The naive model compared with published results, so it is not just a copy of the core."""

import json

import pytest

from tests.conftest import SHARED
from tests.reference.model import simulate

CASES = SHARED / "traces" / "pyss_cases.dev.json"
POLICIES = {"FCFS": "strict", "EASY": "backfill"}


def pyss_cases():
    for case in json.loads(CASES.read_text())["cases"] if CASES.exists() else []:
        for name in sorted(POLICIES.keys() & case["valid_for"]):
            yield pytest.param(case, POLICIES[name], id=f"{case['file']}-{name}")


@pytest.mark.parametrize(("case", "policy"), list(pyss_cases()))
def test_the_reference_gives_the_finish_times_of_pyss(case, policy):
    events = [
        {
            "at": job["submit"],
            "submit": "ssh",
            "id": str(i),
            "project": "log",
            "jobs": [{"seconds": job["run"], "expected": job["estimate"]}] * job["processors"],
        }
        for i, job in enumerate(case["jobs"])
    ]
    boxes = case["total_processors"]
    ended = simulate({"boxes": boxes, "policy": policy, "events": events})["workloads"]
    expected = [job["expected_finish"] for job in case["jobs"]]
    assert [ended[str(i)]["finished_at"] for i in range(len(expected))] == expected


def test_box_seconds_count_boxes_that_are_wanted_or_still_busy():
    scenario = {
        "boxes": 3,
        "events": [
            {"at": 0, "submit": "ssh", "id": "a", "project": "p", "jobs": [10, 10]},
            {"at": 4, "boxes": 1},
        ],
    }
    # 3 existing Boxes for 4 s, then 2 that are still busy for 6 s; 2 are busy all the time.
    assert simulate(scenario)["summary"]["utilization"] == 20 / (3 * 4 + 2 * 6)
