"""Workers that differ from what the leader requires get no new jobs, and end if no node accepts
them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol import inbox
from boxsched.states import Result, State
from boxsched.store.records import Worker
from tests.engine.harness import EngineHarness

OLD, NEW = "box_driver=process, protocol=1", "box_driver=bubblewrap, protocol=1"
REQUIRED = {"box_driver": "bubblewrap"}
DIFFERS = ("box_driver is process, must be bubblewrap",)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """A leader that requires bubblewrap, and a node "test"; the worker "w" has no Boxes yet."""
    harness = await EngineHarness.open(tmp_path, boxes=0)
    await harness.project("web")
    await harness.store.put_node("test", "http://test", "1", "box_driver=bubblewrap")
    harness.required = REQUIRED
    await harness.restart()
    yield harness
    await harness.close()


async def connect(harness: EngineHarness, fingerprint: str) -> None:
    await harness.connect(2, fingerprint=fingerprint)
    await harness.settle()


async def row(harness: EngineHarness) -> Worker:
    (found,) = await harness.store.workers()
    return found


async def heard(harness: EngineHarness, seconds: float) -> None:
    assert harness.first is not None
    await harness.later(seconds, harness.first)


def types(harness: EngineHarness) -> list[str]:
    return [event.type for event in harness.events if event.type.startswith("worker.")]


async def test_an_incompatible_worker_gets_no_jobs(harness: EngineHarness) -> None:
    await connect(harness, OLD)
    waiting = await harness.build()
    assert (await harness.look(waiting)).state is State.QUEUED
    found = await row(harness)
    assert (found.state, found.fingerprint, found.differs) == ("connected", OLD, DIFFERS)
    assert types(harness)[-2:] == ["worker.connected", "worker.incompatible"]
    report = harness.why(waiting)
    assert report is not None
    assert report.text == "No worker is compatible: w (box_driver is process, must be bubblewrap)."


async def test_a_compatible_worker_gets_the_jobs(harness: EngineHarness) -> None:
    await connect(harness, NEW)
    build = await harness.build()
    assert (await harness.look(build)).state is State.RUNNING
    assert (await row(harness)).differs == ()
    assert "worker.incompatible" not in types(harness)


async def test_jobs_that_run_under_the_former_configuration_continue(
    harness: EngineHarness,
) -> None:
    harness.required = {}
    await harness.restart()
    await connect(harness, OLD)
    running = await harness.build()
    (given,) = await harness.assignments()
    await harness.start([given])
    harness.required = REQUIRED
    await harness.restart()
    await harness.settle()
    assert (await row(harness)).differs == DIFFERS
    waiting = await harness.build(branch="x")
    assert (await harness.look(waiting)).state is State.QUEUED
    await heard(harness, 30.0)
    assert (await harness.look(running)).state is State.RUNNING, "it is drained, nothing more"
    await harness.finish(given)
    assert (await harness.look(running)).result is Result.PASSED
    found = await row(harness)
    assert (found.drain_done, found.drain_automatic, found.drain_by) == (True, True, "boxsched")
    assert found.drain_note == f"incompatible: {DIFFERS[0]}"


async def test_it_is_not_drained_while_another_live_node_takes_it(harness: EngineHarness) -> None:
    await harness.store.put_node("other", "http://other", "1", "protocol=1")
    await connect(harness, OLD)
    await heard(harness, 30.0)
    assert (await row(harness)).drain_since is None
    harness.gone.add("other")
    await heard(harness, 9.0)
    assert (await row(harness)).drain_since is None, "the node may be only starting anew"
    await heard(harness, 3.0)
    assert (await row(harness)).drain_done


async def test_its_own_drain_ends_when_the_worker_returns_as_required(
    harness: EngineHarness,
) -> None:
    await connect(harness, OLD)
    await heard(harness, 12.0)
    assert (await row(harness)).drain_done
    await connect(harness, NEW)
    found = await row(harness)
    assert (found.differs, found.drain_since, found.drain_done) == ((), None, False)
    assert types(harness)[-3:] == ["worker.connected", "worker.compatible", "worker.drain_ended"]
    build = await harness.build()
    assert (await harness.look(build)).state is State.RUNNING
    assert harness.first is not None
    assert await harness.store.beat([harness.first.connection]) == {harness.worker: False}


async def test_a_persons_drain_stays_when_the_worker_returns_as_required(
    harness: EngineHarness,
) -> None:
    await connect(harness, OLD)
    now = harness.clock.now()
    await harness.ask(inbox.DrainSet(harness.worker, "ann", "new disk", now, None))
    await heard(harness, 12.0)
    await connect(harness, NEW)
    found = await row(harness)
    assert (found.drain_by, found.drain_done, found.differs) == ("ann", True, ())


async def test_a_leader_that_requires_less_gives_it_jobs_again(harness: EngineHarness) -> None:
    await connect(harness, OLD)
    waiting = await harness.build()
    harness.required = {}
    await harness.restart()
    await harness.settle()
    assert (await harness.look(waiting)).state is State.RUNNING
    assert (await row(harness)).differs == ()
    assert types(harness)[-1] == "worker.compatible"


async def test_a_worker_that_is_about_to_end_must_connect_again_first(
    harness: EngineHarness,
) -> None:
    await connect(harness, OLD)
    await heard(harness, 12.0)
    waiting = await harness.build()
    harness.required = {}
    await harness.restart()
    await harness.settle()
    assert (await harness.look(waiting)).state is State.QUEUED
    await connect(harness, OLD)
    assert (await harness.look(waiting)).state is State.RUNNING
