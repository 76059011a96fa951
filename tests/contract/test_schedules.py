"""Schedules in the store: stored with the settings and with the build, and never built twice."""

import attrs
import pytest

from boxsched.protocol.schedules import Firing, NewSchedule, Schedule
from boxsched.protocol.shards import Project
from boxsched.states import State
from boxsched.store.records import NewWorkload, ProjectChanged, Submitted
from boxsched.store.steps.schedules import FIRST_PLACE, LastBuild
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, build, key
from tests.contract.test_versions import run

NOON = Schedule("0 12 * * *", "", "main")
NIGHT = Schedule("@daily", "Europe/Berlin", "näch't")


async def put(store: Store, *schedules: tuple[Schedule, float], now: float = NOW) -> Project:
    new = [NewSchedule(one, at) for one, at in schedules]
    project, _ = await store.put_project("web", "{}", None, schedules=new, now=now)
    return project


def fires(project: Project, at: float, to: float, number: int = 1) -> NewWorkload:
    firing = Firing(project.id, NOON, at, to, at, planned=at)
    return attrs.evolve(build(project, idempotency=key(f"k{number}")), firing=firing)


async def next_times(store: Store, project: Project) -> dict[Schedule, float]:
    found = await store.schedules_of(project.id)
    return {Schedule(one.cron, one.time_zone, one.branch): one.next_at for one in found}


async def test_schedules_follow_the_settings(store: Store) -> None:
    project = await put(store, (NOON, 10.0), (NIGHT, 20.0))
    assert await next_times(store, project) == {NOON: 10.0, NIGHT: 20.0}
    await put(store, (NIGHT, 99.0), (attrs.evolve(NOON, branch="other"), 30.0))
    assert await next_times(store, project) == {
        NIGHT: 20.0,
        attrs.evolve(NOON, branch="other"): 30.0,
    }
    await put(store)
    assert await next_times(store, project) == {}
    assert await store.next_schedule() is None


async def test_due_schedules_are_returned_in_order(store: Store) -> None:
    project = await put(store, (NOON, 20.0), (NIGHT, 10.0))
    assert await store.next_schedule() == 10.0
    assert await store.due_schedules(9.9, 10) == []
    found = await store.due_schedules(20.0, 10)
    assert [(one.project, one.project_name, one.schedule, one.next_at) for one in found] == [
        (project.id, "web", NIGHT, 10.0),
        (project.id, "web", NOON, 20.0),
    ]
    assert await store.due_schedules(20.0, 1) == found[:1]


async def test_a_build_moves_its_schedule_on(store: Store) -> None:
    project = await put(store, (NOON, 10.0), (NIGHT, 10.0))
    (done,) = await store.submit([fires(project, 10.0, 20.0)])
    assert isinstance(done, Submitted)
    assert await next_times(store, project) == {NOON: 20.0, NIGHT: 10.0}
    night, noon = sorted(await store.schedules_of(project.id), key=lambda one: one.next_at)
    assert (noon.fired_at, noon.skipped_at) == (10.0, None)
    assert noon.build == LastBuild(done.id, done.number, State.REGISTERED, None)
    assert (night.fired_at, night.workload, night.build) == (None, None, None)


async def test_two_nodes_with_one_time_make_one_build(store: Store) -> None:
    """In one transaction or in two; also where the former leader decided on another time."""
    project = await put(store, (NOON, 10.0))
    first, again, other = await store.submit(
        [fires(project, 10.0, 20.0), fires(project, 10.0, 20.0), build(project)]
    )
    assert isinstance(first, Submitted) and isinstance(other, Submitted)
    assert again == attrs.evolve(first, repeated=True)
    late = attrs.evolve(fires(project, 10.0, 30.0, 2))
    (refused, repeated) = await store.submit([late, fires(project, 10.0, 20.0)])
    assert isinstance(refused, ProjectChanged)
    assert repeated == attrs.evolve(first, repeated=True)
    assert await next_times(store, project) == {NOON: 20.0}
    (beyond,) = await store.submit([build(project)])
    assert isinstance(beyond, Submitted)
    assert beyond.number == other.number + 1, "what is refused takes no number"


async def test_a_deleted_schedule_has_no_build(store: Store) -> None:
    await put(store, (NOON, 10.0))
    project = await put(store)
    (refused,) = await store.submit([fires(project, 10.0, 20.0)])
    assert isinstance(refused, ProjectChanged)


async def test_a_skipped_time_is_reported_and_keeps_the_last_build(store: Store) -> None:
    project = await put(store, (NOON, 10.0))
    (done,) = await store.submit([fires(project, 10.0, 20.0)])
    skipped = Firing(project.id, NOON, 20.0, 30.0, 25.0, skipped_at=20.0, skipped="näh")
    for _ in range(2):
        await store.settle_schedules([skipped])
    late = attrs.evolve(skipped, skipped="by another node", next_at=99.0)
    await store.settle_schedules([late])
    (one,) = await store.schedules_of(project.id)
    assert (one.next_at, one.fired_at, one.skipped_at, one.skipped) == (30.0, 10.0, 20.0, "näh")
    assert isinstance(done, Submitted) and one.workload == done.id


async def test_schedules_decided_in_the_future_are_found(store: Store) -> None:
    await put(store, (NOON, 1e9), now=500.0)
    assert await store.ahead_schedules(500.0, 10) == []
    (one,) = await store.ahead_schedules(499.0, 10)
    assert one.schedule == NOON


async def test_settings_of_an_earlier_program_are_found(
    store: Store, db: DatabaseUnderTest
) -> None:
    project = await put(store, (NOON, 10.0))
    assert await store.unscheduled(10) == []
    run(db, "UPDATE project SET version = version + 1")
    (found,) = await store.unscheduled(10)
    assert (found.name, found.version) == ("web", project.version + 1)
    new = [NewSchedule(NIGHT, 20.0)]
    assert not await store.schedule_anew(project.id, project.version, new, NOW)
    assert await next_times(store, project) == {NOON: 10.0}
    assert await store.schedule_anew(project.id, found.version, new, NOW)
    assert await next_times(store, project) == {NIGHT: 20.0}
    assert await store.unscheduled(10) == []


async def test_a_deleted_project_leaves_no_schedules(store: Store, db: DatabaseUnderTest) -> None:
    await put(store, (NOON, 10.0))
    await store.delete_project("web")
    assert await store.schedules(FIRST_PLACE, 10) == []
    run(db, "UPDATE project SET version = version + 1")
    assert await store.unscheduled(10) == [], "nobody asks for a deleted one's"


async def test_a_schedule_is_dropped_unless_it_was_replaced(store: Store) -> None:
    project = await put(store, (NOON, 10.0))
    (due,) = await store.due_schedules(10.0, 1)
    await store.drop_schedule(attrs.evolve(due, next_at=9.0))
    assert await next_times(store, project) == {NOON: 10.0}
    await store.drop_schedule(due)
    assert await next_times(store, project) == {}


async def test_pages_list_all_schedules(store: Store) -> None:
    for name in ("a", "b"):
        new = [NewSchedule(one, 10.0) for one in (NOON, NIGHT)]
        await store.put_project(name, "{}", None, schedules=new, now=NOW)
    found, after = [], FIRST_PLACE
    while page := await store.schedules(after, 1):
        found += [(one.project_name, one.branch) for one in page]
        after = page[-1].place
    assert found == [(name, one.branch) for name in ("a", "b") for one in (NOON, NIGHT)]


async def test_the_database_has_a_clock(store: Store) -> None:
    import time

    assert await store.time() == pytest.approx(time.time(), abs=60.0)
    assert isinstance(await store.time(), float)
