"""Orders of loss and return of workers that broke the engine once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.workers import NewWorker, WorkerConnection
from boxsched.states import JobState, Result, State
from tests.engine.harness import EngineHarness
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
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


@pytest.mark.parametrize("limit", [20.0, 60.0, 120.0])
async def test_a_job_that_waits_for_another_attempt_is_not_ended_by_its_time_limit(
    harness: EngineHarness, limit: float
) -> None:
    """The limit passes while its worker is silent or lost: nobody knows that the job ran so long,
    so the job is given again.
    """
    id_ = await harness.build(timeout=limit)
    await harness.start(await harness.assignments())
    await harness.later(LOST_SECONDS)  # lost, and there is no Box for it
    await harness.later(60)  # 120 s and 30 s of slack pass
    await harness.another_worker("v", 1)
    assert first_job(await harness.look(id_))[:2] == (JobState.ASSIGNED, 2)


async def test_the_second_attempt_has_its_own_time_limit(harness: EngineHarness) -> None:
    """The heap still holds the deadline of attempt 1 while attempt 2 runs."""
    id_ = await harness.build(timeout=300.0)
    await harness.start(await harness.assignments())
    other = await harness.another_worker("v", 1)
    await harness.later(LOST_SECONDS, other)
    (again,) = await on(harness, other.connection.worker)
    started = inbox.JobStarted(again.job, again.lease_token, harness.clock.now())
    await harness.ask(inbox.Reports(other.connection.worker, (started,)))
    await harness.settle()
    await harness.later(220, other)  # 220 s of its 300 s
    found = await harness.look(id_)
    assert first_job(found)[:2] == (JobState.RUNNING, 2), found.jobs[0]


async def test_a_lost_job_whose_start_is_reported_late(harness: EngineHarness) -> None:
    """The job is assigned, its worker is cut off and lost, the start is reported late, and a Box
    becomes free; this raised IllegalMove.
    """
    id_ = await harness.build(timeout=LONG)
    (assigned,) = await harness.assignments()
    await harness.later(LOST_SECONDS)
    await harness.start([assigned])  # through the inbox, before any heartbeat
    await harness.another_worker("v", 1)
    assert first_job(await harness.look(id_))[1] in (1, 2)


async def test_a_late_start_and_new_boxes_in_the_same_turn(harness: EngineHarness) -> None:
    """A returning worker sends its Boxes and JobStarted, and both arrive in one turn."""
    await harness.build(timeout=LONG)
    (assigned,) = await harness.assignments()
    await harness.later(LOST_SECONDS)
    await harness.connect(2)
    await harness.start([assigned])


async def test_a_lost_job_gets_the_only_box_when_its_worker_returns(tmp_path: Path) -> None:
    """Its supervisor ended it as lost; the worker returns after 125 s."""
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    await harness.later(125)  # silent, but not lost yet
    await harness.connect(1)
    await harness.settle()
    await harness.report(lost_report(harness, assignment))
    await harness.later(300, held(harness))
    found = first_job(await harness.look(build.id))
    await harness.close()
    assert found[:2] == (JobState.ASSIGNED, 2), found


async def test_a_job_that_is_reported_lost_runs_again_after_its_worker_reconnects(
    harness: EngineHarness,
) -> None:
    """It waits for a Box when its worker connects again."""
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    other = await begun(harness, branch="b")  # the second Box
    await harness.report(lost_report(harness, assignment))
    await harness.connect(2)  # the connection was interrupted for a moment
    await harness.settle()
    state = first_job(await harness.look(build.id))
    assert state[0] is not JobState.RUNNING, "it has ended, was reported so, and runs again"
    assert other


async def test_a_job_that_is_reported_lost_runs_again_after_a_takeover(
    harness: EngineHarness,
) -> None:
    build = await begun(harness)
    (assignment,) = await harness.assignments()
    other = await begun(harness, branch="b")
    await harness.report(lost_report(harness, assignment))
    await harness.restart()
    await finish_on(harness, held(harness), (await harness.assignments())[-1])
    await harness.later(300, held(harness))
    found = first_job(await harness.look(build.id))
    assert found[:2] == (JobState.ASSIGNED, 2), (found, other.id)


async def test_a_lost_worker_that_answers_on_its_old_connection_has_its_boxes_again(
    harness: EngineHarness,
) -> None:
    """Its node could not store heartbeats for long; then it can, with no new Hello or BoxesSet."""
    await harness.later(LOST_SECONDS)
    alive = await harness.store.beat([held(harness).connection])
    await harness.later(3, held(harness))
    boxes = [box for box in await harness.store.boxes() if not box.retired]
    # Either the heartbeat is refused, so that it connects again, or its Boxes are back.
    assert len(boxes) == 2 or harness.worker not in alive, types(harness)[-4:]


async def test_a_worker_that_hung_up_gets_no_new_deploy(harness: EngineHarness) -> None:
    await harness.store.disconnect_workers([held(harness).connection])
    await harness.later(5)
    deploy = await harness.build(server="production", timeout=LONG)
    assert (await harness.look(deploy)).state is not State.RUNNING


async def test_a_new_leader_gives_no_deploy_to_a_worker_that_is_known_to_be_away(
    harness: EngineHarness,
) -> None:
    await harness.later(SILENT_SECONDS)
    deploy = await harness.build(server="production", timeout=LONG)
    assert (await harness.look(deploy)).state is State.QUEUED
    await harness.restart()
    await harness.build(branch="x")  # any command that causes a turn
    assert (await harness.look(deploy)).state is State.QUEUED


async def test_workers_that_have_been_gone_for_long_cause_no_events(harness: EngineHarness) -> None:
    other = await harness.another_worker("v", 1)
    await harness.later(LOST_SECONDS, held(harness))
    assert types(harness).count("worker.lost") == 1
    await harness.restart()
    await harness.later(LOST_SECONDS, held(harness))
    assert types(harness).count("worker.lost") == 1, "once more with every new leader"
    assert other


async def test_the_box_that_has_been_free_longest_is_taken(tmp_path: Path) -> None:
    """A new leader takes the same one."""
    harness = await EngineHarness.open(tmp_path, boxes=3)
    await harness.project("web")
    for n in range(3):
        await begun(harness, branch=f"b{n}")
    held_ones = await harness.assignments()
    await harness.report(
        *(
            inbox.JobFinished(a.job, a.lease_token, harness.clock.now(), Result.PASSED, 0, None)
            for a in reversed(held_ones)
        )
    )
    before = list(harness.engine.books.core.pools["default"].free_boxes)
    await harness.restart()
    after = list(harness.engine.books.core.pools["default"].free_boxes)
    await harness.close()
    assert before == after


async def test_the_box_that_has_been_free_longest_is_taken_also_after_a_silence(
    harness: EngineHarness,
) -> None:
    other = await harness.another_worker("v", 2)
    await harness.later(SILENT_SECONDS, other)
    await harness.connect(2)  # its heartbeat was refused
    await harness.settle()
    before = list(harness.engine.books.core.pools["default"].free_boxes)
    await harness.restart()
    assert list(harness.engine.books.core.pools["default"].free_boxes) == before


async def test_a_box_that_is_removed_twice_and_added_again_in_one_turn_is_kept(
    harness: EngineHarness, tmp_path: Path
) -> None:
    """In one turn the worker reports twice that the Box is gone, then that it is back."""
    await begun(harness)
    await begun(harness, branch="b")
    store = harness.store
    for boxes in (1, 1, 2):
        await harness.connect(boxes)
    await harness.settle()
    core = {id_: box.retired for id_, box in harness.engine.books.core.boxes.items()}
    rows = {box.id: box.retired for box in await store.boxes()}
    assert rows == core


async def connected(harness: EngineHarness, boxes: int, node: str) -> inbox.BoxesSet:
    """Return the report that the node will send to the leader."""
    new = NewWorker("w", "w", "here", node, ("default",) * boxes)
    one = await harness.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in one.boxes)
    return inbox.BoxesSet(one.connection.worker, rows, node, one.connection.number)


async def test_a_late_report_of_boxes_from_an_older_connection_is_ignored(
    harness: EngineHarness,
) -> None:
    """Node A's connection is over and node B is gone: B's next heartbeat still counts as news."""
    older = await connected(harness, 2, "A")
    newer = await connected(harness, 4, "B")
    await harness.ask(newer)
    await harness.settle()
    await harness.ask(older)
    await harness.settle()
    assert len(harness.engine.books.boxes) == 4


async def test_a_late_message_does_not_hide_that_the_workers_node_is_gone(
    harness: EngineHarness,
) -> None:
    """Node A's connection is over, and node B is gone: B's next heartbeat still counts as news."""
    older = await connected(harness, 2, "A")
    newer = await connected(harness, 2, "B")
    await harness.ask(newer)
    harness.gone.add("B")
    await harness.later(6)
    await harness.ask(older)
    deploy = await harness.build(server="production", timeout=LONG)
    assert (await harness.look(deploy)).state is State.QUEUED
    await harness.store.beat([WorkerConnection(WorkerId(newer.worker), newer.connection)])
    await harness.later(1)
    assert (await harness.look(deploy)).state is State.RUNNING
