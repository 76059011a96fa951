"""Pages of workloads: every combination of filters, each with a limited number of rows."""

import itertools
from collections.abc import Iterator, Sequence

import attrs
import pytest

from boxsched.errors import Invalid
from boxsched.model import Kind, ProjectId, WorkloadId
from boxsched.states import Result, State
from boxsched.store.records import Submitted, Workload, WorkloadFilter, WorkloadPage
from boxsched.store.steps import pages
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, build, deploy, finished, session, spec

KINDS = (None, Kind.BUILD, Kind.DEPLOY, Kind.SSH)
STATES = (None, State.REGISTERED, State.QUEUED, State.FINISHED)
RESULTS = (None, Result.CANCELED)
BRANCHES = (None, "main", "x", "nope")
SERVERS = (None, "production", "nope")


async def filled(leader: Leader) -> tuple[list[Workload], Sequence[ProjectId]]:
    web, app = await leader.project("web"), await leader.project("app")
    group = [
        new
        for turn in range(6)
        for new in (
            build(web, "main"),
            build(app, "x" if turn % 2 else "main"),
            attrs.evolve(deploy(web, "production"), branch="main"),
            deploy(app, "staging"),
            session(web, branch="x"),
        )
    ]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    await leader.commit(ended=tuple(finished(id_, NOW, Result.CANCELED) for id_ in ids[::3]))
    await leader.queue(*(id_ for id_ in (ids[1], ids[4], ids[8])))
    found = [await leader.store.workload(id_) for id_ in reversed(ids)]
    return [one for one in found if one is not None], (web.id, app.id)


async def walked(store: Store, wanted: WorkloadFilter) -> tuple[list[WorkloadId], int]:
    """Return the workloads of all pages, and the number of pages."""
    seen: list[WorkloadId] = []
    for count in itertools.count(1):
        page = await store.workloads(wanted)
        assert len(page.workloads) <= wanted.limit
        seen += [one.id for one in page.workloads]
        if page.next is None:
            return seen, count
        wanted = WorkloadFilter(
            wanted.kind, wanted.state, wanted.result, wanted.project, wanted.branch,
            wanted.server, page.next, wanted.limit,
        )  # fmt: skip
    raise AssertionError


def filters(projects: Sequence[ProjectId]) -> Iterator[WorkloadFilter]:
    for project, branch, server, kind, state, result in itertools.product(
        (None, *projects), BRANCHES, SERVERS, KINDS, STATES, RESULTS
    ):
        yield WorkloadFilter(kind, state, result, project, branch, server, limit=3)


def asked_for(one: Workload, wanted: WorkloadFilter) -> bool:
    return all(
        value is None or value == own
        for value, own in (
            (wanted.kind, one.kind),
            (wanted.state, one.state),
            (wanted.result, one.result),
            (wanted.project, one.project),
            (wanted.branch, one.branch),
            (wanted.server, one.server),
        )
    )


async def test_every_combination_of_filters_finds_the_right_workloads(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when only few rows are read for a page, which may then be empty."""
    monkeypatch.setattr(pages, "LOOKED_AT_MOST", 7)
    monkeypatch.setattr(pages, "WALK_AT_MOST", 5)
    every, projects = await filled(leader)
    for wanted in filters(projects):
        seen, _ = await walked(leader.store, wanted)
        assert seen == [one.id for one in every if asked_for(one, wanted)], wanted


async def test_a_page_looks_at_a_limited_number_of_rows_and_says_where_to_continue(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await leader.project()
    group = [build(project, "other" if n else "rare") for n in range(100)]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    monkeypatch.setattr(pages, "LOOKED_AT_MOST", 30)
    monkeypatch.setattr(pages, "WALK_AT_MOST", 10)
    wanted = WorkloadFilter(project=project.id, state=State.REGISTERED, server="none", limit=5)
    assert await leader.store.workloads(wanted) == WorkloadPage((), None), "an index says so"
    wanted = WorkloadFilter(project=project.id, kind=Kind.DEPLOY, limit=5)
    assert await leader.store.workloads(wanted) == WorkloadPage((), None), "another one does"
    wanted = WorkloadFilter(project=project.id, state=State.FINISHED, limit=5)
    page = await leader.store.workloads(wanted)
    assert page == WorkloadPage((), ids[70])
    assert await walked(leader.store, wanted) == ([], 4)
    rare = WorkloadFilter(project=project.id, branch="rare")
    assert await walked(leader.store, rare) == ([ids[0]], 1)


@pytest.mark.parametrize("of_project", [False, True])
@pytest.mark.parametrize("rare", ["branch", "server", "kind", "state", "result"])
async def test_a_rare_workload_behind_many_others_is_on_the_first_page(
    leader: Leader, monkeypatch: pytest.MonkeyPatch, rare: str, of_project: bool
) -> None:
    """Each filter has its own index: a page reads no rows that it leaves out."""
    web = await leader.project("web")
    found = {
        "branch": build(web, "rare"), "server": deploy(web, "rare"), "kind": session(web),
        "state": build(web, "main"), "result": build(web, "main"),
    }[rare]  # fmt: skip
    group = [found, *(build(web, "main") for _ in range(60))]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    ends = {"state": ids[1:], "result": ids[:1]}.get(rare, ids)
    await leader.commit(ended=tuple(finished(id_, NOW, Result.CANCELED) for id_ in ends))
    monkeypatch.setattr(pages, "LOOKED_AT_MOST", 10)
    monkeypatch.setattr(pages, "WALK_AT_MOST", 5)
    wanted = attrs.evolve(
        WorkloadFilter(project=web.id if of_project else None, limit=3),
        **{
            "branch": {"branch": "rare"}, "server": {"server": "rare"},
            "kind": {"kind": Kind.SSH}, "state": {"state": State.REGISTERED},
            "result": {"result": Result.CANCELED},
        }[rare],
    )  # fmt: skip
    page = await leader.store.workloads(wanted)
    assert [one.id for one in page.workloads] == ids[:1]
    assert page.next is None


async def test_a_page_has_a_limited_number_of_jobs_without_their_commands(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "JOBS_AT_MOST", 10)
    project = await leader.project()
    sizes = (4, 4, 4, 12, 1, 1)
    group = [build(project, jobs=tuple(spec(f"j{n}") for n in range(size))) for size in sizes]
    await leader.store.submit(group)
    found: list[list[int]] = []
    page = await leader.store.workloads(WorkloadFilter())
    while True:
        found.append([len(one.jobs) for one in page.workloads])
        assert not any(job.commands or job.environment for w in page.workloads for job in w.jobs)
        if page.next is None:
            break
        page = await leader.store.workloads(WorkloadFilter(before=page.next))
    assert found == [[1, 1], [12], [4, 4], [4]]


async def test_a_projects_pages_contain_only_its_own_workloads(leader: Leader) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    mine = await leader.submit(build(web))
    other = await leader.submit(build(app))
    assert (
        await leader.store.workloads(WorkloadFilter(project=web.id, before=mine.id))
    ).next is None
    with pytest.raises(Invalid) as caught:
        await leader.store.workloads(WorkloadFilter(project=web.id, before=other.id))
    assert caught.value.field == "cursor"
