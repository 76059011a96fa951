"""Holds, pauses, priorities, automatic deploys and the progress guarantee, as scenarios."""

import pytest

from boxsched.scheduling.interface import LaneCounted, Pause, PlanFailed, Resume, Spared
from boxsched.scheduling.pauses import Pauses
from boxsched.scheduling.reasons import AwaitsPlan, NeedsBoxes, Paused, ProjectLimit, WaitsForLane
from tests.core.world import World

# --- A build whose jobs are not known yet -------------------------------------------------------


def test_a_build_without_a_plan_takes_its_position_and_waits():
    w = World(boxes=4)
    w.build("first", planned=False)
    w.build("second", 10)
    assert w.upcoming == {"first", "second"}
    assert w.why("first") == AwaitsPlan()
    assert w.why("second") == WaitsForLane((w.id("first"),))
    w.run_until(5)
    w.plan("first", 20, 30)
    assert (w.seen["first"].queued_at, w.started("first")) == (5, 5)
    w.run()
    assert (w.finished("first"), w.started("second"), w.result("second")) == (35, 35, "passed")


def test_a_plan_that_comes_while_the_lane_is_busy_waits_for_the_lane():
    w = World(boxes=4)
    w.build("first", 10)
    w.build("second", planned=False)
    w.plan("second", 5)
    assert w.why("second") == WaitsForLane((w.id("first"),))
    w.run()
    assert w.started("second") == 10


def test_a_plan_may_come_in_the_instant_of_the_submission():
    w = World(boxes=1)
    with w.together():
        w.build("first", planned=False)
        w.plan("first", 5)
    assert w.running == {"first"}


def test_a_second_plan_changes_nothing():
    w = World(boxes=1)
    w.build("blocker", 3, branch="other")
    w.build("first", planned=False)
    w.plan("first", 5)
    asked = w.core.workloads[w.id("first")].ask
    w.plan("first", 5, 5, 5)
    assert w.core.workloads[w.id("first")].ask is asked


@pytest.mark.parametrize("late", [(), (9,)])
def test_a_plan_for_a_finished_build_changes_nothing(late):
    w = World(boxes=1)
    w.build("first", planned=False)
    w.stop("first")
    w.plan("first", *late)
    assert (w.result("first"), w.decisions) == ("canceled", [])


def test_an_unreadable_plan_fails_the_build_and_frees_its_lane():
    w = World(boxes=1)
    w.build("first", planned=False)
    w.build("second", 5)
    w.plan("first")
    assert (w.result("first"), w.started("first"), w.finished("first")) == ("failed", None, 0)
    assert PlanFailed(w.id("first"), None).jobs is None
    assert w.running == {"second"}


@pytest.mark.parametrize("limits", [{"plan": 2}, {"max_boxes": 2}])
def test_a_plan_above_every_limit_fails_the_build(limits):
    w = World(boxes=9, plan=limits.get("plan"))
    w.project("web", max_boxes=limits.get("max_boxes"))
    w.build("fits", planned=False)
    w.plan("fits", 5, 5)
    w.build("large", planned=False, branch="other")
    w.plan("large", 5, 5, 5)
    assert (w.result("large"), w.started("large")) == ("failed", None)
    assert w.running == {"fits"}


def test_a_newer_build_supersedes_one_without_a_plan():
    w = World(boxes=1)
    w.project("web", cancellation=[["*", "queued"]])
    w.build("first", planned=False)
    w.build("second", 5)
    assert (w.result("first"), w.running) == ("canceled", {"second"})


# --- Pauses -------------------------------------------------------------------------------------


def test_a_paused_workload_is_skipped_and_blocks_only_its_lane():
    w = World(boxes=2, policy="strict")
    w.pause("freeze", "web", branch="main")
    w.build("held", 5, 5)
    w.build("behind", 5)
    w.build("other", 5, branch="dev")
    assert w.running == {"other"}
    assert w.why("held") == Paused("freeze")
    assert w.why("behind") == WaitsForLane((w.id("held"),))
    assert w.promise("held") is None
    w.run()
    w.resume("freeze")
    assert w.running == {"held"}


def test_a_pause_of_everything_does_not_affect_running_work():
    w = World(boxes=2)
    w.build("runs", 5)
    w.pause("night")
    w.ssh("session", 5)
    w.run()
    assert (w.result("runs"), w.waiting) == ("passed", {"session"})
    w.resume("night")
    assert w.running == {"session"}


def test_a_pause_covers_workloads_already_in_the_queue():
    w = World(boxes=1)
    w.build("runs", 5)
    w.build("waits", 5, branch="dev")
    w.build("elsewhere", 5, project="app")
    w.pause("freeze", "web")
    assert w.why("waits") == Paused("freeze")
    w.run()
    assert w.ended == {"runs", "elsewhere"}


