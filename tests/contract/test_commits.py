"""All jobs and attempts of a workload run one commit: the first that any of them found."""

import asyncio

import attrs
import pytest

from boxsched.model import WorkloadId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.assignments import CloneOptions
from boxsched.protocol.shards import SHARD
from boxsched.states import JobState
from tests.contract.store_data import NOW, Leader, assigned, build, spec, stopping

FIRST, SECOND = "a1" * 20, "b2" * 20


async def running(leader: Leader, commit: str | None, **changes: object) -> WorkloadId:
    project = await leader.project()
    new = build(project, commit=commit, jobs=(spec(), spec("lint")), **changes)
    id_ = (await leader.submit(new)).id
    await leader.queue(id_)
    await leader.start(id_, 0, 1)
    return id_


async def shown(leader: Leader, id_: WorkloadId) -> str | None:
    found = await leader.store.workload(id_)
    assert found is not None
    return found.commit


async def told(leader: Leader) -> list[inbox.Command]:
    entries = await leader.store.inbox(SHARD, 10)
    return [inbox.read(entry.kind, entry.payload) for entry in entries if entry.kind == "commit"]


async def test_the_first_commit_found_holds_for_all_jobs(leader: Leader) -> None:
    id_ = await running(leader, None)
    token, fix = leader.batch, leader.store.fix_commit
    assert await fix(job_id(id_, 1), token, FIRST) == FIRST
    assert await fix(job_id(id_, 0), token, SECOND) == FIRST
    assert await fix(job_id(id_, 1), token, FIRST) == FIRST
    assert await shown(leader, id_) == FIRST
    assert {each.commit for each in await leader.assignments()} == {FIRST}
    assert await told(leader) == [inbox.CommitFixed(id_, FIRST)]


async def test_of_concurrent_finds_one_is_first(leader: Leader) -> None:
    id_ = await running(leader, None)
    found = [FIRST, SECOND, "c3" * 20, "d4" * 20]
    answers = await asyncio.gather(
        *(leader.store.fix_commit(job_id(id_, n % 2), leader.batch, c) for n, c in enumerate(found))
    )
    assert set(answers) == {await shown(leader, id_)}
    assert len(await told(leader)) == 1


@pytest.mark.parametrize("asked", [FIRST[:7], FIRST[:12].upper(), FIRST.upper()])
async def test_the_whole_hash_replaces_the_requested_short_hash(leader: Leader, asked: str) -> None:
    id_ = await running(leader, asked)
    assert await leader.store.fix_commit(job_id(id_, 0), leader.batch, FIRST) == FIRST
    assert await leader.store.fix_commit(job_id(id_, 1), leader.batch, FIRST[:39] + "0") == FIRST
    assert await shown(leader, id_) == FIRST


async def test_a_commit_other_than_the_requested_one_is_refused(leader: Leader) -> None:
    for asked in (SECOND, SECOND[:7]):
        id_ = await running(leader, asked)
        assert await leader.store.fix_commit(job_id(id_, 0), leader.batch, FIRST) == asked
        assert await shown(leader, id_) == asked
        await leader.finish(id_, 0, 1)


async def test_an_old_lease_fixes_no_commit(leader: Leader) -> None:
    id_ = await running(leader, None)
    assert await leader.store.fix_commit(job_id(id_, 0), leader.batch - 1, FIRST) is None
    assert await leader.store.fix_commit(job_id(id_, 7), leader.batch, FIRST) is None
    token = leader.batch
    await leader.finish(id_, 0, 1)
    assert await leader.store.fix_commit(job_id(id_, 0), token, FIRST) is None
    assert await shown(leader, id_) is None


@pytest.mark.parametrize("asked", [None, FIRST[:7]])
async def test_a_rebuild_runs_the_commit_of_the_original(leader: Leader, asked: str | None) -> None:
    """Also where it was requested before the original had found its commit."""
    original = await running(leader, asked)
    project = await leader.project()
    again = (await leader.submit(build(project, commit=asked, rebuild_of=original))).id
    await leader.store.fix_commit(job_id(original, 0), leader.batch, FIRST)
    await leader.finish(original, 0, 1)
    await leader.queue(again)
    await leader.start(again, 2)
    found = FIRST if asked else SECOND
    assert await leader.store.fix_commit(job_id(again, 0), leader.batch, found) == FIRST
    assert await shown(leader, again) == FIRST


async def test_the_repository_is_the_one_of_the_submission(leader: Leader) -> None:
    one = '{"repository": "https://example.org/one.git"}'
    other = '{"repository": "https://example.org/other.git"}'
    project = await leader.project(settings=one)
    cloned = (await leader.submit(build(project))).id
    await leader.project(settings=other)
    bare = await leader.project("bare")
    empty = (await leader.submit(build(bare))).id
    await leader.project("bare", one)
    await leader.queue(cloned, empty)
    await leader.start(cloned, 0)
    await leader.start(empty, 1)
    found = {each.workload: each.repository for each in await leader.assignments()}
    assert found == {cloned: "https://example.org/one.git", empty: None}


async def test_the_project_decides_how_it_is_cloned(leader: Leader) -> None:
    project = await leader.project(settings='{"clone": {"depth": 3, "submodules": true}}')
    id_ = (await leader.submit(build(project))).id
    await leader.queue(id_)
    await leader.start(id_, 0)
    (found,) = await leader.assignments()
    assert found.clone == CloneOptions(depth=3, submodules=True)
    await leader.project(settings="{}")
    (found,) = await leader.assignments()
    assert found.clone is None


async def test_whether_commands_are_shown_is_stored_with_the_job(leader: Leader) -> None:
    project = await leader.project()
    hidden = attrs.evolve(spec("lint"), show_commands=False)
    id_ = (await leader.submit(build(project, jobs=(spec(), hidden)))).id
    await leader.queue(id_)
    await leader.start(id_, 0, 1)
    found = {each.name: each.show_commands for each in await leader.assignments()}
    assert found == {"test": True, "lint": False}
    stored = await leader.store.workload(id_)
    assert stored is not None
    assert [job.show_commands for job in stored.jobs] == [True, False]


async def test_a_stop_tells_the_worker_its_reason(leader: Leader) -> None:
    id_ = await running(leader, None)
    (one, other) = sorted(await leader.assignments(), key=lambda each: each.job)
    assert (one.stop_reason, other.stop_reason) == (None, None)
    change = attrs.evolve(stopping(id_, NOW + 50), reason="stopped by ada")
    jobs = tuple(
        attrs.evolve(
            assigned(each.job, each.box, each.lease_token), state=JobState.STOPPING, reason=reason
        )
        for each, reason in ((one, None), (other, "time limit of 60 s"))
    )
    await leader.commit(workloads=(change,), jobs=jobs)
    found = sorted(await leader.assignments(), key=lambda each: each.job)
    assert [each.stop_reason for each in found] == ["stopped by ada", "time limit of 60 s"]
