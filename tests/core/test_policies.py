"""Which workloads may start behind the first that does not fit: strict, best effort, backfill."""

import pytest

from boxsched.scheduling.reasons import (
    BehindReservation,
    NeedsBoxes,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
)
from tests.core.world import World


def lanes(w, *builds):
    """Builds on different branches at one instant: (name, seconds, Boxes)."""
    with w.together():
        for name, seconds, boxes in builds:
            w.build(name, *[seconds] * boxes, branch=name)


@pytest.mark.parametrize(
    ("policy", "running"),
    [("strict", {"w1"}), ("best_effort", {"w1", "w3"}), ("backfill", {"w1", "w3"})],
)
def test_builds_of_three_and_three_and_two_jobs_share_five_boxes(policy, running):
    """Kueue: "Should admit workloads as the number of pods (only) allows it"."""
    w = World(boxes=5, policy=policy)
    lanes(w, ("w1", 10, 3), ("w2", 10, 3), ("w3", 10, 2))
    assert w.running == running
    assert w.why("w2") == NeedsBoxes("linux", asked=3, free=5 - w.core.usage.boxes)
    if policy == "strict":
        assert w.why("w3") == QueueOrder(behind=w.id("w2"))
    w.run_until(10)
    assert "w2" in w.running
    assert len(w.seen["w2"].boxes) == 3


def test_a_canceled_head_lets_the_next_start():
    w = World(boxes=5, policy="strict")
    lanes(w, ("w1", 10, 4), ("head", 10, 4), ("w3", 10, 1))
    assert w.running == {"w1"}
    w.stop("head")
    assert w.running == {"w1", "w3"}


def easy(third=("third", 100, 90)):
    """pyss, easy_bf_input.0: 100 Boxes; 70 for 100 s, 80 for 100 s, 90 for 100 s, 20 for 250 s."""
    w = World(boxes=100)
    for at, (name, seconds, boxes) in (
        (0, ("first", 100, 70)), (1, ("second", 100, 80)), (2, third), (50, ("fourth", 250, 20)),
    ):  # fmt: skip
        w.run_until(at)
        w.build(name, *[seconds] * boxes, branch=name)
    return w


def test_backfill_may_delay_all_but_the_head():
    w = easy()
    w.run()
    assert [w.finished(n) for n in ("first", "second", "third", "fourth")] == [100, 200, 400, 300]


def test_a_workload_that_would_delay_the_head_waits():
    w = World(boxes=4)
    lanes(w, ("runs", 10, 3), ("head", 10, 4), ("long", 11, 1), ("short", 10, 1))
    assert w.running == {"runs", "short"}
    assert w.why("head") == NeedsBoxes("linux", asked=4, free=0)
    w.run_until(5)
    w.stop("short")
    assert w.why("long") == BehindReservation(head=w.id("head"), at=10)
    assert w.why("head") == NeedsBoxes("linux", asked=4, free=1)


def test_boxes_that_the_head_does_not_need_are_given_once():
    w = World(boxes=6)
    lanes(w, ("runs", 10, 4), ("head", 10, 5), ("long 1", 99, 1), ("long 2", 99, 1))
    assert w.running == {"runs", "long 1"}
    assert w.why("long 2") == BehindReservation(head=w.id("head"), at=10)
    w.run()
    assert w.started("head") == 10


def test_only_jobs_that_still_run_at_the_heads_time_count():
    w = World(boxes=8)
    lanes(w, ("runs", 10, 5), ("head", 10, 7))
    w.build("mixed", 10, 10, 99, branch="mixed")  # one of its three jobs is late, one Box is left
    assert w.running == {"runs", "mixed"}


def test_other_box_types_are_unaffected():
    w = World(boxes={"linux": 2, "mac": 1})
    w.build("runs", 10, branch="1")
    w.build("head", 10, 10, branch="2")
    w.build("on a mac", {"seconds": 99, "box_type": "mac"}, branch="3")
    w.build("long", 99, branch="4")
    assert w.running == {"runs", "on a mac"}