def test_a_paused_workload_does_not_hold_back_its_project():
    w = World(boxes=4)
    w.project("web", max_boxes=2)
    w.build("runs", 9)
    w.pause("freeze", "web", branch="wide")
    w.build("wide", 5, 5, branch="wide")
    w.build("narrow", 5, branch="narrow")
    assert w.running == {"runs", "narrow"}
    w.resume("freeze")
    assert w.why("wide") == ProjectLimit(2, 2, 2)


def test_a_pause_of_a_server_covers_deploys_to_it():
    w = World(boxes=9)
    w.pause("freeze", "web", server="production")
    w.deploy("held", 5)
    w.deploy("staging", 5, server="staging")
    w.build("build", 5, branch="production")
    assert (w.waiting, w.running) == ({"held"}, {"staging", "build"})


def test_a_pause_of_automatic_deploys_lets_people_deploy():
    w = World(boxes=9)
    w.pause("rollback-production", "web", server="production", automatic=True)
    w.deploy("by hand", 5)
    w.deploy("by itself", 5, automatic=True)
    w.run()
    assert (w.ended, w.waiting) == ({"by hand"}, {"by itself"})


def test_a_new_pause_asks_nothing_of_the_others(monkeypatch):
    """With thousands of waiting workloads and many pauses that would hold the loop for seconds."""
    w = World(boxes=1)
    w.build("runs", 5, branch="dev")
    for n in range(3):
        w.pause(f"other {n}", "web", branch="release/*")
    w.build("held", 5)
    number = w.core.workloads[w.id("held")].project.id
    asked = []
    covering = Pauses.covering
    monkeypatch.setattr(Pauses, "covering", lambda *of: asked.append(of) or covering(*of))
    w.core.apply(Pause("freeze", number, "main"), w.now)
    assert asked == []
    w.core.apply(Resume("other 0"), w.now)
    assert asked == [], "what it did not cover stays as it is"
    w.core.apply(Resume("freeze"), w.now)
    assert len(asked) == 1


def test_the_same_name_replaces_the_pause():
    w = World(boxes=9)
    w.pause("freeze", "web", branch="a*")
    w.build("a1", 5, branch="a1")
    w.build("b1", 5, branch="b1")
    assert w.waiting == {"a1"}
    w.pause("freeze", "web", branch="b*")
    w.build("b2", 5, branch="b2")
    assert (w.waiting, w.running) == ({"b2"}, {"a1", "b1"})


def test_a_workload_that_two_pauses_cover_waits_for_both():
    w = World(boxes=9)
    w.pause("z")
    w.pause("a", "web")
    w.build("b", 5)
    assert w.why("b") == Paused("a", ("z",))
    w.resume("a")
    assert w.why("b") == Paused("z")
    w.resume("z")
    assert w.running == {"b"}


def test_a_paused_head_is_no_longer_the_head():
    w = World(boxes=4, policy="strict")
    w.build("runs", 9, 9, branch="a")
    w.build("head", 5, 5, 5, branch="b")
    w.build("behind", 5, branch="c")
    assert w.running == {"runs"}
    w.pause("freeze", "web", branch="b")
    assert w.running == {"runs", "behind"}


def test_a_resumed_workload_returns_to_its_position_in_the_queue():
    w = World(boxes=1)
    w.pause("freeze", "web", branch="first")
    w.build("runs", 5, branch="other")
    w.build("first", 5, branch="first")
    w.build("second", 5, branch="second")
    w.resume("freeze")
    w.run()
    assert (w.started("first"), w.started("second")) == (5, 10)


# --- Another priority ---------------------------------------------------------------------------


def test_the_priority_of_a_workload_that_waits_for_boxes_can_be_raised():
    w = World(boxes=1)
    w.build("runs", 5, branch="a")
    w.build("first", 5, branch="b")
    w.build("second", 5, branch="c")
    w.reprioritize("second", 60)
    w.run()
    assert (w.started("second"), w.started("first")) == (5, 10)


def test_a_priority_counts_once_the_lane_is_free():
    w = World(boxes=1)
    w.build("runs", 5)
    w.build("behind", 5)
    w.build("other", 5, branch="b")
    w.reprioritize("behind", 90)
    w.run()
    assert (w.started("behind"), w.started("other")) == (5, 10)


def test_a_running_or_finished_workload_keeps_its_priority():
    w = World(boxes=1)
    w.build("runs", 5)
    w.reprioritize("runs", 90)
    assert w.decisions == []
    assert w.core.workloads[w.id("runs")].priority == 50
    w.run()
    w.reprioritize("runs", 90)
    assert w.decisions == []


