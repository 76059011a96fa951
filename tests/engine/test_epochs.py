"""Several engines and settings of one shard: fencing, restarts, and changed limits."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.errors import Fenced, StoreAway
from boxsched.states import State
from boxsched.store.records import JobSpec
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=8)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


async def test_the_older_of_two_engines_is_fenced(harness: EngineHarness) -> None:
    former = harness.engine
    await harness.restart()
    await harness.submit(harness.new())
    with pytest.raises(Fenced):
        await former.turn()
    await harness.settle()
    assert len(await harness.running()) == 1


async def test_a_failed_commit_reserves_nothing(harness: EngineHarness, tmp_path: Path) -> None:
    """GANG-09: every write fails; nothing leaks, however many attempts are made."""
    (id_,) = await harness.submit(harness.new(jobs=8))
    commit = harness.store.commit

    async def refused(batch: object, *more: object) -> None:
        raise StoreAway("the disk is full")

    harness.store.commit = refused  # type: ignore[method-assign, assignment]
    for _ in range(5):
        with pytest.raises(StoreAway):
            await harness.engine.turn()
        await harness.restart()
    assert (await harness.look(id_)).state is State.REGISTERED
    assert all(box.job is None for box in await harness.store.boxes())
    harness.store.commit = commit  # type: ignore[method-assign]
    await harness.settle()
    assert (await harness.look(id_)).state is State.RUNNING


async def test_changed_queue_settings_apply_from_the_next_turn_on(
    harness: EngineHarness,
) -> None:
    """Another node was started with another plan while this one leads."""
    organization = await harness.store.organization()
    await harness.store.set_organization(attrs.evolve(organization, max_boxes=1))
    assert await harness.engine.turn()
    assert not harness.engine.leads
    await harness.engine.load()
    ids = await harness.submit(*(harness.new(branch=branch) for branch in "ab"))
    await harness.settle()
    states = [(await harness.look(id_)).state for id_ in ids]
    assert states == [State.RUNNING, State.QUEUED]


async def test_only_a_limited_number_of_job_names_is_remembered_and_the_oldest_are_dropped(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients may invent a name for each build."""
    monkeypatch.setattr("boxsched.engine.books.DURATIONS_AT_MOST", 2)
    for name in ("a", "b", "a", "c"):
        spec = JobSpec(name, "default", 60.0, ("true",), {})
        await harness.submit(attrs.evolve(harness.new(), jobs=(spec,)))
        await harness.settle()
        (assignment,) = await harness.assignments()
        await harness.start([assignment])
        await harness.finish(assignment)
    assert harness.engine.books is not None
    assert [name for _, name in harness.engine.books.durations] == ["a", "c"]
    await harness.restart()
    assert sorted(name for _, name in harness.engine.books.durations) == ["a", "c"]


async def test_a_deleted_project_is_removed_from_memory(harness: EngineHarness) -> None:
    id_, _ = harness.projects["web"]
    await harness.build()
    (assignment,) = await harness.assignments()
    await harness.start([assignment])
    await harness.finish(assignment)
    books = harness.engine.books
    assert books is not None and id_ in books.projects and books.durations
    assert await harness.store.delete_project("web")
    await harness.settle()
    assert id_ not in books.projects and not books.durations
    assert harness.events[-1].type == "project.deleted"


async def test_a_submission_after_a_change_of_settings_uses_the_new_settings(
    harness: EngineHarness,
) -> None:
    """One read of the inbox finds both."""
    organization = await harness.store.organization()
    await harness.store.set_organization(attrs.evolve(organization, max_boxes=1))
    while await harness.engine.step():
        pass
    await harness.store.set_organization(organization)
    (id_,) = await harness.submit(harness.new(jobs=3))
    while await harness.engine.step():
        pass
    assert (await harness.look(id_)).state is State.RUNNING


@pytest.mark.parametrize("ahead", [5.0, -5.0])
async def test_nothing_is_queued_before_it_was_created(
    harness: EngineHarness, ahead: float
) -> None:
    """The clock of the node that accepted it may be ahead of the leader's, or behind it."""
    created = harness.clock.time + ahead
    (id_,) = await harness.submit(attrs.evolve(harness.new(), created_at=created))
    await harness.settle()
    workload = await harness.look(id_)
    assert workload.queued_at == max(created, harness.clock.time)
