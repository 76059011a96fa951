"""How workloads end, which Boxes they get, and Boxes that are added and removed
(docs/scheduling.md)."""

import pytest

from boxsched.scheduling.interface import BoxFreed, StopJobs
from boxsched.scheduling.reasons import NeedsBoxes, NoSuchBoxes
from boxsched.states import State, StopCause
from tests.core.world import World

FAILS = {"seconds": 5, "result": "failed"}


def test_a_workload_passes_when_all_its_jobs_have_passed():
    w = World(boxes=2)
    w.build("b1", 5, 9)
    w.run_until(8)
    assert w.result("b1") is None
    w.run_until(9)
    assert (w.result("b1"), w.finished("b1")) == ("passed", 9)


def test_one_failed_job_fails_the_workload_when_the_last_has_ended():
    w = World(boxes=2)
    w.build("b1", FAILS, 9)
    w.run()
    assert (w.result("b1"), w.finished("b1")) == ("failed", 9)


def test_with_fail_fast_the_first_failure_stops_the_others():
    w = World(boxes=3)
    w.project("web", fail_fast=True)
    w.build("b1", FAILS, 9, 99)
    w.run_until(5)
    assert (w.result("b1"), w.finished("b1")) == ("failed", 5)


def test_fail_fast_asks_only_running_jobs_to_stop():
    w = World(boxes=4, slow_stops=True)
    w.project("web", fail_fast=True)
    w.build("b1", 1, FAILS, 9, 99)
    w.run_until(5)
    (stop,) = [d for d in w.decisions if isinstance(d, StopJobs)]
    assert (stop.jobs, stop.cause, stop.by) == ((2, 3), StopCause.FAIL_FAST, None)
    assert w.core.workloads[w.id("b1")].state is State.STOPPING
    w.stops_end("b1")
    assert w.result("b1") == "failed"


def test_a_users_stop_during_fail_fast_makes_the_workload_stopped():
    w = World(boxes=2, slow_stops=True)
    w.project("web", fail_fast=True)
    w.build("b1", FAILS, 99)
    w.run_until(5)
    w.stop("b1")
    w.stops_end("b1")
    assert w.result("b1") == "stopped"


def test_a_stopped_workload_is_stopped_also_if_a_job_had_failed_before():
    w = World(boxes=2)
    w.build("b1", FAILS, 99)
    w.run_until(6)
    w.stop("b1")
    assert (w.result("b1"), w.finished("b1")) == ("stopped", 6)


def test_a_stop_before_the_start_cancels():
    w = World(boxes=1)
    for name in ("runs", "lane", "queue"):
        w.build(name, branch="x" if name == "queue" else "main")
    assert (w.upcoming, w.waiting) == ({"lane"}, {"queue"})
    for name in ("lane", "queue"):
        w.stop(name)
        assert (w.result(name), w.started(name)) == ("canceled", None)


def test_a_stop_of_a_finished_workload_does_nothing():
    w = World(boxes=1)
    w.build("b1", 5)
    w.run()
    w.stop("b1")
    assert (w.result("b1"), w.decisions) == ("passed", [])


def test_a_second_stop_asks_for_nothing_more():
    w = World(boxes=1, slow_stops=True)
    w.build("b1", 5)
    w.stop("b1")
    w.stop("b1")
    assert w.decisions == []
    w.stops_end("b1")
    assert w.result("b1") == "stopped"


def test_stopping_frees_boxes_and_wakes_the_queue():
    w = World(boxes=5)
    w.build("w1", *[99] * 4, branch="1")
    w.build("w2", *[99] * 4, branch="2")
    w.build("w3", *[1] * 1, branch="3")
    w.run_until(2)
    w.stop("w1")
    assert w.running == {"w2"}


# --- Which Boxes --------------------------------------------------------------------------------


def boxes_of(w, name):
    return w.seen[name].boxes


def test_the_box_that_ran_this_project_and_branch_is_preferred():
    w = World(boxes=3)
    w.build("other", 10, project="app")
    w.build("same project", 20, branch="x")
    w.build("same branch", 30)
    w.run()
    w.build("b1", 5)
    assert (boxes_of(w, "b1"), w.seen["b1"].warm) == (boxes_of(w, "same branch"), 1)
    w.build("b2", 5, branch="y")
    assert (boxes_of(w, "b2"), w.seen["b2"].warm) == (boxes_of(w, "same project"), 1)
    w.build("b3", 5, branch="z")
    assert (boxes_of(w, "b3"), w.seen["b3"].warm) == (boxes_of(w, "other"), 0)


