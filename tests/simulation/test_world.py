"""docs/scheduling.md in virtual time: one instant after the other."""

import attrs
import pytest

from boxsched.model import Policy
from boxsched.scheduling.interface import QueueRules
from boxsched.simulation import parse, run
from tests.simulation.scenarios import (
    boxes,
    build,
    deploy,
    ends,
    outcome_of,
    results_by_name,
    scenario_bytes,
    settings,
    ssh,
    starts,
    stop,
    wide_build,
)

FAILS = {"seconds": 5, "result": "failed"}


def test_the_example_of_the_docs_has_the_documented_outcome():
    web = {"name": "web", "priority_branches": ["main"], "max_boxes": None, "fail_fast": False}
    web["cancellation"] = [["main", "none"], ["*", "queued"]]
    failing = {"seconds": 30, "expected": 45, "result": "failed"}
    outcome = outcome_of(
        8,
        build("b1", project="web", branch="main", jobs=[60, 60, failing]),
        deploy("d1", 1, [20], project="web", priority=90),
        ssh("s1", 1, [300], project="web"),
        stop("s1", 9),
        boxes(6, 10),
        projects=[web],
    )
    assert results_by_name(outcome) == {
        "b1": (0, 0, 60, "failed"),
        "d1": (1, 1, 21, "passed"),
        "s1": (1, 1, 9, "stopped"),
    }
    assert attrs.asdict(outcome.summary) == {
        "workloads": 3,
        "jobs": 5,
        "makespan": 60,
        "mean_wait": 0.0,
        "mean_bounded_slowdown": 1.0,
        "utilization": (60 + 60 + 30 + 20 + 8) / (8 * 10 + 6 * 50),
    }


def test_nothing_happens_in_an_empty_scenario():
    summary = outcome_of(3).summary
    assert attrs.astuple(summary) == (0, 0, 0, 0.0, 1.0, 0.0)


def test_a_workload_that_never_fits_is_unfinished():
    outcome = outcome_of(1, build("small"), wide_build("wide", 2, 10))
    assert results_by_name(outcome)["wide"] == (0, None, None, None)
    assert ends(outcome)["small"] == 10
    assert (outcome.summary.workloads, outcome.summary.jobs, outcome.summary.makespan) == (2, 3, 10)


# --- Lanes and cancellation -----------------------------------------------------------------


def test_workloads_of_a_lane_run_one_after_the_other():
    outcome = outcome_of(
        9,
        *(build(f"b{i}", branch="main") for i in (1, 2)),
        *(build(f"t{i}", tag="main") for i in (1, 2)),
        *(deploy(f"d{i}", server="main") for i in (1, 2)),
        *(ssh(f"s{i}") for i in (1, 2)),
        build("other", branch="main", project="q"),
    )
    second = {"b2", "t2", "d2"}
    assert starts(outcome) == {n: 10 if n in second else 0 for n in outcome.workloads}
    assert all(r.queued_at == r.started_at for r in outcome.records)


@pytest.mark.parametrize(
    ("strategy", "running", "waiting"),
    [
        ("none", (0, 0, 100, "passed"), (100, 100, 200, "passed")),
        ("queued", (0, 0, 100, "passed"), (None, None, 20, "canceled")),
        ("all", (0, 0, 10, "stopped"), (10, 10, 20, "stopped")),
    ],
)
def test_a_new_build_cancels_as_the_strategy_says(strategy, running, waiting):
    rules = settings(cancellation=[["keep/*", "none"], ["*", strategy]])
    three = [build(f"b{i}", at=i * 10, jobs=[100], branch="x/y") for i in range(3)]
    outcome = results_by_name(outcome_of(9, *three, build("t", 30, tag="x/y"), projects=rules))
    assert (outcome["b0"], outcome["b1"]) == (running, waiting)
    assert outcome["t"] == (30, 30, 40, "passed")


def test_a_build_canceled_when_it_is_registered_never_left_ordering():
    rules = settings(cancellation=[["*", "all"]])
    outcome = outcome_of(9, *(build(f"b{i}", branch="x") for i in range(3)), projects=rules)
    assert results_by_name(outcome)["b0"] == (None, None, 0, "canceled")
    assert results_by_name(outcome)["b2"] == (0, 0, 10, "passed")


