"""Each rule of ordering and of priority as a scenario (docs/scheduling.md), with its reasons."""

import pytest

from boxsched.scheduling.reasons import NeedsBoxes, Runs, WaitsForLane
from tests.core.world import World

# --- Lanes --------------------------------------------------------------------------------------


def test_builds_of_a_branch_run_one_after_the_other():
    w = World(boxes=9)
    w.build("b1", 60)
    w.build("b2", 60)
    w.build("b3", 60)
    assert (w.running, w.upcoming) == ({"b1"}, {"b2", "b3"})
    assert w.why("b1") == Runs()
    assert w.why("b3") == WaitsForLane(ahead=(w.id("b1"), w.id("b2")))
    w.run_until(60)
    assert (w.running, w.upcoming) == ({"b2"}, {"b3"})
    assert w.why("b3") == WaitsForLane(ahead=(w.id("b2"),))
    w.run()
    assert [w.started(b) for b in ("b1", "b2", "b3")] == [0, 60, 120]


def test_other_branches_projects_tags_and_servers_are_other_lanes():
    w = World(boxes=9)
    w.build("branch", branch="v1")
    w.build("other branch", branch="v2")
    w.build("other case", branch="V1")
    w.build("tag of that name", tag="v1")
    w.build("other project", branch="v1", project="app")
    w.deploy("server of that name", server="v1")
    w.deploy("other server", server="v2")
    assert w.running == set(w.seen)


def test_deploys_to_a_server_run_one_after_the_other():
    w = World(boxes=9)
    w.deploy("d1", 10, server="production")
    w.deploy("d2", 10, server="production")
    w.deploy("d3", 10, server="staging")
    assert w.running == {"d1", "d3"}
    assert w.why("d2") == WaitsForLane(ahead=(w.id("d1"),))


def test_builds_of_a_tag_run_one_after_the_other():
    w = World(boxes=9)
    w.build("b1", tag="v1")
    w.build("b2", tag="v1")
    assert (w.running, w.upcoming) == ({"b1"}, {"b2"})


def test_an_ssh_session_waits_for_no_other_workload():
    w = World(boxes=9)
    w.ssh("s1")
    w.ssh("s2")
    assert w.running == {"s1", "s2"}


@pytest.mark.parametrize("end", ["failed", "passed"])
def test_a_lane_continues_however_a_build_ends(end):
    w = World(boxes=9)
    w.build("b1", {"seconds": 5, "result": end})
    w.build("b2", 5)
    w.run_until(5)
    assert (w.result("b1"), w.running) == (end, {"b2"})


def test_a_build_in_the_middle_of_its_lane_can_be_canceled():
    w = World(boxes=9)
    for name in ("b1", "b2", "b3"):
        w.build(name, 10)
    w.stop("b2")
    assert w.why("b3") == WaitsForLane(ahead=(w.id("b1"),))
    w.run_until(10)
    assert w.running == {"b3"}


# --- Cancellation -------------------------------------------------------------------------------


def lane_of_three(strategy, boxes=9, **options):
    w = World(boxes=boxes, **options)
    w.project("web", cancellation=[["main", strategy]])
    w.build("b1")
    w.build("b2")
    w.build("b3")
    return w


def test_strategy_none_cancels_nothing():
    w = lane_of_three("none")
    assert (w.running, w.upcoming) == ({"b1"}, {"b2", "b3"})


def test_strategy_queued_cancels_builds_that_hold_no_boxes():
    w = lane_of_three("queued")
    assert (w.running, w.upcoming, w.result("b2")) == ({"b1"}, {"b3"}, "canceled")


def test_strategy_queued_cancels_builds_that_wait_for_boxes():
    w = World(boxes=1)
    w.project("web", cancellation=[["main", "queued"]])
    w.ssh("s1")
    w.build("b1")
    assert w.waiting == {"b1"}
    w.build("b2")
    assert (w.result("b1"), w.started("b1"), w.waiting) == ("canceled", None, {"b2"})
    (canceled,) = [d for d in w.decisions if hasattr(d, "by")]
    assert canceled.by == w.id("b2")


def test_strategy_all_stops_running_builds():
    w = lane_of_three("all")
    assert (w.result("b1"), w.result("b2"), w.running) == ("stopped", "stopped", {"b3"})


def test_a_stopped_build_keeps_lane_and_boxes_until_its_jobs_have_ended():
    w = World(boxes=2, slow_stops=True)
    w.project("web", cancellation=[["main", "all"]])
    w.build("b1", 60, 60)
    w.build("b2", 60, 60)
    w.ssh("s1")
    assert (w.running, w.upcoming, w.waiting) == ({"b1"}, {"b2"}, {"s1"})
    assert w.why("b2") == WaitsForLane(ahead=(w.id("b1"),))
    assert w.why("s1") == NeedsBoxes("linux", asked=1, free=0)
    w.stops_end("b1")
    assert (w.result("b1"), w.running, w.waiting) == ("stopped", {"s1"}, {"b2"})


