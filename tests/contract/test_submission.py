"""Submissions: numbers, keys, groups, and what others see of them."""

import asyncio

import pytest

from boxsched.model import Cancellation, Kind, job_id
from boxsched.protocol import inbox
from boxsched.protocol.batches import DurationChange
from boxsched.protocol.shards import SHARD
from boxsched.states import JobState, State
from boxsched.store.records import KeyTaken, NewWorkload, ProjectChanged, Submitted
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, build, deploy, key, session, spec

_KEPT = (
    "project kind branch tag server commit message author priority cancellation fail_fast "
    "created_at rebuild_of build public_key"
)


async def test_everything_submitted_is_returned(leader: Leader) -> None:
    project = await leader.project()
    earlier = await leader.submit(build(project))
    new = build(
        project,
        priority=70,
        cancellation=Cancellation.ALL,
        fail_fast=True,
        jobs=(spec("unit"), spec("lint", 60.5)),
        rebuild_of=earlier.id,
        message="it's; a \u2603 -- test",
        submitted_by="ada's laptop",
    )
    done = await leader.submit(new)
    shown = await leader.store.workload(done.id)
    assert shown is not None
    for field in [
        "project",
        "kind",
        "branch",
        "tag",
        "server",
        "commit",
        "message",
        "author",
        "priority",
        "cancellation",
        "fail_fast",
        "created_at",
        "rebuild_of",
        "build",
        "public_key",
        "submitted_by",
    ]:
        assert getattr(shown, field) == getattr(new, field), field
    assert (shown.id, shown.number, shown.boxes) == (done.id, 2, 2)
    assert (shown.state, shown.result, shown.queued_at) == (State.REGISTERED, None, None)
    unit, lint = shown.jobs
    assert (unit.id, lint.id) == (job_id(done.id, 0), job_id(done.id, 1))
    assert (lint.name, lint.timeout_seconds, lint.expected_seconds) == ("lint", 60.5, 60.5)
    assert (unit.commands, unit.environment) == (("make test",), {"CI": "true"})
    assert (unit.state, unit.attempt, unit.box) == (JobState.WAITING, 0, None)