def test_a_build_canceled_while_it_waits_for_boxes_has_left_ordering():
    outcome = outcome_of(1, build("b1"), build("b2"), stop("b2", 4))
    assert results_by_name(outcome)["b2"] == (0, None, 4, "canceled")


# --- Stops, failures, refusals --------------------------------------------------------------


def test_a_stopped_workload_frees_its_boxes_and_its_lane_at_once():
    outcome = outcome_of(
        2, wide_build("b1", 2, 100, branch="x"), wide_build("b2", 2, 10, branch="x"), stop("b1", 7)
    )
    assert results_by_name(outcome) == {"b1": (0, 0, 7, "stopped"), "b2": (7, 7, 17, "passed")}


def test_a_job_that_ends_at_the_time_of_a_stop_has_ended():
    outcome = outcome_of(1, build("b1"), stop("b1", 10), stop("b1", 11))
    assert results_by_name(outcome)["b1"] == (0, 0, 10, "passed")


def test_the_end_of_a_stopped_workload_is_no_separate_instant():
    # A pass at 50 would assume that both overdue jobs end at once, and leave a Box for b2.
    overdue = [{"seconds": 100, "expected": 6}, {"seconds": 100, "expected": 20}]
    events = [
        ssh("gone", jobs=[50]),
        build("b1", jobs=overdue),
        stop("gone", 1),
        wide_build("head", 3, 10, at=2),
        build("b2", 3, [1000]),
    ]
    assert starts(outcome_of(4, *events))["b2"] == 100
    assert starts(outcome_of(4, *events, stop("gone", 50)))["b2"] == 50


def test_with_fail_fast_the_first_failed_job_stops_the_others():
    jobs = [100, FAILS, 50, 5]
    outcome = results_by_name(
        outcome_of(4, build("b1", jobs=jobs), projects=settings(fail_fast=True))
    )
    assert outcome["b1"] == (0, 0, 5, "failed")
    outcome = results_by_name(outcome_of(4, build("b1", jobs=jobs), projects=settings()))
    assert outcome["b1"] == (0, 0, 100, "failed")
    slow = settings(fail_fast=["main"])
    assert results_by_name(outcome_of(4, build("b1", jobs=jobs), projects=slow))["b1"] == (
        0,
        0,
        100,
        "failed",
    )
    assert (
        results_by_name(outcome_of(4, build("b1", jobs=jobs, branch="main"), projects=slow))["b1"][
            2
        ]
        == 5
    )


def test_stopped_takes_precedence_over_failed():
    outcome = outcome_of(2, build("b1", jobs=[FAILS, 100]), stop("b1", 9))
    assert results_by_name(outcome)["b1"] == (0, 0, 9, "stopped")


def test_a_refused_workload_affects_nothing():
    rules = settings(cancellation=[["*", "all"]], max_boxes=2)
    outcome = outcome_of(
        9,
        wide_build("b1", 2, 10, branch="x"),
        wide_build("b2", 3, 10, at=5, branch="x"),
        stop("b2", 6),
        wide_build("q", 5, 10, at=6, project="q"),
        max_boxes=4,
        projects=rules,
    )
    assert results_by_name(outcome) == {
        "b1": (0, 0, 10, "passed"),
        "b2": (None, None, 5, "refused"),
        "q": (None, None, 6, "refused"),
    }
    assert (outcome.summary.workloads, outcome.summary.jobs) == (3, 10)
    assert outcome.summary.mean_wait == 0


# --- Time and Boxes -------------------------------------------------------------------------


def test_a_box_is_free_as_soon_as_its_own_job_ends():
    outcome = outcome_of(2, build("b1", jobs=[10, 100]), build("b2", 1))
    assert starts(outcome)["b2"] == 10


def test_jobs_of_zero_seconds_end_at_the_instant_they_start():
    chain = [build(f"b{i}", 3, [0, 0], branch="x") for i in range(4)]
    outcome = outcome_of(2, *chain, build("last", 3))
    assert {(r.started_at, r.finished_at) for r in outcome.records[:4]} == {(3, 3)}
    assert ends(outcome)["last"] == 13


def test_times_are_doubles_and_ends_are_sums():
    outcome = outcome_of(1, build("b1", 0.1, [0.2]), build("b2", 0.1 + 0.2))
    assert ends(outcome)["b1"] == 0.1 + 0.2 == starts(outcome)["b2"]