def test_the_plan_counts_like_boxes_at_the_heads_time():
    w = World(boxes=9, plan=4)
    lanes(w, ("runs", 10, 2), ("also", 20, 1), ("head", 10, 3), ("long", 11, 1), ("short", 10, 1))
    assert w.running == {"runs", "also", "short"}
    assert w.why("head") == PlanLimit(asked=3, used=4, limit=4)
    w.run_until(5)
    w.stop("short")
    assert w.why("long") == BehindReservation(head=w.id("head"), at=10)


def test_the_limit_of_the_heads_project_counts_for_its_own_later_workloads():
    w = World(boxes=6)
    w.project("web", max_boxes=4)
    w.ssh("runs", *[10] * 4, project="app")
    w.build("head", *[10] * 3, branch="1")
    w.build("long, web", 99, 99, branch="2")  # 3 + 2 > 4 at the head's time
    assert w.waiting == {"head", "long, web"}
    assert w.why("long, web") == BehindReservation(head=w.id("head"), at=10)
    w.build("long, app", 99, 99, branch="3", project="app")
    assert w.running == {"runs", "long, app"}


def test_a_workload_over_its_projects_limit_blocks_later_ones_of_the_project():
    """When "long 2" is considered, "short 3" has used up web's limit. "long 1", with the same
    request, was refused earlier for another reason; that must not let "short 1" pass."""
    w = World(boxes=8)
    w.project("web", max_boxes=4)
    w.project("app")
    with w.together():
        w.ssh("runs", 10, 10, 10, project="app")
        w.ssh("head", *[10] * 7, project="app")
        w.ssh("long 1", 99, 99)
        w.ssh("short 3", 5, 5, 5)
        w.ssh("long 2", 99, 99)
        w.ssh("short 1", 5)
    assert w.running == {"runs", "short 3"}
    assert w.why("short 1") == QueueOrder(behind=w.id("long 1"))
    w.run()
    assert (w.started("short 1"), w.started("head")) == (5, 10)


def test_a_late_job_is_assumed_to_run_to_its_time_limit():
    w = World(boxes=3)
    w.build("late", {"seconds": 100, "expected": 10, "limit": 60}, branch="1")
    w.build("long", {"seconds": 100, "expected": 50, "limit": 100}, branch="2")
    w.run_until(20)
    w.build("head", 10, 10, branch="3")  # one Box is free; the next at 50
    w.build("past 50", 31, branch="4")  # would still run at 50, when the head needs both
    w.build("by 50", 30, branch="5")
    assert w.running == {"late", "long", "by 50"}
    assert w.why("past 50") == NeedsBoxes("linux", asked=1, free=0)
    w.run_until(51)
    assert "by 50" in w.ended
    assert w.running == {"late", "long"}
    assert w.why("past 50") == BehindReservation(head=w.id("head"), at=60)  # of "late"
    w.run_until(61)
    assert w.why("past 50") == BehindReservation(head=w.id("head"), at=61)  # after every limit


def test_a_workload_that_is_due_now_is_not_late():
    """Its expected end has not passed before the next instant."""
    w = World(boxes=2)
    w.build("due", {"seconds": 99, "expected": 10, "limit": 60}, branch="1")
    w.run_until(10)
    w.build("head", 10, 10, branch="2")
    w.build("next", 10, branch="3")
    assert w.why("next") == BehindReservation(head=w.id("head"), at=10)


def test_late_jobs_of_one_workload_use_their_own_limits():
    w = World(boxes=3)
    w.build(
        "late",
        {"seconds": 99, "expected": 10, "limit": 30},
        {"seconds": 99, "expected": 10, "limit": 80},
        branch="1",
    )
    w.run_until(20)
    w.build("head", 10, 10, branch="2")
    w.build("next", 11, branch="3")
    assert w.why("next") == BehindReservation(head=w.id("head"), at=30)


def guarded(limit, promise=10):
    """The head keeps waiting for a late Box; small workloads pass it meanwhile."""
    w = World(boxes=2)
    w.build("late", {"seconds": 500, "expected": promise, "limit": 300}, branch="1")
    w.build("head", 5, {"seconds": 5, "limit": limit}, branch="2")
    return w


def test_the_first_time_reserved_for_a_head_is_its_promise_and_stays():
    w = guarded(limit=20)
    assert w.promise("head") == 10
    w.run_until(100)
    w.build("small", 1, branch="3")
    assert w.promise("head") == 10
    assert w.why("head") == NeedsBoxes("linux", asked=2, free=0)


