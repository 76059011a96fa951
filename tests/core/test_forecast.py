"""A forecast comes true if nothing more is submitted and every job takes as long as expected."""

import math

import pytest

from boxsched.scheduling.prediction import FORECAST_WORKLOADS, expected_duration, forecast
from tests.core.world import World
from tests.reference.scenarios import Seeded, crowd


def crowded(seed):
    """A world with a long queue and some running workloads."""
    made = crowd(Seeded(seed))
    w = World(made["boxes"], made["policy"], made["max_boxes"], made["priority_aging"])
    for project in made["projects"]:
        w.project(project["name"], max_boxes=project["max_boxes"])
    with w.together():
        for event in made["events"]:
            seconds = [job["seconds"] for job in event["jobs"]]
            options = {"project": event["project"]}
            if event["submit"] == "build":
                w.build(event["id"], *seconds, branch=event["branch"], **options)
            else:
                w.deploy(event["id"], *seconds, **options)
    return w


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_a_forecast_comes_true(first):
    for seed in range(first, first + 25):
        w = crowded(seed)
        w.run_until(3)
        forecasts = {n: forecast(w.core, w.id(n), w.now) for n in w.waiting | w.upcoming}
        w.run()
        assert forecasts == {name: w.started(name) for name in forecasts}, f"seed {seed}"


def test_there_is_no_forecast_for_too_long_a_queue():
    w = World(boxes=1)
    with w.together():
        for n in range(FORECAST_WORKLOADS + 2):
            w.build(f"b{n}", 5, branch=str(n))
    assert forecast(w.core, w.id("b0"), 0) == 0, "it runs"
    assert forecast(w.core, w.id("b1"), 0) is None
    w.stop(f"b{FORECAST_WORKLOADS + 1}")
    assert forecast(w.core, w.id("b1"), 0) == 5


def test_there_is_no_forecast_without_boxes():
    w = World(boxes=1)
    w.build("b1", 5, 5)
    assert forecast(w.core, w.id("b1"), 0) is None


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        ([0.2], 2**-2.25),
        ([0.0], 2**-10),  # the minimum
        ([1.0], 1.0),
        ([1.01], 2**0.25),
        ([60.0], 64.0),
        ([64.0], 64.0),
        ([64.1], 2**6.25),
        ([math.nextafter(64.0, math.inf)], 2**6.25),  # its logarithm is that of 64
        ([10.0] * 5 + [100.0] * 10, 2**6.75),  # the last ten count
        ([60.0, 1.0, 3600.0], 64.0),  # the median
    ],
)
def test_the_expected_duration_is_the_median_rounded_up(passed, expected):
    assert expected_duration(passed) == pytest.approx(expected)