async def test_deploys_and_sessions_are_returned_too(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(deploy(project))
    opened = await leader.submit(session(project, build=done.id))
    shown = await leader.store.workload(opened.id)
    assert shown is not None
    assert (shown.kind, shown.build, shown.public_key) == (Kind.SSH, done.id, "ssh-ed25519 AAAA")


async def test_numbers_follow_the_groups_order_in_each_project(leader: Leader) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    outcomes = await leader.store.submit([build(p) for p in (app, web, web, app, web)])
    assert [o.number for o in outcomes if isinstance(o, Submitted)] == [1, 1, 2, 2, 3]
    ids = [o.id for o in outcomes if isinstance(o, Submitted)]
    assert ids == sorted(set(ids))
    (again,) = await leader.store.submit([build(web)])
    assert isinstance(again, Submitted)
    assert again.number == 4


async def test_groups_at_once_get_different_numbers(leader: Leader) -> None:
    project = await leader.project()
    groups = await asyncio.gather(
        *(leader.store.submit([build(project)] * size) for size in (1, 2, 3, 5, 8))
    )
    numbers = [o.number for group in groups for o in group if isinstance(o, Submitted)]
    assert sorted(numbers) == list(range(1, 20))


@pytest.mark.parametrize("size", [0, 1, 5, 7, 100, 300])
async def test_groups_may_have_any_size(leader: Leader, size: int) -> None:
    project = await leader.project()
    group = [build(project, f"b{i}", idempotency=key(f"k{i}")) for i in range(size)]
    outcomes = await leader.store.submit(group)
    assert len(outcomes) == size
    assert len(await leader.store.unfinished()) == size
    assert await leader.store.submit(group) == [
        Submitted(o.id, o.number, repeated=True) for o in outcomes if isinstance(o, Submitted)
    ]


async def test_a_workload_may_have_a_thousand_jobs(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(build(project, jobs=tuple(spec(f"j{i}") for i in range(1000))))
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert [job.name for job in shown.jobs] == [f"j{i}" for i in range(1000)]


async def test_the_leader_finds_the_submission_in_its_inbox(leader: Leader) -> None:
    project = await leader.project()
    await leader.queue()
    new = build(project, cancellation=Cancellation.QUEUED, fail_fast=True)
    done = await leader.submit(new)
    (entry,) = await leader.store.inbox(SHARD, 10)
    assert inbox.read(entry.kind, entry.payload) == inbox.Submit(
        done.id, project.id, 1, "build", "main", None, None, new.message, new.author, new.commit,
        50, NOW, "queued", True, (inbox.SubmitJob("test", "default", 3600.0, 3600.0),),
    )  # fmt: skip


# --- Idempotency (I6, V13) ------------------------------------------------------------------


async def test_a_key_with_the_same_body_gives_the_first_answer_again(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    first = await leader.submit(build(project, idempotency=key("k")))
    assert not first.repeated
    await leader.store.put_project("web", "{}", 5)
    store = await db.reopen()
    again = await store.submit([build(project, idempotency=key("k"))])
    assert again == [Submitted(first.id, first.number, repeated=True)], "whatever changed since"
    assert len(await store.unfinished()) == 1


async def test_a_key_with_another_body_is_refused(leader: Leader) -> None:
    project = await leader.project()
    await leader.submit(build(project, idempotency=key("k", "a")))
    assert await leader.store.submit([build(project, idempotency=key("k", "b"))]) == [KeyTaken()]
    assert len(await leader.store.unfinished()) == 1


async def test_a_key_may_be_repeated_within_one_group(leader: Leader) -> None:
    project = await leader.project()
    bodies = ["a", "a", "b"]
    group = [build(project, idempotency=key("k", body)) for body in bodies]
    first, second, third = await leader.store.submit(group)
    assert isinstance(first, Submitted)
    assert second == Submitted(first.id, first.number, repeated=True)
    assert third == KeyTaken()
    assert [w.id for w in await leader.store.unfinished()] == [first.id]


async def test_a_refused_request_does_not_use_up_its_key(leader: Leader) -> None:
    project = await leader.project()
    stale = build(project, project_version=99, idempotency=key("k"))
    assert await leader.store.submit([stale, stale]) == [ProjectChanged(), ProjectChanged()]
    done = await leader.submit(build(project, idempotency=key("k")))
    assert (done.number, done.repeated) == (1, False)


async def test_keys_of_two_callers_are_independent(leader: Leader) -> None:
    project = await leader.project()
    mine = await leader.submit(build(project, idempotency=key("k")))
    other = key("k", "b")
    theirs = await leader.submit(
        build(project, idempotency=type(other)("token-2 /builds", other.key, other.body_sha256))
    )
    assert mine.id != theirs.id


# --- Settings that changed ------------------------------------------------------------------


async def test_only_outdated_members_are_removed_from_a_group(leader: Leader) -> None:
    old = await leader.project("web")
    new = await leader.project("web")
    other = await leader.project("app")
    outcomes = await leader.store.submit([build(p) for p in (old, new, other, old, new)])
    assert [type(o) for o in outcomes] == [
        ProjectChanged,
        Submitted,
        Submitted,
        ProjectChanged,
        Submitted,
    ]
    assert [o.number for o in outcomes if isinstance(o, Submitted)] == [1, 1, 2], "no gap"


async def test_a_deleted_project_is_refused(leader: Leader) -> None:
    project = await leader.project()
    await leader.store.delete_project("web")
    assert await leader.store.submit([build(project)]) == [ProjectChanged()]


# --- Expected durations ---------------------------------------------------------------------


async def test_expected_durations_come_from_the_history_of_that_job_name(leader: Leader) -> None:
    project = await leader.project()
    other = await leader.project("app")
    done = await leader.submit(build(project))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    expected = 2 ** (23 / 4)
    await leader.finish(
        done.id, 0, durations=(DurationChange(project.id, "test", (50.1, 53.8), expected),)
    )
    jobs = (spec("test", 600.0), spec("lint", 60.0))
    mine = await leader.submit(build(project, jobs=jobs))
    theirs = await leader.submit(build(other, jobs=jobs))
    shown = [await leader.store.workload(each.id) for each in (mine, theirs)]
    assert [[job.expected_seconds for job in w.jobs] for w in shown if w] == [
        [expected, 60.0],
        [600.0, 60.0],
    ]
    told = inbox.read("submit", (await leader.store.inbox(SHARD, 10))[0].payload)
    assert isinstance(told, inbox.Submit)
    assert [job.expected_seconds for job in told.jobs] == [expected, 60.0], "to the last digit"


async def test_no_job_is_expected_to_run_past_its_time_limit(leader: Leader) -> None:
    """The time limit was lowered after the runs in the history."""
    project = await leader.project()
    done = await leader.submit(build(project))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    durations = (DurationChange(project.id, "test", (50.1, 53.8), 64.0),)
    await leader.finish(done.id, 0, durations=durations)
    one = await leader.submit(build(project, jobs=(spec("test", 20.0),)))
    shown = await leader.store.workload(one.id)
    assert shown is not None and shown.jobs[0].expected_seconds == 20.0
    told = inbox.read("submit", (await leader.store.inbox(SHARD, 10))[0].payload)
    assert isinstance(told, inbox.Submit) and told.jobs[0].expected_seconds == 20.0


# --- Cancelled callers ----------------------------------------------------------------------


async def test_a_cancelled_caller_leaves_all_of_it_or_nothing(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    group: list[NewWorkload] = [build(project, jobs=(spec(), spec("lint")))] * 50
    for ticks in range(20):
        task = asyncio.create_task(leader.store.submit(group))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    leader.store = await db.reopen()  # started work is done before closing
    last = await leader.submit(build(project))
    stored = await leader.store.unfinished()
    assert last.number == len(stored)
    assert (last.number - 1) % 50 == 0
    assert [w.number for w in stored] == list(range(1, last.number + 1))


async def test_commands_keep_their_order_and_stay_until_a_batch_takes_them(store: Store) -> None:
    commands = [("stop", b'[%d,"ada"]' % i) for i in range(10)]
    await store.ask(SHARD, commands[:3])
    await store.ask(SHARD, commands[3:])
    leader = await Leader(store).lead(boxes=0)
    entries = await store.inbox(SHARD, 1000)
    assert [(entry.kind, entry.payload) for entry in entries] == commands
    assert [e.id for e in await store.inbox(SHARD, 4)] == [e.id for e in entries[:4]]
    await leader.commit(inbox=tuple(entries[i].id for i in (0, 1, 4, 9)))
    left = [entry.payload for entry in await store.inbox(SHARD, 1000)]
    assert left == [commands[i][1] for i in (2, 3, 5, 6, 7, 8)], "only those that were named"
    await leader.commit(inbox=await leader.take_inbox())
    await store.ask(SHARD, commands[:1])
    (again,) = await store.inbox(SHARD, 10)
    assert again.id > entries[-1].id, "an id is never used again"