def test_the_head_gets_its_promise_also_while_no_box_is_free():
    w = World(boxes=2)
    lanes(w, ("runs", 10, 2), ("head", 10, 2))
    assert w.promise("head") == 10
    w.run_until(1)
    w.deploy("urgent", 5, 5)  # the head from now on
    assert w.promise("urgent") == 10


@pytest.mark.parametrize(("at", "past"), [(49, True), (50, True), (51, False)])
def test_a_head_that_waits_far_beyond_its_promise_is_guarded(at, past):
    """After the promise and twice its longest limit, 10 + 2 * 20, time limits count."""
    w = guarded(limit=20)
    w.run_until(at)
    w.build("usually short", {"seconds": 5, "expected": 5, "limit": 290}, branch="3")
    assert ("usually short" in w.running) == past
    if not past:
        reason = BehindReservation(head=w.id("head"), at=300, by_limit=True)
        assert w.why("usually short") == reason
    w.build("surely short", {"seconds": 5, "expected": 5, "limit": 6}, branch="4")
    assert ("surely short" in w.running) != past  # there is one Box


def test_a_head_that_another_replaces_keeps_its_promise():
    w = guarded(limit=20)
    w.run_until(5)
    w.deploy("urgent", 5, 5)
    assert (w.promise("head"), w.promise("urgent")) == (10, 10)
    w.run_until(12)
    w.stop("urgent")
    assert w.promise("head") == 10


@pytest.mark.parametrize("policy", ["strict", "best_effort"])
def test_only_backfill_makes_promises(policy):
    w = World(boxes=1, policy=policy)
    w.build("runs", 10, branch="1")
    w.build("head", 10, branch="2")
    assert w.promise("head") is None


def test_fewer_wanted_boxes_move_the_heads_time():
    """Two of three busy Boxes are removed when their jobs end, so the head's time is the end of the
    last."""
    w = World(boxes={"linux": 3, "mac": 1})
    for name, seconds in (("a", 10), ("b", 20), ("c", 30)):
        w.ssh(name, seconds)
    w.boxes(1)
    mac = {"seconds": 10, "box_type": "mac"}
    w.build("head", 10, mac, branch="head")
    w.build("until 30", {**mac, "seconds": 30}, branch="1")
    w.build("until 31", {**mac, "seconds": 31}, branch="2")
    assert w.running == {"a", "b", "c", "until 30"}
    w.run()
    assert w.started("head") == 30


def test_a_retiring_box_moves_the_heads_time():
    w = World(boxes=0)
    for box in (1, 2, 3):
        w.box_added(box)
    w.ssh("a", 10)
    w.ssh("b", 20)
    (retired,) = w.seen["a"].boxes
    w.box_retired(retired)
    w.build("head", 10, 10, branch="head")
    w.build("until 21", 21, branch="1")
    w.build("until 20", 20, branch="2")
    assert w.running == {"a", "b", "until 20"}
    w.run()
    assert w.started("head") == 20


# --- One instant --------------------------------------------------------------------------------


def test_each_round_that_changed_something_is_followed_by_another():
    """web's short build uses up web's limit. Then web's head waits for its limit, not for Boxes,
    and reserves nothing: in the next round the long one may start."""
    w = World(boxes=3)
    w.project("web", max_boxes=4)
    w.ssh("runs", 20)
    w.run_until(12)
    with w.together():
        w.build("long", 30, project="app")
        w.build("short", 2)
        w.ssh("head", 4, 4, 4)
    assert w.running == {"runs", "short", "long"}
    assert w.why("head") == ProjectLimit(asked=3, used=2, limit=4)


def test_ends_come_before_requests_of_the_same_instant():
    w = World(boxes=1)
    w.build("b1", 10)
    w.run_until(9)
    w.now = 10
    with w.together():
        w.stop("b1")
        w.build("b2", 10)
    assert (w.result("b1"), w.finished("b1"), w.started("b2")) == ("passed", 10, 10)