def test_a_newer_build_does_not_stop_a_build_twice():
    w = lane_of_three("all", slow_stops=True)
    assert (w.running, w.result("b2"), w.upcoming) == ({"b1"}, "canceled", {"b3"})
    assert not [d for d in w.decisions if type(d).__name__ == "StopJobs"]


def test_a_workload_that_is_canceled_at_its_registration_was_never_queued():
    w = World(boxes=9)
    w.project("web", cancellation=[["*", "queued"]])
    with w.together():
        w.build("b1")
        w.build("b2")
    assert (w.result("b1"), w.seen["b1"].queued_at) == ("canceled", None)
    assert w.running == {"b2"}


def test_the_first_matching_pattern_counts():
    w = World(boxes=9)
    w.project("web", cancellation=[["main", "none"], ["*", "all"]])
    for branch in ("main", "fix/a"):
        w.build(f"1 {branch}", branch=branch)
        w.build(f"2 {branch}", branch=branch)
    assert w.result("1 main") is None
    assert w.result("1 fix/a") == "stopped"


def test_a_strategy_affects_only_builds_of_its_own_branch():
    w = World(boxes=9)
    w.project("web", cancellation=[["*", "all"]])
    w.build("other branch", branch="x")
    w.build("tag", tag="main")
    w.deploy("deploy", server="main")
    w.ssh("session")
    w.build("other project", project="app")
    w.build("b1")
    assert w.running == set(w.seen)
    w.build("tag 2", tag="main")
    assert (w.result("tag"), w.upcoming) == (None, {"tag 2"})


def test_a_refused_build_affects_nothing():
    w = World(boxes=9, plan=2)
    w.project("web", cancellation=[["*", "all"]])
    w.build("b1", 60)
    w.build("b2", 60, 60, 60)
    assert (w.result("b2"), w.running) == ("refused", {"b1"})
    w.build("b3")
    assert (w.result("b1"), w.running) == ("stopped", {"b3"})


# --- Priority -----------------------------------------------------------------------------------


def test_a_deploy_overtakes_an_older_build():
    w = World(boxes=1)
    w.build("b1", 60)
    w.build("b2", branch="x")
    w.deploy("d1")
    w.run_until(60)
    assert w.running == {"d1"}
    assert w.why("b2") == NeedsBoxes("linux", asked=1, free=0)


def order_of_starts(w):
    w.run()
    return sorted((n for n in w.seen if n != "first"), key=lambda n: w.started(n))


def test_an_explicit_priority_replaces_the_default():
    w = World(boxes=1)
    w.project("web", priority=["main"])
    w.ssh("first", 5)
    w.build("build", 5, branch="x")
    w.build("tag", 5, tag="main")
    w.build("low", 5, branch="y", priority=10)
    w.build("high branch", 5, branch="main")
    w.deploy("deploy", 5)
    w.ssh("session", 5)
    w.build("urgent", 5, branch="z", priority=100)
    assert order_of_starts(w) == [
        "urgent", "deploy", "session", "high branch", "build", "tag", "low"
    ]  # fmt: skip


def test_equal_priorities_are_ordered_by_creation_then_registration():
    w = World(boxes=1)
    w.ssh("first", 5)
    with w.together():
        w.build("b1", 5, branch="x")
        w.build("b2", 5, branch="a")
    w.run_until(1)
    w.build("b3", 5, branch="y")
    assert order_of_starts(w) == ["b1", "b2", "b3"]


def test_with_ageing_an_old_build_overtakes_a_newer_deploy():
    """30 points between build and deploy, 2 s per point: the deploy is worth a minute."""
    for age, expected in ((59, ["d1", "b1"]), (61, ["b1", "d1"])):
        w = World(boxes=1, aging=2)
        w.ssh("first", 100)
        w.build("b1", 5)
        w.run_until(age)
        w.deploy("d1", 5)
        assert order_of_starts(w) == expected


def test_without_ageing_an_old_build_never_overtakes_a_deploy():
    w = World(boxes=1)
    w.ssh("first", 100_000)
    w.build("b1", 5)
    w.run_until(99_999)
    w.deploy("d1", 5)
    assert order_of_starts(w) == ["d1", "b1"]


def test_with_ageing_equal_workloads_are_ordered_by_registration():
    w = World(boxes=1, aging=2)
    w.ssh("first", 100)
    w.build("b1", 5)
    w.run_until(60)
    w.deploy("d1", 5)
    assert order_of_starts(w) == ["b1", "d1"]
