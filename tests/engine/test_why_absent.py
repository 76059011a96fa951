"""What explanations say while workers are away."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.engine.capacity import Capacity, capacity
from boxsched.protocol.workers import Connected
from tests.engine.shop import Shop

SILENT_SECONDS = 35


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=8)
    await shop.project("web")
    await shop.settle()
    yield shop
    await shop.close()


async def only(shop: Shop, *heard: Connected) -> None:
    await shop.later(SILENT_SECONDS, *heard)


def first(shop: Shop) -> Connected:
    assert shop.first is not None
    return shop.first


async def test_more_than_connected_workers_have(shop: Shop) -> None:
    await shop.another_worker("w2", 4)
    await only(shop, first(shop))
    runs = await shop.build(branch="a", jobs=8)
    wide = await shop.build(branch="b", jobs=10)
    report = shop.why(wide)
    assert report is not None and report.reason == "needs_boxes"
    text = "Needs 10 Boxes; 8 are on connected workers, 4 more on w2, not connected."
    assert report.text == shop.reasons()[wide] == text
    assert report.blocked_by == ()  # the end of the one that runs would not help
    assert report.expected_start is None
    assert runs not in shop.reasons()


async def test_no_worker_at_all(shop: Shop) -> None:
    await shop.another_worker("w2", 4)
    runs = await shop.build(branch="a", jobs=2)
    await only(shop)
    waits = [await shop.build(branch=branch, jobs=2) for branch in "bc"]
    text = "No worker is connected (w, w2): start one with `boxsched worker`."
    for id_ in waits:
        report = shop.why(id_)
        assert report is not None and report.text == shop.reasons()[id_] == text
        assert (report.blocked_by, report.expected_start) == ((), None)
    away = "Its worker (w) is away: the state of 2 jobs is unknown."
    report = shop.why(runs)
    assert report is not None and report.text == shop.reasons()[runs] == away
    assert shop.engine.books is not None
    assert capacity(shop.engine.books.core) == Capacity(12, 2, 12, 2)
    await shop.connect(8)
    await shop.settle()
    assert runs not in shop.reasons()
    assert capacity(shop.engine.books.core) == Capacity(12, 6, 4, 0)


async def test_only_an_end_that_helps_is_waited_for(shop: Shop) -> None:
    here = await shop.build(branch="a", jobs=8, timeout=900.0)
    second = await shop.another_worker("w2", 4)
    there = await shop.build(branch="b", jobs=4, timeout=60.0)
    waits = await shop.build(branch="c", jobs=6)
    report = shop.why(waits)
    assert report is not None and {one.id for one in report.blocked_by} == {here, there}
    before = report.expected_start
    await only(shop, first(shop))
    report = shop.why(waits)
    assert report is not None and report.text == "Needs 6 Boxes; 0 free now."
    assert [one.id for one in report.blocked_by] == [here]
    assert report.expected_start == before
    narrow = await shop.build(branch="b")  # behind the one of which nothing is heard
    report = shop.why(narrow)
    assert report is not None and report.expected_start is None
    assert [(one.id, one.expected_end) for one in report.blocked_by] == [(there, None)]
    await only(shop, second)
    report = shop.why(waits)
    assert report is not None and report.expected_start is None


async def test_without_any_box_the_reason_is_no_such_boxes(tmp_path: Path) -> None:
    shop = await Shop.open(tmp_path, boxes=0)
    await shop.project("web")
    report = shop.why(await shop.build())
    assert report is not None and report.reason == "no_such_boxes"
    assert report.text == "No worker is connected (w): start one with `boxsched worker`."
    await shop.close()


@pytest.mark.parametrize("away", ["mac", "default"])
async def test_no_start_is_named_for_a_head_some_of_whose_boxes_are_away(
    tmp_path: Path, away: str
) -> None:
    """Its start may rest on jobs that nobody hears of, whichever type of Box they run on."""
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    mac = await shop.another_worker("mac", 2, "mac")
    await shop.another_worker("silent", 1, away)
    await shop.build(branch="a", timeout=600.0, box_types=("mac",) * (3 if away == "mac" else 2))
    await only(shop, first(shop), mac)
    await shop.build(branch="b", box_types=("default", "mac"))
    await shop.build(branch="c", timeout=3_600.0)
    long = await shop.build(branch="d", timeout=3_600.0)
    report = shop.why(long)
    assert report is not None and report.reason == "behind_reservation"
    assert report.text == shop.reasons()[long] == "Would fit now, but would delay build #2 of web."
    await shop.close()
