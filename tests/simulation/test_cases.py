"""Small cases from tests of other projects: Kueue, Zuul and pyss (see
../shared/behaviour_cases.json)."""

import json

import pytest

from tests.conftest import SHARED
from tests.simulation.scenarios import (
    boxes,
    build,
    ends,
    outcome_of,
    results_by_name,
    settings,
    starts,
    stop,
    wide_build,
)

LONG = 1_000

# --- Kueue ----------------------------------------------------------------------------------


def test_gang_01_what_fits_is_admitted_completely():
    gangs = wide_build("w1", 3, 10), wide_build("w2", 3, 10), wide_build("w3", 2, 30)
    assert starts(outcome_of(5, *gangs, policy="best_effort")) == {"w1": 0, "w2": 10, "w3": 0}
    assert starts(outcome_of(5, *gangs, policy="strict")) == {"w1": 0, "w2": 10, "w3": 10}


def test_gang_02_a_workload_waits_completely_and_starts_at_once():
    outcome = outcome_of(5, wide_build("w1", 2, 10), wide_build("w2", 5, 10))
    assert results_by_name(outcome)["w2"] == (0, 10, 20, "passed")


def test_gang_05_a_stop_wakes_the_scheduler():
    gangs = wide_build("w1", 4, LONG), wide_build("w2", 4, 10), wide_build("w3", 1, LONG)
    outcome = outcome_of(5, *gangs, stop("w1", 7), policy="best_effort")
    assert starts(outcome) == {"w1": 0, "w2": 7, "w3": 0}


@pytest.mark.parametrize(("older", "newer", "first"), [(9, 5, "w1"), (5, 5, "w1"), (5, 9, "w2")])
def test_ord_01_priority_comes_before_age(older, newer, first):
    outcome = outcome_of(
        1,
        build("holds", jobs=[10]),
        build("w1", 1, priority=older),
        build("w2", 2, priority=newer),
    )
    assert starts(outcome)[first] == 10


def test_ord_03_priorities_hold_under_a_backlog():
    ranks = {"low": 10, "mid1": 50, "mid2": 50, "high1": 90, "high2": 90}
    backlog = [wide_build(name, 2, 10, priority=rank) for name, rank in ranks.items()]
    outcome = outcome_of(0, *backlog, boxes(5, 1))
    assert starts(outcome) == {"low": 21, "mid1": 11, "mid2": 11, "high1": 1, "high2": 1}


def test_ord_04_strict_lets_no_workload_pass_the_head():
    ranks = {"w1": (2, 100), "w2": (5, 10), "w3": (1, 1)}
    gangs = [wide_build(name, n, 10, priority=rank) for name, (n, rank) in ranks.items()]
    assert starts(outcome_of(5, *gangs, policy="strict")) == {"w1": 0, "w2": 10, "w3": 20}


# --- Zuul -----------------------------------------------------------------------------------


def test_ord_12_priority_classes_hold_when_machines_return():
    ranks = {"post-merge": 10, "pull-request": 50, "gate": 90}
    outcome = outcome_of(0, *(build(n, priority=p) for n, p in ranks.items()), boxes(1, 5))
    assert starts(outcome) == {"gate": 5, "pull-request": 15, "post-merge": 25}


def test_br_01_the_newest_build_of_a_branch_supersedes_waiting_ones():
    pushes = [build(name, at, [50], branch="master") for name, at in (("a", 0), ("b", 1), ("c", 2))]
    outcome = outcome_of(9, *pushes, projects=settings(cancellation=[["*", "queued"]]))
    assert results_by_name(outcome) == {
        "a": (0, 0, 50, "passed"),
        "b": (None, None, 2, "canceled"),
        "c": (50, 50, 100, "passed"),
    }


def test_br_02_branches_do_not_affect_one_another():
    rules = settings(cancellation=[["*", "all"]])
    pushes = build("a", 0, branch="master"), build("b", 1, branch="stable")
    assert starts(outcome_of(9, *pushes, projects=rules)) == {"a": 0, "b": 1}


def test_grp_12_a_stop_in_any_phase_lets_the_lane_continue():
    def lane_after(at):
        first = build("first", 0, [LONG], branch="x")
        events = [wide_build("holds", 2, 20), first, build("next", 1, branch="x")]
        return results_by_name(outcome_of(2, *events, stop("first", at)))

    assert lane_after(5)["first"] == (0, None, 5, "canceled")
    assert lane_after(5)["next"] == (5, 20, 30, "passed")
    assert lane_after(20)["first"] == (0, None, 20, "canceled")
    assert lane_after(21)["first"] == (0, 20, 21, "stopped")
    assert lane_after(21)["next"] == (21, 21, 31, "passed")


# --- pyss -----------------------------------------------------------------------------------


def test_bf_01_first_come_first_served():
    first = [wide_build(f"a{i}", 15, 100) for i in range(6)]
    second = wide_build("b", 50, 100, at=5), wide_build("c", 10, 100, at=6)
    wide = build("wide", 7, [{"seconds": 100, "expected": 1_000}] * 99)
    outcome = outcome_of(
        100, *first, *second, wide, wide_build("last", 10, 2, at=8), policy="strict"
    )
    assert list(ends(outcome).values()) == [100] * 6 + [200, 200, 300, 302]


def test_bf_03_easy_backfilling_delays_all_but_the_head():
    gangs = wide_build("1", 70, 100), wide_build("2", 80, 100, at=1), wide_build("3", 90, 100, at=2)
    outcome = outcome_of(100, *gangs, wide_build("4", 20, 250, at=50))
    assert list(ends(outcome).values()) == [100, 200, 400, 300]


def pyss_cases():
    path = SHARED / "traces" / "pyss_cases.dev.json"
    if not path.is_file():
        return [pytest.param(None, None, marks=pytest.mark.skip("no ../shared"))]
    return [
        pytest.param(case, policy, id=f"{case['file']}-{policy}")
        for case in json.loads(path.read_text())["cases"]
        for policy, name in (("strict", "FCFS"), ("backfill", "EASY"))
        if name in case["valid_for"]
    ]


@pytest.mark.parametrize(("case", "policy"), pyss_cases())
def test_pyss_has_the_same_results_to_the_second(case, policy):
    jobs = case["jobs"]
    gangs = [
        wide_build(
            f"{i}", j["processors"], {"seconds": j["run"], "expected": j["estimate"]}, j["submit"]
        )
        for i, j in enumerate(jobs)
    ]
    gangs.sort(key=lambda event: event["at"])
    outcome = outcome_of(case["total_processors"], *gangs, policy=policy)
    expected = {f"{i}": (j["expected_start"], j["expected_finish"]) for i, j in enumerate(jobs)}
    assert {n: (r.started_at, r.finished_at) for n, r in outcome.workloads.items()} == expected
