"""Data that is kept for a limited time: idempotency keys of a project, and page sessions."""

import asyncio

import attrs
import pytest

from boxsched.model import ProjectId
from boxsched.node.retention import (
    PAUSE_SECONDS,
    SET_ASIDE_AT_MOST,
    SET_ASIDE_SECONDS,
    SLICE,
    Retention,
)
from boxsched.node.slices import LEAST_PAUSE_SECONDS
from boxsched.protocol import inbox
from boxsched.protocol.batches import DurationChange
from boxsched.protocol.shards import SHARD, Project
from boxsched.protocol.workers import NewWorker
from boxsched.store.records import KeyTaken, ProjectChanged, Submitted, Token
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, build, key, loaded
from tests.contract.test_versions import run
from tests.engine.harness import HeldClock

LONG_AGO = "UPDATE idempotency SET created_at = 0 WHERE key = '{}'"
OF_AN_OLDER_PROGRAM = "UPDATE idempotency SET created_at = NULL"


@pytest.fixture
async def ended(leader: Leader) -> tuple[Leader, Project, Submitted]:
    """Create a build under the key "k" and finish it, so that its project can be deleted."""
    project = await leader.project()
    done = await leader.submit(build(project, idempotency=key("k")))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.finish(done.id, 0)
    return leader, project, done


async def test_a_key_belongs_to_its_project_not_to_the_projects_name(
    ended: tuple[Leader, Project, Submitted],
) -> None:
    leader, _, first = ended
    store = leader.store
    again = attrs.evolve(first, repeated=True)
    assert await store.idempotency(key("k"), living=True) == again
    assert await store.delete_project("web")
    assert await store.idempotency(key("k"), living=True) is None
    assert await store.idempotency(key("k")) == again  # no other project has the name
    anew = await leader.project()
    second, third = await store.submit(
        [build(anew, idempotency=key("k", "b")), build(anew, idempotency=key("k", "b"))]
    )
    assert isinstance(second, Submitted) and isinstance(third, Submitted)
    assert second.id != first.id and not second.repeated
    assert third == attrs.evolve(second, repeated=True)
    assert await store.idempotency(key("k", "b"), living=True) == third
    assert await store.submit([build(anew, idempotency=key("k"))]) == [KeyTaken()]


async def test_a_submission_to_a_deleted_project_leaves_its_key_alone(
    ended: tuple[Leader, Project, Submitted],
) -> None:
    leader, project, first = ended
    assert await leader.store.delete_project("web")
    await leader.store.submit([build(project, idempotency=key("k"))])
    assert await leader.store.idempotency(key("k")) == attrs.evolve(first, repeated=True)


async def test_the_leader_is_notified_of_a_deleted_project_and_its_durations_are_deleted(
    ended: tuple[Leader, Project, Submitted],
) -> None:
    leader, project, _ = ended
    ran = DurationChange(project.id, "test", (1.0,), 1.0)
    await leader.commit(inbox=await leader.take_inbox(), durations=(ran,))
    assert await leader.store.delete_project("web")
    (entry,) = await leader.store.inbox(SHARD, 10)
    assert inbox.read(entry.kind, entry.payload) == inbox.ProjectSet(
        project.id, "web", None, deleted=True
    )
    anew = await leader.project()
    await leader.store.submit([build(attrs.evolve(anew, id=ProjectId(anew.id)))])
    entry = (await leader.store.inbox(SHARD, 10))[-1]
    told = inbox.read(entry.kind, entry.payload)
    assert isinstance(told, inbox.Submit) and told.jobs[0].expected_seconds == 3600.0


