"""Explanations while workers are away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.cluster.mirror import Mirror
from boxsched.engine.capacity import Capacity, capacity
from boxsched.engine.why import explain
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected
from tests.engine.harness import EngineHarness

SILENT_SECONDS = 35


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=8)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


async def only(harness: EngineHarness, *heard: Connected) -> None:
    await harness.later(SILENT_SECONDS, *heard)


def first(harness: EngineHarness) -> Connected:
    assert harness.first is not None
    return harness.first


async def test_a_job_needs_more_boxes_than_are_connected(harness: EngineHarness) -> None:
    await harness.another_worker("w2", 4)
    await only(harness, first(harness))
    runs = await harness.build(branch="a", jobs=8)
    wide = await harness.build(branch="b", jobs=10)
    report = harness.why(wide)
    assert report is not None and report.reason == "needs_boxes"
    text = "Needs 10 Boxes; 8 are on connected workers, 4 more on w2, not connected."
    assert report.text == harness.reasons()[wide] == text
    assert report.blocked_by == ()  # the end of the running job would not help
    assert report.expected_start is None
    assert runs not in harness.reasons()


async def test_no_worker_is_connected(harness: EngineHarness) -> None:
    await harness.another_worker("w2", 4)
    runs = await harness.build(branch="a", jobs=2)
    await only(harness)
    waits = [await harness.build(branch=branch, jobs=2) for branch in "bc"]
    text = "No worker is connected (w, w2): start one with `boxsched worker`."
    for id_ in waits:
        report = harness.why(id_)
        assert report is not None and report.text == harness.reasons()[id_] == text
        assert (report.blocked_by, report.expected_start) == ((), None)
    away = (
        "Its worker (w) is away: the state of 2 jobs is unknown. If it stays away, the jobs get "
        "free Boxes of another worker about 136 s after its silence began."
    )
    report = harness.why(runs)
    assert report is not None and report.text == harness.reasons()[runs] == away
    assert harness.engine.books is not None
    assert capacity(harness.engine.books.core) == Capacity(12, 2, 12, 2)
    await harness.connect(8)
    await harness.settle()
    assert runs not in harness.reasons()
    assert capacity(harness.engine.books.core) == Capacity(12, 6, 4, 0)


LOST_SECONDS = 140
WAITS = "A job waits for another Box: its worker (w) was not heard from for too long."


async def test_a_job_of_a_lost_worker_waits_for_another_box(harness: EngineHarness) -> None:
    runs = await harness.build(branch="a")
    behind = await harness.build(branch="a")
    await harness.later(LOST_SECONDS)
    nobody = "No worker is connected (w): start one with `boxsched worker`."
    report = harness.why(runs)
    assert report is not None and (report.phase, report.reason) == ("assignment", "needs_boxes")
    assert report.text == harness.reasons()[runs] == f"{WAITS} {nobody}"
    assert report.blocked_by == ()
    waits = f"Waits for build #1 of web. A job of it{WAITS[5:]}"
    report = harness.why(behind)
    assert report is not None and report.text == harness.reasons()[behind] == waits
    loaded = await Mirror(harness.store, SHARD, lambda _: True).books()
    report = explain(loaded, runs, harness.clock.now())
    assert report is not None and report.reason == "needs_boxes", "what another node answers"
    await harness.another_worker("w2", 1)
    assert runs not in harness.reasons()
    report = harness.why(runs)
    assert report is not None and report.reason == "running"


async def test_what_a_lost_job_waits_for_on_other_workers(harness: EngineHarness) -> None:
    runs = await harness.build(branch="a", jobs=8)
    mac = await harness.another_worker("mac", 1, "mac")
    await harness.later(LOST_SECONDS, mac)
    more = WAITS.replace("Box:", "Box, and 7 more wait:")
    report = harness.why(runs)
    assert report is not None and report.reason == "needs_boxes"
    assert report.text == f"{more} No worker with Boxes is given jobs: start one."
    busy = await harness.another_worker("w2", 2)
    report = harness.why(runs)
    more = WAITS.replace("Box:", "Box, and 5 more wait:")
    assert report is not None
    assert (
        report.text
        == harness.reasons()[runs]
        == (f"{more} It gets the first Box that becomes free.")
    )
    assert report.blocked_by == (), "it is not blocked by itself"
    assert busy


async def test_a_lost_job_waits_for_workloads_that_end(harness: EngineHarness) -> None:
    lost = await harness.build(branch="a", jobs=8)
    second = await harness.another_worker("w2", 1)
    there = await harness.build(branch="b", timeout=900.0)
    await harness.later(LOST_SECONDS, second)
    report = harness.why(lost)
    assert report is not None and [one.id for one in report.blocked_by] == [there]


async def test_only_jobs_whose_end_helps_are_named(harness: EngineHarness) -> None:
    here = await harness.build(branch="a", jobs=8, timeout=900.0)
    second = await harness.another_worker("w2", 4)
    there = await harness.build(branch="b", jobs=4, timeout=60.0)
    waits = await harness.build(branch="c", jobs=6)
    report = harness.why(waits)
    assert report is not None and {one.id for one in report.blocked_by} == {here, there}
    before = report.expected_start
    await only(harness, first(harness))
    report = harness.why(waits)
    assert report is not None and report.text == "Needs 6 Boxes; 0 free now."
    assert [one.id for one in report.blocked_by] == [here]
    assert report.expected_start == before
    narrow = await harness.build(branch="b")  # after a job of a silent worker
    report = harness.why(narrow)
    assert report is not None and report.expected_start is None
    assert [(one.id, one.expected_end) for one in report.blocked_by] == [(there, None)]
    await only(harness, second)
    report = harness.why(waits)
    assert report is not None and report.expected_start is None


async def test_without_any_box_the_reason_is_no_such_boxes(tmp_path: Path) -> None:
    harness = await EngineHarness.open(tmp_path, boxes=0)
    await harness.project("web")
    report = harness.why(await harness.build())
    assert report is not None and report.reason == "no_such_boxes"
    assert report.text == "No worker is connected (w): start one with `boxsched worker`."
    await harness.close()


async def test_a_worker_of_a_node_is_named_only_if_it_has_boxes(harness: EngineHarness) -> None:
    """A node of which nobody wanted Boxes is not worth a person's look; a worker's machine is."""
    for name, boxes in (("in-process@a", 2), ("in-process@b", 0), ("in-process", 0), ("w3", 0)):
        await harness.another_worker(name, boxes)
    await only(harness)
    report = harness.why(await harness.build())
    assert report is not None
    assert report.text == (
        "No worker is connected (in-process@a, w, w3): start one with `boxsched worker`."
    )


@pytest.mark.parametrize("away", ["mac", "default"])
async def test_a_head_with_absent_boxes_has_no_expected_start(tmp_path: Path, away: str) -> None:
    """Its start may depend on jobs of silent workers, on any type of Box."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    mac = await harness.another_worker("mac", 2, "mac")
    await harness.another_worker("silent", 1, away)
    await harness.build(branch="a", timeout=600.0, box_types=("mac",) * (3 if away == "mac" else 2))
    await only(harness, first(harness), mac)
    await harness.build(branch="b", box_types=("default", "mac"))
    await harness.build(branch="c", timeout=3_600.0)
    long = await harness.build(branch="d", timeout=3_600.0)
    report = harness.why(long)
    assert report is not None and report.reason == "behind_reservation"
    assert (
        report.text == harness.reasons()[long] == "Would fit now, but would delay build #2 of web."
    )
    await harness.close()
