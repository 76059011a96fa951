"""Builds that are submitted without jobs, and the jobs that are read for them."""

from boxsched.model import ProjectId, WorkloadId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.batches import DurationChange
from boxsched.protocol.shards import SHARD, Project
from boxsched.states import Result
from tests.contract.store_data import NOW, Leader, build, finished, spec

COMMIT = "1a410efbd13591db07496601ebc7a059dd55cfe9"


async def without_jobs(leader: Leader, project: Project, branch: str = "main") -> WorkloadId:
    return (await leader.submit(build(project, branch, jobs=(), commit=None))).id


async def told(leader: Leader) -> list[inbox.Planned]:
    commands = [inbox.read(one.kind, one.payload) for one in await leader.store.inbox(SHARD, 100)]
    return [one for one in commands if isinstance(one, inbox.Planned)]


async def test_builds_without_jobs_are_found_in_order_until_they_get_jobs_or_end(
    leader: Leader,
) -> None:
    project = await leader.project()
    await leader.submit(build(project, "with"))
    first, second, third = [await without_jobs(leader, project, f"b{n}") for n in range(3)]
    store, none = leader.store, WorkloadId(0)
    assert await store.unplanned(project.id, none, 10) == [first, second, third]
    assert await store.unplanned(project.id, none, 2) == [first, second]
    assert await store.unplanned(project.id, first, 10) == [second, third]
    await store.plan(first, (spec(),), COMMIT)
    await leader.commit(ended=(finished(second, NOW, Result.CANCELED),))
    assert await store.unplanned(project.id, none, 10) == [third]


async def test_projects_with_builds_without_jobs_are_found_with_the_first_of_each(
    leader: Leader,
) -> None:
    none = WorkloadId(0)
    projects = [await leader.project(f"p{n}") for n in range(4)]
    ids = sorted(one.id for one in projects)
    builds = {
        one.id: [await without_jobs(leader, one, f"b{n}") for n in range(2)] for one in projects[1:]
    }
    store = leader.store
    assert await store.unplanned_projects(ProjectId(0), 10) == sorted(builds)
    assert await store.unplanned_projects(ProjectId(0), 2) == sorted(builds)[:2]
    assert await store.unplanned_projects(sorted(builds)[1], 2) == sorted(builds)[2:]
    assert await store.unplanned_projects(ids[-1], 2) == []
    behind = dict.fromkeys(ids, none)
    firsts = {id_: found[0] for id_, found in builds.items()}
    assert await store.first_unplanned(behind) == firsts
    assert await store.first_unplanned({**behind, ids[1]: builds[ids[1]][0]}) == {
        **firsts,
        ids[1]: builds[ids[1]][1],
    }
    assert await store.first_unplanned({ids[1]: builds[ids[1]][1]}) == {}
    assert await store.first_unplanned({}) == {}


async def test_jobs_that_were_read_are_stored_with_their_commit_and_published(
    leader: Leader,
) -> None:
    project = await leader.project()
    passed = DurationChange(project.id, "unit", (7.5,), 7.5)
    await leader.commit(durations=(passed,))
    id_ = await without_jobs(leader, project)
    assert await leader.store.plan(id_, (spec("unit"), spec("lint", 60.0)), COMMIT)
    stored = await leader.store.workload(id_)
    assert stored is not None
    assert (stored.boxes, stored.commit) == (2, COMMIT)
    assert [(one.id, one.name, one.expected_seconds) for one in stored.jobs] == [
        (job_id(id_, 0), "unit", 7.5),
        (job_id(id_, 1), "lint", 60.0),
    ]
    assert (stored.jobs[0].commands, stored.jobs[0].environment) == (("make test",), {"CI": "true"})
    asked = (
        inbox.SubmitJob("unit", "default", 3600.0, 7.5),
        inbox.SubmitJob("lint", "default", 60.0, 60.0),
    )
    assert await told(leader) == [inbox.Planned(id_, asked, COMMIT, None)]


async def test_reading_the_jobs_again_changes_nothing(leader: Leader) -> None:
    project = await leader.project()
    id_ = await without_jobs(leader, project)
    assert await leader.store.plan(id_, (spec("unit"),), COMMIT)
    assert not await leader.store.plan(id_, (spec("other"), spec("lint")), "f" * 40)
    stored = await leader.store.workload(id_)
    assert stored is not None
    assert ([one.name for one in stored.jobs], stored.commit) == (["unit"], COMMIT)
    assert len(await told(leader)) == 1


async def test_a_build_that_has_ended_gets_no_jobs(leader: Leader) -> None:
    project = await leader.project()
    id_ = await without_jobs(leader, project)
    await leader.commit(ended=(finished(id_, NOW, Result.CANCELED),))
    assert not await leader.store.plan(id_, (spec(),), COMMIT)
    assert not await leader.store.plan(WorkloadId(77), (spec(),), COMMIT)
    assert await told(leader) == []


async def test_the_reason_names_the_lower_of_both_limits(leader: Leader) -> None:
    jobs = tuple(spec(f"j{n}") for n in range(4))
    store = leader.store
    organization = await store.organization()
    for of_project, plan, least in ((3, None, 3), (None, 3, 3), (3, 9, 3), (9, 3, 3), (4, 4, None)):
        changed = type(organization)(
            organization.id, organization.name, organization.policy, plan, None
        )
        await store.set_organization(changed)
        project, _ = await store.put_project("web", "{}", of_project)
        id_ = await without_jobs(leader, project)
        await leader.commit(inbox=await leader.take_inbox())
        assert await store.plan(id_, jobs, COMMIT)
        (said,) = await told(leader)
        stored = await store.workload(id_)
        assert stored is not None
        if least is None:
            assert (said.reason, stored.boxes) == (None, 4)
        else:
            reason = f"asks for 4 Boxes, more than the plan or its project allows ({least})"
            assert said == inbox.Planned(id_, None, COMMIT, reason)
            assert (stored.boxes, stored.jobs, stored.commit) == (0, (), COMMIT)


async def test_the_reason_why_a_file_was_not_read_is_reported(leader: Leader) -> None:
    project = await leader.project()
    for branch, commit in (("main", None), ("next", COMMIT)):
        id_ = await without_jobs(leader, project, branch)
        await leader.store.fail_plan(id_, "there is no file", commit)
        assert (await told(leader))[-1] == inbox.Planned(id_, None, commit, "there is no file")
        stored = await leader.store.workload(id_)
        assert stored is not None
        assert (stored.commit, stored.boxes) == (commit, 0)


async def test_a_commit_that_is_found_too_late_changes_nothing(leader: Leader) -> None:
    """The build has its jobs already: another node read the file at an earlier commit."""
    project = await leader.project()
    id_ = await without_jobs(leader, project)
    assert await leader.store.plan(id_, (spec(),), COMMIT)
    await leader.store.fail_plan(id_, "there is no file", "f" * 40)
    stored = await leader.store.workload(id_)
    assert stored is not None
    assert (stored.commit, stored.boxes) == (COMMIT, 1)