async def test_old_keys_are_deleted_oldest_first(leader: Leader, db: DatabaseUnderTest) -> None:
    project = await leader.project()
    for n in range(5):
        await leader.submit(build(project, idempotency=key(f"k{n}")))
    for age, old in enumerate(("k4", "k1", "k2")):
        run(db, LONG_AGO.format(old).replace("= 0", f"= {age}"))

    async def kept() -> list[int]:
        return [n for n in range(5) if await leader.store.idempotency(key(f"k{n}"))]

    assert await leader.store.drop_old_keys(60.0, 2) == 2
    assert await kept() == [0, 2, 3]
    assert await leader.store.drop_old_keys(60.0, 2) == 1
    assert await leader.store.drop_old_keys(60.0, 2) == 0
    assert await kept() == [0, 3]


async def test_the_age_of_keys_of_an_older_program_counts_from_now(
    leader: Leader, db: DatabaseUnderTest
) -> None:
    project = await leader.project()
    await leader.submit(build(project, idempotency=key("k")))
    run(db, OF_AN_OLDER_PROGRAM)
    assert await leader.store.drop_old_keys(60.0, 9) == 0
    assert await leader.store.drop_old_keys(60.0, 9) == 0
    assert await leader.store.drop_old_keys(-60.0, 9) == 1


async def test_expired_sessions_are_deleted_oldest_first(store: Store) -> None:
    for n in range(4):
        await store.put_session(f"s{n}", "admin", NOW + n)
    assert await store.drop_expired_sessions(NOW + 2, 2) == 2
    assert await store.drop_expired_sessions(NOW + 2, 2) == 1
    assert await store.session("s3", NOW) == "admin"


async def test_tokens_are_deleted_some_time_after_their_end(store: Store) -> None:
    for n, end in enumerate((1.0, 2.0, 3.0, None)):
        made = Token(f"token-{n}", f"digest-{n}", "admin", f"t{n}", 0.0, end)
        await store.put_token(made)
    assert await store.drop_old_tokens(60.0, 2) == 2
    assert [one.id for one in await store.tokens()] == ["token-2", "token-3"]
    assert await store.drop_old_tokens(60.0, 2) == 1
    assert [one.id for one in await store.tokens()] == ["token-3"]