def test_a_duration_below_the_resolution_of_time_is_treated_as_zero():
    assert ends(outcome_of(1, build("b1", 1e17, [1]), build("b2", 1e17)))["b2"] == 1e17 + 10


def test_fewer_boxes_are_wanted_than_busy():
    outcome = outcome_of(
        3,
        build("b1", jobs=[10, 20, 30]),
        boxes(1, 5),
        build("b2", 6, [1]),
        wide_build("b3", 2, 1, at=35),
        boxes(2, 40),
    )
    assert starts(outcome) == {"b1": 0, "b2": 30, "b3": 40}
    # Existing: 3 until 10 (wanted or busy), 2 until 20, 1 until 40, 2 until 41.
    assert outcome.summary.utilization == (60 + 1 + 2) / (30 + 20 + 20 + 2)


def test_boxes_wanted_after_the_last_end_are_not_counted():
    outcome = outcome_of(2, build("b1"), boxes(100, 50))
    assert (outcome.summary.makespan, outcome.summary.utilization) == (10, 0.5)


def test_the_makespan_starts_with_the_first_event_of_any_kind():
    outcome = outcome_of(2, boxes(2, 100), build("b1", 130))
    assert (outcome.summary.makespan, outcome.summary.utilization) == (40, 10 / 80)


def test_each_box_type_has_its_own_boxes():
    mac = {"seconds": 10, "box_type": "mac"}
    outcome = outcome_of(
        {"linux": 2, "mac": 1},
        build("b1", jobs=[10, 20, mac]),
        build("b2", 1, [mac]),
        build("b3", 1, [5]),
        boxes(1, 2),
        boxes({"mac": 2}, 3),
    )
    assert starts(outcome) == {"b1": 0, "b2": 3, "b3": 20}
    busy = 10 + 20 + 10 + 10 + 5
    in_being = (2 * 10 + 15) + (1 * 3 + 2 * 22)
    assert outcome.summary.utilization == busy / in_being


def test_a_project_has_its_own_limit():
    events = (wide_build("b1", 2, 10), wide_build("b2", 2, 10), build("q", project="q"))
    outcome = outcome_of(4, *events, projects=settings(max_boxes=3))
    assert starts(outcome) == {"b1": 0, "b2": 10, "q": 0}


def test_rounds_continue_until_nothing_changes():
    # In the first pass head waits for Boxes and holds back late. Then its own project's short build
    # passes it, so its project's limit keeps it out: the second pass has no head.
    outcome = outcome_of(
        3,
        ssh("runs", 0, [12]),
        build("late", 4, [100], project="q"),
        build("short", 4, [2]),
        ssh("head", 4, [4, 4, 4]),
        projects=settings(max_boxes=4),
    )
    assert starts(outcome) == {"runs": 0, "short": 4, "late": 4, "head": 104}


# --- The queue ------------------------------------------------------------------------------


def test_priority_goes_first_and_ageing_lets_old_workloads_catch_up():
    holds = build("holds", 0, [100])
    others = [build("low", 1), ssh("ssh", 50), build("high", 60, branch="main"), deploy("d", 70)]
    rules = settings(priority_branches=["ma*"])
    assert [n for n, _ in by_start(outcome_of(1, holds, *others, projects=rules))] == [
        "holds", "ssh", "d", "high", "low",
    ]  # fmt: skip
    aged = outcome_of(1, holds, *others, projects=rules, priority_aging=0.5)
    assert [n for n, _ in by_start(aged)] == ["holds", "low", "ssh", "high", "d"]


def by_start(outcome):
    return sorted(starts(outcome).items(), key=lambda pair: pair[1])


def test_a_scenario_runs_again_with_other_rules():
    scenario = parse(
        scenario_bytes(
            4, wide_build("b1", 3, 10), wide_build("b2", 2, 10), wide_build("b3", 1, 100)
        )
    )
    first = run(scenario)
    strict = run(attrs.evolve(scenario, rules=QueueRules(policy=Policy.STRICT)))
    greedy = run(attrs.evolve(scenario, rules=QueueRules(policy=Policy.BEST_EFFORT)))
    assert starts(first) == {"b1": 0, "b2": 10, "b3": 0}
    assert starts(strict) == {"b1": 0, "b2": 10, "b3": 10}
    assert starts(greedy) == {"b1": 0, "b2": 10, "b3": 0}
    assert results_by_name(run(scenario)) == results_by_name(first)