def test_jobs_of_zero_seconds_end_at_the_instant_they_start():
    w = World(boxes=1)
    with w.together():
        for name in ("b1", "b2", "b3"):
            w.build(name, 0)
    assert [w.finished(n) for n in w.seen] == [0, 0, 0]
    assert w.result("b3") == "passed"


def test_an_explanation_between_two_instants_is_correct():
    """Late jobs can make room behind the head by time alone. Nothing is decided before the next
    instant, but no reason may call existing Boxes missing."""
    w = World(boxes=3)
    w.build("late", {"seconds": 99, "expected": 5}, branch="1")
    w.build("later", {"seconds": 99, "expected": 8}, branch="2")
    w.build("head", 10, 10, branch="3")
    w.build("next", 10, branch="4")
    assert w.why("next") == BehindReservation(head=w.id("head"), at=5)
    w.now = 9
    assert isinstance(w.why("next"), BehindReservation | QueueOrder)
    assert w.why("next").at == 9


def test_a_backfilled_workload_counts_in_the_plan_at_the_heads_start():
    """There are plenty of Boxes. At 10 the plan leaves one beside the head: "long 1" gets it."""
    w = World(boxes=20, plan=6)
    lanes(w, ("runs", 10, 4), ("head", 10, 5), ("long 1", 99, 1), ("long 2", 99, 1))
    assert w.running == {"runs", "long 1"}
    assert w.why("long 2") == BehindReservation(head=w.id("head"), at=10)
    w.run()
    assert (w.started("head"), w.started("long 2")) == (10, 20)


def test_a_backfilled_workload_counts_in_the_projects_limit_at_the_heads_start():
    """At 10 "old" has ended, and web's limit leaves one Box beside the head: "long 1" gets it."""
    w = World(boxes=12)
    w.project("web", max_boxes=6)
    w.project("app")
    w.ssh("old", 10)
    w.ssh("runs", *[10] * 7, project="app")
    w.ssh("head", *[10] * 5)
    w.ssh("long 1", 99)
    w.ssh("long 2", 99)
    w.ssh("long, app", 99, project="app")  # 12 - 5 - 1 Boxes are left at 10
    assert w.running == {"old", "runs", "long 1", "long, app"}
    w.run()
    assert (w.started("head"), w.started("long 2")) == (10, 20)


@pytest.mark.parametrize("large_first", [True, False])
def test_the_first_workload_above_its_projects_limit_holds_it_whatever_its_shape(large_first):
    """ "short 3" leaves one Box of web's limit. Among the workloads that the head held back, "large
    2" is the first above the limit: "between", behind it, waits."""
    w = World(boxes=8)
    w.project("web", max_boxes=4)
    w.project("app")
    with w.together():
        w.ssh("runs", 10, 10, 10, project="app")
        w.ssh("head", *[10] * 7, project="app")
        for shape in ("large", "small") if large_first else ("small", "large"):
            w.ssh(f"{shape} 1", *([99] * (3 if shape == "large" else 2)))
        w.ssh("short 3", 5, 5, 5)
        w.ssh("large 2", 99, 99, 99)
        w.ssh("between", 5)
        w.ssh("small 2", 99, 99)
    assert w.running == {"runs", "short 3"}
    w.run_until(5)
    assert w.running == {"runs", "between"}


def test_behind_a_head_a_projects_limit_holds_also_without_free_boxes_for_its_first():
    """ "large" is above web's limit and needs more Boxes than are free; "small" waits for it."""
    w = World(boxes=6)
    w.project("web", max_boxes=4)
    w.project("app")
    w.ssh("runs", 10, 10, project="app")
    w.ssh("web runs", 20, 20)
    w.ssh("head", *[10] * 5, project="app")
    w.ssh("large", 5, 5, 5)
    w.ssh("small", 5)
    assert w.running == {"runs", "web runs"}
    assert w.why("small") == QueueOrder(behind=w.id("large"))
    assert w.why("large") == ProjectLimit(asked=3, used=2, limit=4)


def test_the_heads_time_is_when_its_whole_part_of_the_plan_is_free():
    """At 10 the plan has one more Box; the head needs two more."""
    w = World(boxes=9, plan=4)
    lanes(w, ("runs", 10, 1), ("also", 20, 2), ("head", 10, 3))
    assert w.promise("head") == 20
    w.run()
    assert w.started("head") == 20