async def test_after_a_full_slice_a_chore_continues_at_once_and_otherwise_waits(
    leader: Leader, db: DatabaseUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SLICE > 2
    monkeypatch.setattr("boxsched.node.retention.SLICE", 2)
    project, clock = await leader.project(), HeldClock(NOW)
    for n in range(4):
        await leader.submit(build(project, idempotency=key(f"k{n}")))
        if n != 1:
            run(db, LONG_AGO.format(f"k{n}"))
    await leader.store.put_session("s0", "admin", 1.0)
    retention = Retention(leader.store, clock, lambda: True)  # type: ignore[arg-type]
    assert await retention.run_once() == 3
    await leader.store.put_session("s1", "admin", 1.0)
    assert [await retention.run_once() for _ in range(3)] == [1, 0, 0]
    clock.time += PAUSE_SECONDS
    assert await retention.run_once() == 1
    assert await leader.store.idempotency(key("k1")) is not None


async def test_a_slow_slice_of_old_rows_is_followed_by_a_smaller_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = HeldClock(NOW), []

    async def slow(_: Store, then: float, limit: int) -> int:
        asked.append(limit)
        clock.time += 1.0 if len(asked) < 7 else 0.0
        return limit

    monkeypatch.setattr(Store, "drop_expired_sessions", slow)
    retention = Retention(store, clock, lambda: True)  # type: ignore[arg-type]
    for _ in range(9):
        await retention.run_once()
    assert asked == [1000, 500, 250, 125, 62, 50, 50, 100, 200]


async def test_a_leader_continues_as_long_as_there_are_more_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows are added in PAUSE_SECONDS."""
    pauses: list[float] = []
    deleted: list[int] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise asyncio.CancelledError

    async def old(_: Store, before: float, limit: int) -> int:
        deleted.append(limit if len(deleted) < 3 else 0)
        return deleted[-1]

    monkeypatch.setattr("boxsched.node.retention.asyncio.sleep", sleep)
    monkeypatch.setattr(Store, "drop_old_deliveries", old)
    retention = Retention(store, HeldClock(NOW), lambda: True)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await retention.run()
    assert deleted == [SLICE, SLICE, SLICE, 0]
    at_once = LEAST_PAUSE_SECONDS
    assert pauses == [PAUSE_SECONDS, at_once, at_once, at_once, PAUSE_SECONDS]


async def test_job_names_that_a_leader_forgets_are_deleted(leader: Leader) -> None:
    project = await leader.project()
    ran = [DurationChange(project.id, name, (2.0,), 2.0) for name in ("a", "b", "c")]
    await leader.commit(durations=tuple(ran))
    forgotten = [attrs.evolve(one, recent=(), expected_seconds=0.0) for one in ran[:2]]
    await leader.commit(durations=(*forgotten, attrs.evolve(ran[2], recent=(2.0, 3.0))))
    assert (await loaded(leader.store)).state.durations == {(project.id, "c"): (2.0, 3.0)}


# --- Commands that were set aside --------------------------------------------------------------

ASIDE = "INSERT INTO set_aside (id, shard, kind, payload, error, at) VALUES {}"


def set_aside(db: DatabaseUnderTest, at_of: dict[int, float]) -> None:
    rows = ", ".join(f"({id_}, 1, 'stop', '[]', 'e', {at})" for id_, at in at_of.items())
    db.plant(ASIDE.format(rows))


async def kept(store: Store) -> list[int]:
    return [one.id for one in await store.set_aside(10_000)]


async def test_an_old_command_that_was_set_aside_is_deleted(db: DatabaseUnderTest) -> None:
    store, clock = await db.open(), HeldClock()
    set_aside(db, {1: clock.now() - SET_ASIDE_SECONDS - 1.0, 2: clock.now() - 3_600.0})
    chore = Retention(store, clock, lambda: True)  # type: ignore[arg-type]
    assert await chore.run_once() == 1
    assert await kept(store) == [2]
    assert (await store.set_aside_one(2)) == (await store.set_aside(1))[0]
    assert await store.set_aside_one(1) is None
    assert chore.set_aside_dropped == 1
    assert await chore.run_once() == 0


async def test_of_too_many_commands_that_were_set_aside_the_latest_stay(
    db: DatabaseUnderTest,
) -> None:
    store, clock = await db.open(), HeldClock()
    set_aside(db, {id_: clock.now() for id_ in range(1, SET_ASIDE_AT_MOST + SLICE + 51)})
    chore = Retention(store, clock, lambda: True)  # type: ignore[arg-type]
    assert [await chore.run_once() for _ in range(3)] == [SLICE, 50, 0]
    latest = SET_ASIDE_AT_MOST + SLICE + 50
    assert await kept(store) == list(range(latest, latest - SET_ASIDE_AT_MOST, -1))
    assert chore.set_aside_dropped == SLICE + 50


async def test_a_deleted_project_is_removed_once_nothing_refers_to_it(leader: Leader) -> None:
    """For each name, the row with the highest number stays."""
    store = leader.store

    await leader.project("never-built")
    await leader.project("living")
    for _ in range(3):
        built = await leader.project("built")
        await store.delete_project("built")
    ran = await leader.project("ran")
    done = await leader.submit(build(ran))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.finish(done.id, 0)
    for name in ("never-built", "ran"):
        assert await store.delete_project(name)
    assert built.name == "built"
    swept = await store.sweep_projects(ProjectId(0), 100)
    assert (swept.place, swept.dropped) == (None, 4)
    assert {one.name for one in await store.projects()} == {"living"}
    found = await store.workload(done.id)
    assert found is not None and found.project_name == "ran"
    again = await leader.submit(build(await leader.project("ran")))
    assert again.number == 2


async def test_the_numbers_of_a_name_continue_however_often_it_was_deleted(leader: Leader) -> None:
    store = leader.store
    for expected in (1, 2):
        project = await leader.project()
        done = await leader.submit(build(project))
        assert done.number == expected
        await leader.queue(done.id)
        await leader.start(done.id, 0)
        await leader.finish(done.id, 0)
        await leader.commit(inbox=await leader.take_inbox())
        assert await store.delete_project("web")
        await leader.project()  # without a build, with the numbers of earlier projects
        assert await store.delete_project("web")
    place, dropped = ProjectId(0), 0
    while True:  # slice by slice
        swept = await store.sweep_projects(place, 1)
        dropped += swept.dropped
        if swept.place is None:
            break
        place = swept.place
    assert dropped == 1, "both that have builds stay, and the last that knows the number"
    assert (await leader.submit(build(await leader.project()))).number == 3


async def test_a_submission_to_a_deleted_project_is_refused(leader: Leader) -> None:
    gone = await leader.project()
    assert await leader.store.delete_project("web")
    assert (await leader.store.sweep_projects(ProjectId(0), 9)).dropped == 1
    (outcome,) = await leader.store.submit([build(gone)])
    assert isinstance(outcome, ProjectChanged)


async def test_revoked_tokens_are_deleted_and_those_of_data_folders_stay(
    store: Store, db: DatabaseUnderTest
) -> None:
    for id_ in ("token-a", "token-b", "token-c", "file-d"):
        await store.put_token(Token(id_, f"digest {id_}", "admin", id_, 0.0, None))
    for id_ in ("token-a", "token-b", "file-d"):
        assert await store.revoke_token(id_)
    assert await store.drop_old_tokens(60.0, 9) == 0
    run(db, "UPDATE token SET revoked_at = 1 WHERE id <> 'token-b'")
    run(db, "UPDATE token SET revoked_at = NULL WHERE id = 'token-b'")  # of an older program
    assert await store.drop_old_tokens(60.0, 9) == 1
    run(db, "UPDATE token SET revoked_at = 1 WHERE revoked")
    assert await store.drop_old_tokens(60.0, 9) == 1, "its age counted from the first look"
    assert [one.id for one in await store.tokens()] == ["token-c"]
    await store.put_token(Token("file-d", "digest file-d", "admin", "again", 0.0, None))
    assert [one.id for one in await store.tokens()] == ["token-c"], (
        "its node's start: still revoked"
    )


async def test_nodes_absent_for_long_are_deleted_with_their_in_process_workers(
    store: Store, db: DatabaseUnderTest
) -> None:
    for name in ("old", "here", "new", "busy"):
        await store.put_node(name, "http://x", "1")
        own = NewWorker(f"in-process@{name}", f"in-process@{name}", "in-process", name, ())
        connected = await store.connect_worker(own)
        await store.disconnect_workers([connected.connection])
    run(db, "UPDATE node SET started_at = 1 WHERE name <> 'new'")
    run(db, "UPDATE worker SET seen_at = 1 WHERE node <> 'busy'")
    away = ["old", "new", "busy", "nobody"]
    assert await store.drop_old_nodes(away, 60.0) == ["old"]
    assert [one.name for one in await store.nodes()] == ["here", "new", "busy"]
    left = {one.name for one in await store.workers()}
    assert left == {"in-process@here", "in-process@new", "in-process@busy"}


async def test_a_round_checks_which_nodes_are_alive(leader: Leader, db: DatabaseUnderTest) -> None:
    for name in ("old", "here"):
        await leader.store.put_node(name, "http://x", "1")
    run(db, "UPDATE node SET started_at = 1")
    retention = Retention(
        leader.store,
        HeldClock(NOW),  # type: ignore[arg-type]
        lambda: True,
        lambda name: name == "here",
    )
    assert await retention.run_once() == 1
    assert [one.name for one in await leader.store.nodes()] == ["here"]
