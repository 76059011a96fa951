"""Workers that are lost and come back, in orders that break the engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.workers import NewWorker, WorkerConnection
from boxsched.states import JobState, Result, State
from tests.engine.shop import Shop
from tests.engine.test_absence import (
    LONG,
    LOST_SECONDS,
    SILENT_SECONDS,
    begun,
    finish_on,
    first_job,
    held,
    lost_report,
    on,
    types,
)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


@pytest.mark.parametrize("limit", [20.0, 60.0, 120.0])
async def test_the_time_limit_of_a_job_that_waits_for_another_attempt(
    shop: Shop, limit: float
) -> None:
    """Its time limit passes while its worker is silent, or lost already: nobody knows that it ran
    so long, and it is given again."""
    id_ = await shop.build(timeout=limit)
    await shop.start(await shop.assignments())
    await shop.later(LOST_SECONDS)  # lost, no Box for it
    await shop.later(60)  # 120 + 30 s of slack pass
    await shop.another_worker("v", 1)
    assert first_job(await shop.look(id_))[:2] == (JobState.ASSIGNED, 2)


async def test_attempt_two_has_its_own_time_limit(shop: Shop) -> None:
    """The deadline of attempt 1 is found in the heap while attempt 2 runs."""
    id_ = await shop.build(timeout=300.0)
    await shop.start(await shop.assignments())
    other = await shop.another_worker("v", 1)
    await shop.later(LOST_SECONDS, other)
    (again,) = await on(shop, other.connection.worker)
    started = inbox.JobStarted(again.job, again.lease_token, shop.clock.now())
    await shop.ask(inbox.Reports(other.connection.worker, (started,)))
    await shop.settle()
    await shop.later(220, other)  # 220 s of its 300
    found = await shop.look(id_)
    assert first_job(found)[:2] == (JobState.RUNNING, 2), found.jobs[0]


async def test_a_late_start_of_a_lost_job(shop: Shop) -> None:
    """Assigned, cut off, lost; its start is reported late; then a Box comes free: IllegalMove."""
    id_ = await shop.build(timeout=LONG)
    (assigned,) = await shop.assignments()
    await shop.later(LOST_SECONDS)
    await shop.start([assigned])  # through the inbox, before any beat
    await shop.another_worker("v", 1)
    assert first_job(await shop.look(id_))[1] in (1, 2)


async def test_a_late_start_and_boxes_set_in_one_turn(shop: Shop) -> None:
    """As a returning worker says it: its Boxes, and JobStarted, in one turn."""
    await shop.build(timeout=LONG)
    (assigned,) = await shop.assignments()
    await shop.later(LOST_SECONDS)
    await shop.connect(2)
    await shop.start([assigned])


async def test_the_only_box_runs_the_job_that_is_lost(tmp_path: Path) -> None:
    """Its supervisor ended it as lost, the worker is back at 125 s: who gives it a Box?"""
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    build = await begun(shop)
    (assignment,) = await shop.assignments()
    await shop.later(125)  # silent, not lost yet
    await shop.connect(1)
    await shop.settle()
    await shop.report(lost_report(shop, assignment))
    await shop.later(300, held(shop))
    found = first_job(await shop.look(build.id))
    await shop.close()
    assert found[:2] == (JobState.ASSIGNED, 2), found


async def test_a_lost_report_and_then_a_reconnect(shop: Shop) -> None:
    """Reported lost, waits for a Box; its worker connects anew: who ends it ever?"""
    build = await begun(shop)
    (assignment,) = await shop.assignments()
    other = await begun(shop, branch="b")  # the second Box
    await shop.report(lost_report(shop, assignment))
    await shop.connect(2)  # the connection broke for a moment
    await shop.settle()
    state = first_job(await shop.look(build.id))
    assert state[0] is not JobState.RUNNING, "it has ended, was reported so, and runs again"
    assert other


async def test_a_lost_report_and_then_a_takeover(shop: Shop) -> None:
    build = await begun(shop)
    (assignment,) = await shop.assignments()
    other = await begun(shop, branch="b")
    await shop.report(lost_report(shop, assignment))
    await shop.restart()
    await finish_on(shop, held(shop), (await shop.assignments())[-1])
    await shop.later(300, held(shop))
    found = first_job(await shop.look(build.id))
    assert found[:2] == (JobState.ASSIGNED, 2), (found, other.id)


async def test_a_lost_worker_that_answers_again_on_its_connection_has_its_boxes(shop: Shop) -> None:
    """Its node could not write beats for long; then it does: no new Hello, no BoxesSet."""
    await shop.later(LOST_SECONDS)
    alive = await shop.store.beat([held(shop).connection])
    await shop.later(3, held(shop))
    boxes = [box for box in await shop.store.boxes() if not box.retired]
    # Either the beat is refused (then it connects anew), or its Boxes are here again.
    assert len(boxes) == 2 or shop.worker not in alive, types(shop)[-4:]


async def test_no_new_deploy_for_a_worker_that_has_hung_up(shop: Shop) -> None:
    await shop.store.disconnect_workers([held(shop).connection])
    await shop.later(5)
    deploy = await shop.build(server="production", timeout=LONG)
    assert (await shop.look(deploy)).state is not State.RUNNING


async def test_a_new_leader_gives_no_deploy_to_a_worker_known_to_be_away(
    shop: Shop,
) -> None:
    await shop.later(SILENT_SECONDS)
    deploy = await shop.build(server="production", timeout=LONG)
    assert (await shop.look(deploy)).state is State.QUEUED
    await shop.restart()
    await shop.build(branch="x")  # anything that makes a turn
    assert (await shop.look(deploy)).state is State.QUEUED


async def test_workers_long_gone_make_no_events(shop: Shop) -> None:
    other = await shop.another_worker("v", 1)
    await shop.later(LOST_SECONDS, held(shop))
    assert types(shop).count("worker.lost") == 1
    await shop.restart()
    await shop.later(LOST_SECONDS, held(shop))
    assert types(shop).count("worker.lost") == 1, "once more with every new leader"
    assert other


async def test_order_of_free_boxes(tmp_path: Path) -> None:
    """The one longest free is taken: also by a new leader."""
    shop = await Shop.open(tmp_path, boxes=3)
    await shop.project("web")
    for n in range(3):
        await begun(shop, branch=f"b{n}")
    held_ones = await shop.assignments()
    await shop.report(
        *(
            inbox.JobFinished(a.job, a.lease_token, shop.clock.now(), Result.PASSED, 0, None)
            for a in reversed(held_ones)
        )
    )
    before = list(shop.engine.books.core.pools["default"].free_boxes)
    await shop.restart()
    after = list(shop.engine.books.core.pools["default"].free_boxes)
    await shop.close()
    assert before == after


async def test_order_of_free_boxes_after_silence(shop: Shop) -> None:
    other = await shop.another_worker("v", 2)
    await shop.later(SILENT_SECONDS, other)
    await shop.connect(2)  # its beat was refused
    await shop.settle()
    before = list(shop.engine.books.core.pools["default"].free_boxes)
    await shop.restart()
    assert list(shop.engine.books.core.pools["default"].free_boxes) == before


async def test_retired_twice_and_kept(shop: Shop, tmp_path: Path) -> None:
    """One turn: without the Box twice, then with it again."""
    await begun(shop)
    await begun(shop, branch="b")
    store = shop.store
    for boxes in (1, 1, 2):
        await shop.connect(boxes)
    await shop.settle()
    core = {id_: box.retired for id_, box in shop.engine.books.core.boxes.items()}
    rows = {box.id: box.retired for box in await store.boxes()}
    assert rows == core


async def connected(shop: Shop, boxes: int, node: str) -> inbox.BoxesSet:
    """What the node is about to tell the leader."""
    new = NewWorker("w", "w", "here", node, ("default",) * boxes)
    one = await shop.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in one.boxes)
    return inbox.BoxesSet(one.connection.worker, rows, node, one.connection.number)


async def test_late_boxes_of_an_older_connection(shop: Shop) -> None:
    """Node A stores the connection, then its inbox entry waits; the worker is on node B by now."""
    older = await connected(shop, 2, "A")
    newer = await connected(shop, 4, "B")
    await shop.ask(newer)
    await shop.settle()
    await shop.ask(older)
    await shop.settle()
    assert len(shop.engine.books.boxes) == 4


async def test_a_late_message_does_not_hide_that_its_node_is_gone(shop: Shop) -> None:
    """Of node A, whose connection is over, while B is gone: B's next beat is still news."""
    older = await connected(shop, 2, "A")
    newer = await connected(shop, 2, "B")
    await shop.ask(newer)
    shop.gone.add("B")
    await shop.later(6)
    await shop.ask(older)
    deploy = await shop.build(server="production", timeout=LONG)
    assert (await shop.look(deploy)).state is State.QUEUED
    await shop.store.beat([WorkerConnection(WorkerId(newer.worker), newer.connection)])
    await shop.later(1)
    assert (await shop.look(deploy)).state is State.RUNNING