def test_a_box_is_warm_for_the_branch_that_ran_on_it_last():
    w = World(boxes=2)
    w.build("first", 10, branch="x")
    w.run()
    w.build("second", 10, branch="y")  # the same Box: it ran this project
    w.build("other", 20, project="app", branch="y")
    w.run()
    assert boxes_of(w, "second") == boxes_of(w, "first")
    w.build("third", 10, branch="z")
    w.run()
    assert boxes_of(w, "third") == boxes_of(w, "first")
    w = World(boxes=2)
    w.build("x", 10, branch="x")
    w.build("y", 20, branch="y")
    w.run()
    w.build("y again", 10, branch="y")
    w.build("z", 10, branch="z")  # takes the Box of x
    w.run()
    w.build("y and x", 10, branch="y")
    w.build("of z", 10, branch="z")
    assert boxes_of(w, "y and x") == boxes_of(w, "y again")
    assert boxes_of(w, "of z") == boxes_of(w, "z") == boxes_of(w, "x")


def test_a_box_is_warm_for_the_project_that_ran_on_it_last():
    w = World(boxes=1)
    w.build("web", 10)
    w.run()
    w.build("app", 10, project="app")
    w.run()
    w.build("app again", 10, project="app", branch="x")
    w.run()
    w.build("web again", 10)
    assert (w.seen["app again"].warm, w.seen["web again"].warm) == (1, 0)


def test_otherwise_the_box_that_was_free_for_longest_is_used():
    w = World(boxes=3)
    for name, seconds in (("a", 30), ("b", 10), ("c", 20)):
        w.ssh(name, seconds, project=name)
    w.run()
    for name, before in (("d", "b"), ("e", "c"), ("f", "a")):
        w.ssh(name, 5, project=name)
        assert boxes_of(w, name) == boxes_of(w, before)


def test_every_job_gets_its_own_box_of_its_type():
    w = World(boxes={"linux": 0, "mac": 0})
    for box, box_type in enumerate(("linux", "mac", "linux", "mac"), 1):
        w.box_added(box, box_type)
    mac = {"seconds": 5, "box_type": "mac"}
    w.build("b1", mac, 5, mac, 5)
    linux, macs = {1, 3}, {2, 4}
    given = boxes_of(w, "b1")
    assert (set(given[::2]), set(given[1::2])) == (macs, linux)


# --- Boxes that are added and removed ---------------------------------------------------------


def test_fewer_boxes_are_wanted_than_are_busy():
    w = World(boxes=3)
    w.ssh("a", 10)
    w.ssh("b", 20, 30)
    w.boxes(1)
    w.build("next", 5)
    assert w.why("next") == NeedsBoxes("linux", asked=1, free=0)
    w.run_until(20)
    assert w.waiting == {"next"}
    w.run_until(30)
    assert w.running == {"next"}


def test_more_boxes_are_wanted_before_the_surplus_is_removed():
    w = World(boxes=2)
    w.ssh("a", 10, 20)
    w.boxes(1)
    w.boxes(2)
    w.build("next", 5)
    w.run_until(10)
    assert w.running == {"a", "next"}


def test_a_free_box_that_retires_is_removed_at_once():
    w = World(boxes=0)
    w.box_added(7)
    w.box_retired(7)
    assert [(d.box, d.gone) for d in w.decisions] == [(7, True)]
    w.build("b1", 5)
    assert w.why("b1") == NoSuchBoxes("linux", asked=1, existing=0)


@pytest.mark.parametrize("retired", [1, 2])
def test_a_busy_box_that_retires_is_removed_when_its_job_ends(retired):
    w = World(boxes=0)
    w.box_added(1)
    w.box_added(2)
    w.build("b1", 10, 10)
    w.box_retired(retired)
    assert w.running == {"b1"}
    w.run()
    freed = {d.box: d.gone for d in w.decisions if isinstance(d, BoxFreed)}
    assert freed == {retired: True, 3 - retired: False}
    w.build("b2", 5)
    assert boxes_of(w, "b2") == (3 - retired,)


def test_a_workload_that_waits_for_missing_boxes_starts_when_they_are_added():
    w = World(boxes=0)
    w.build("b1", 5, 5)
    assert w.why("b1") == NoSuchBoxes("linux", asked=2, existing=0)
    w.box_added(1)
    assert w.why("b1") == NoSuchBoxes("linux", asked=2, existing=1)
    w.box_added(2)
    assert w.running == {"b1"}
