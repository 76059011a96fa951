"""The gate: a workload gets all its Boxes or none, and which others it then blocks
(docs/scheduling.md, "The gate")."""

import pytest

from boxsched.model import Kind, Policy, ProjectId, WorkloadId
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import Admitted, BoxesWanted, ProjectLimited, Submit
from boxsched.scheduling.reasons import (
    NeedsBoxes,
    NoSuchBoxes,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Runs,
)
from boxsched.scheduling.why import why
from boxsched.states import State
from tests.core.world import World


def test_on_eight_boxes_the_third_build_of_four_jobs_waits():
    w = World(boxes=8)
    for name in ("b1", "b2", "b3"):
        w.build(name, 60, 60, 60, 60, branch=name)
    assert (w.running, w.waiting) == ({"b1", "b2"}, {"b3"})
    assert w.why("b3") == NeedsBoxes("linux", asked=4, free=0)


def test_nothing_is_admitted_in_part():
    w = World(boxes=5)
    w.build("w1", 10, 10, branch="1")
    w.build("w2", *[10] * 5, branch="2")
    assert w.waiting == {"w2"}
    assert w.why("w2") == NeedsBoxes("linux", asked=5, free=3)
    w.run_until(10)
    assert (w.running, len(w.seen["w2"].boxes)) == ({"w2"}, 5)


def test_a_box_is_free_as_soon_as_its_own_job_ends():
    w = World(boxes=2)
    w.build("b1", 10, 100)
    w.build("b2", 10, branch="x")
    w.run_until(10)
    assert w.running == {"b1", "b2"}


def test_each_type_must_have_enough():
    w = World(boxes={"linux": 4, "mac": 1})
    mac = {"seconds": 10, "box_type": "mac"}
    w.build("b1", 10, mac, branch="1")
    w.build("b2", 10, mac, branch="2")
    w.build("b3", 10, 10, branch="3")
    assert w.running == {"b1", "b3"}
    assert w.why("b2") == NeedsBoxes("mac", asked=1, free=0)


def test_the_plan_limits_workloads_even_if_boxes_are_free():
    w = World(boxes=9, plan=3)
    w.build("b1", 10, 10, branch="1")
    w.build("b2", 10, 10, branch="2")
    assert w.why("b2") == PlanLimit(asked=2, used=2, limit=3)
    w.run_until(10)
    assert w.running == {"b2"}


def test_a_workload_above_the_plan_or_the_projects_limit_is_refused():
    w = World(boxes=1, plan=5)
    w.project("web", max_boxes=3)
    w.build("too much for web", *[1] * 4)
    w.build("fits", *[1] * 5, project="app", branch="1")
    w.build("too much for the plan", *[1] * 6, project="app", branch="2")
    assert w.result("too much for web") == w.result("too much for the plan") == "refused"
    assert w.result("fits") is None


def test_a_workload_that_needs_more_boxes_than_exist_blocks_no_other():
    for policy in ("strict", "best_effort", "backfill"):
        w = World(boxes=2, policy=policy)
        w.build("giant", 1, 1, 1)
        w.build("b1", 1, branch="x")
        assert (w.running, w.waiting) == ({"b1"}, {"giant"})
        assert w.why("giant") == NoSuchBoxes("linux", asked=3, existing=2)
        w.boxes(3)
        assert w.why("giant") == NeedsBoxes("linux", asked=3, free=2)
        w.run()
        assert w.result("giant") == "passed"


@pytest.mark.parametrize(
    ("policy", "runs", "reason"),
    [
        ("strict", {"b1", "other"}, QueueOrder),
        ("backfill", {"b1", "other"}, QueueOrder),
        ("best_effort", {"b1", "small", "other"}, Runs),
    ],
)
def test_a_workload_waits_behind_its_projects_limit(policy, runs, reason):
    w = World(boxes=9, policy=policy)
    w.project("web", max_boxes=3)
    w.build("b1", 10, 10, branch="1")
    with w.together():
        w.build("large", 10, 10, branch="2")
        w.build("small", 10, branch="3")
        w.build("other", 10, project="app")
    assert w.running == runs
    assert w.why("large") == ProjectLimit(asked=2, used=w.core.usage.boxes - 1, limit=3)
    assert isinstance(w.why("small"), reason)
    if reason is QueueOrder:
        assert w.why("small").behind == w.id("large")


def test_a_workload_over_its_projects_limit_names_the_limit_at_every_position():
    w = World(boxes=9)
    w.project("web", max_boxes=2)
    w.build("b1", 10, branch="1")
    w.build("b2", 20, 20, branch="2")
    w.build("b3", 30, 30, branch="3")
    w.build("b4", 40, branch="4")
    assert w.why("b2") == w.why("b3") == ProjectLimit(asked=2, used=1, limit=2)
    assert w.why("b4") == QueueOrder(behind=w.id("b2"))