def test_a_workload_stays_paused_when_its_priority_is_raised():
    w = World(boxes=1)
    w.build("runs", 5, branch="a")
    w.pause("freeze", "web", branch="b")
    w.build("b", 5, branch="b")
    w.build("c", 5, branch="c")
    w.reprioritize("b", 90)
    assert w.why("b") == Paused("freeze")
    w.resume("freeze")
    w.run()
    assert (w.started("b"), w.started("c")) == (5, 10)


# --- Automatic deploys --------------------------------------------------------------------------


def test_the_newest_automatic_deploy_cancels_the_waiting_ones():
    w = World(boxes=9)
    w.project("web", queues={"production": "newest"})
    w.deploy("runs", 10, automatic=True)
    w.deploy("waits", 10, automatic=True)
    w.deploy("by hand", 10)
    w.deploy("newest", 10, automatic=True)
    assert (w.result("waits"), w.running, w.upcoming) == (
        "canceled",
        {"runs"},
        {"by hand", "newest"},
    )


def test_a_manual_deploy_cancels_nothing():
    w = World(boxes=9)
    w.project("web", queues={"production": "newest"})
    w.deploy("runs", 10, automatic=True)
    w.deploy("waits", 10, automatic=True)
    w.deploy("by hand", 10)
    assert w.upcoming == {"waits", "by hand"}


def test_with_strategy_none_every_deploy_runs():
    w = World(boxes=9)
    for name in ("a", "b", "c"):
        w.deploy(name, 10, automatic=True)
    w.run()
    assert w.finished("c") == 30


# --- Progress guarantee -------------------------------------------------------------------------


def pushes(spare_after, count, *, seconds=100, every=10, strategy="all"):
    w = World(boxes=9)
    w.project("web", cancellation=[["*", strategy, spare_after]])
    for n in range(count):
        w.run_until(n * every)
        w.build(f"b{n}", seconds)
    return w


def test_without_the_guarantee_nothing_ever_finishes():
    w = pushes(None, 8)
    assert {w.result(f"b{n}") for n in range(7)} == {"stopped"}


def test_after_two_cancellations_in_a_row_one_build_may_finish():
    w = pushes(2, 4)
    assert [w.result(f"b{n}") for n in range(2)] == ["stopped", "stopped"]
    assert w.running == {"b2"}
    assert Spared(w.id("b2")).workload in [d.workload for d in w.decisions if isinstance(d, Spared)]


def test_only_one_unfinished_build_of_a_lane_is_spared():
    w = pushes(1, 5)
    assert w.running == {"b1"}
    assert [w.result(f"b{n}") for n in (0, 2, 3)] == ["stopped", "canceled", "canceled"]


def test_the_count_restarts_when_a_build_ends_without_a_stop():
    w = pushes(1, 3, seconds=15, every=10)
    assert (w.result("b0"), w.running) == ("stopped", {"b1"})
    w.run_until(25)
    assert (w.result("b1"), w.running) == ("passed", {"b2"})
    w.build("b3", 15)
    assert w.result("b2") == "stopped"
    assert [d.superseded for d in w.decisions if isinstance(d, LaneCounted)] == [1]


def test_builds_that_a_user_stops_do_not_count():
    w = pushes(2, 1)
    w.stop("b0")
    w.build("b1", 100)
    w.build("b2", 100)
    w.stop("b2")
    w.build("b3", 100)
    w.build("b4", 100)
    assert [w.result(f"b{n}") for n in (0, 1, 2, 3)] == ["stopped", "stopped", "stopped", "stopped"]
    w.build("b5", 100)
    assert w.running == {"b4"}


def test_a_person_may_stop_a_spared_build():
    w = pushes(1, 3)
    assert w.running == {"b1"}
    w.stop("b1")
    assert (w.result("b1"), w.running) == ("stopped", {"b2"})


def test_the_count_outlives_an_empty_lane():
    w = pushes(1, 2)
    w.stop("b1")
    assert not w.running
    w.build("b2", 100)
    w.build("b3", 100)
    assert w.running == {"b2"}


def test_the_count_of_an_idle_lane_begins_again():
    w = pushes(1, 2)
    w.idle("main")
    assert not w.decisions, "it has an unfinished build"
    w.stop("b1")
    w.idle("main")
    assert [d.superseded for d in w.decisions if isinstance(d, LaneCounted)] == [0]
    w.idle("main")
    assert not w.decisions
    w.build("b2", 100)
    w.build("b3", 100)
    assert (w.result("b2"), w.running) == ("stopped", {"b3"})


def test_a_build_that_waits_for_boxes_is_spared_too():
    w = World(boxes=1)
    w.project("web", cancellation=[["main", "queued", 1]])
    w.build("blocker", 50, branch="other")
    w.build("b0", 5)
    w.build("b1", 5)
    w.build("b2", 5)
    assert w.result("b0") == "canceled"
    assert w.why("b1") == NeedsBoxes("linux", 1, 0)
    w.run()
    assert (w.result("b1"), w.result("b2")) == ("passed", "passed")