@pytest.mark.parametrize(
    ("boxes", "plan", "reason"),
    [
        (3, None, NeedsBoxes("linux", 1, 0)),
        (4, 3, PlanLimit(1, 3, 3)),
        (4, None, QueueOrder(behind=3)),
    ],
)
def test_a_workload_behind_its_own_project_first_names_the_missing_boxes(boxes, plan, reason):
    """Its project's limit would allow it; an earlier workload of the project waits for Boxes."""
    w = World(boxes=boxes, plan=plan)
    w.project("api", max_boxes=2)
    w.build("others", 60, 60)
    w.build("one", 60, project="api", branch="a")
    w.build("two", 60, 60, project="api", branch="b")
    w.build("small", 60, project="api", branch="c")
    assert w.running == {"others", "one"}
    assert w.why("two") == ProjectLimit(2, 1, 2)
    assert w.why("small") == reason


def test_a_projects_limit_can_be_lifted():
    w = World(boxes=9)
    w.project("web", max_boxes=1)
    w.build("b1", 10, branch="1")
    w.build("b2", 10, branch="2")
    assert w.why("b2") == ProjectLimit(asked=1, used=1, limit=1)
    w.limit("web", None)
    assert w.running == {"b1", "b2"}


def test_a_project_without_a_limit_is_forgotten_once_nothing_of_it_is_unfinished() -> None:
    core = Scheduler(QueueRules(max_boxes=1), ["default"])
    web = ProjectId(7)
    core.apply(ProjectLimited(web, None), 0.0)
    assert core.register.projects == {}
    core.apply(ProjectLimited(web, 3), 0.0)
    assert web in core.register.projects
    core.apply(ProjectLimited(web, None), 0.0)
    refused = Submit(
        WorkloadId(1), Kind.SSH, web, None, None, 50, 0.0, (JobAsk("default", 1.0, 1.0),) * 2
    )
    core.apply(refused, 0.0)
    assert core.register.projects == {}
    core.check()


def test_a_box_type_that_was_only_requested_is_forgotten():
    w = World(boxes={"linux": 1})
    w.build("b1", {"seconds": 5, "box_type": "mac"}, {"seconds": 5, "box_type": "linux"})
    w.build("b2", {"seconds": 5, "box_type": "mac"}, branch="x")
    assert set(w.core.pools) == {"linux", "mac"}
    w.stop("b1")
    assert set(w.core.pools) == {"linux", "mac"}
    w.stop("b2")
    assert set(w.core.pools) == {"linux"}


def test_positions_follow_queue_order_over_all_shapes():
    w = World(boxes=1)
    w.build("runs", 60, branch="1")
    w.build("b1", 10, branch="2")
    w.build("b2", 20, branch="3")
    w.build("b3", 10, branch="4")
    w.deploy("first", 30)
    positions = {name: w.core.queue.position(w.core.workloads[w.id(name)]) for name in w.waiting}
    assert positions == {"first": 1, "b1": 2, "b2": 3, "b3": 4}
    assert [one.id for one in w.core.queue.in_order(3)] == [w.id(n) for n in ("first", "b1", "b2")]


def test_a_workload_that_exceeds_a_reduced_plan_blocks_no_other():
    """As after a restart with another plan."""
    core = Scheduler(QueueRules(Policy.BACKFILL, max_boxes=1), ["linux"])
    core.apply(BoxesWanted("linux", 4), 0.0)
    large = Submit(1, Kind.BUILD, 1, "x", "x", 50, 0.0, (JobAsk("linux", 5.0, 5.0),) * 2)
    core.restore(large, State.QUEUED)
    small = Submit(2, Kind.BUILD, 1, "y", "y", 50, 1.0, (JobAsk("linux", 5.0, 5.0),))
    admitted = [d.workload for d in core.decide([small], 1.0) if isinstance(d, Admitted)]
    assert admitted == [2]
    assert why(core, 1, 1.0) == PlanLimit(asked=2, used=1, limit=1)
    assert core.workloads[1].promise is None


def test_a_workload_over_a_reduced_limit_blocks_no_other():
    w = World(boxes=9)
    w.project("web", max_boxes=3)
    w.build("runs", 60, branch="1")
    w.build("large", 60, 60, 60, branch="2")
    w.limit("web", 2)
    w.build("small", 60, branch="3")
    assert w.running == {"runs", "small"}
    assert w.why("large") == ProjectLimit(asked=3, used=2, limit=2)
