"""Reads for the API and the page."""

import asyncio
import threading
from typing import Any

import pytest

from boxsched.model import JobId, Kind, WorkloadId, job_id
from boxsched.states import JobState, Result, State
from boxsched.store import rows
from boxsched.store.records import Submitted, Workload, WorkloadFilter
from boxsched.store.steps import reads
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import (
    NOW,
    Leader,
    build,
    deploy,
    finished,
    session,
    spec,
    stopping,
)


async def test_the_store_responds_to_a_ping(store: Store) -> None:
    await store.ping()


async def test_an_unknown_workload_is_not_found(leader: Leader) -> None:
    assert await leader.store.workload(WorkloadId(4711)) is None
    project = await leader.project()
    assert await leader.store.find_number("web", 1) is None
    done = await leader.submit(build(project))
    assert await leader.store.find_number("web", 1) == done.id


async def test_a_workload_from_submission_to_end(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(build(project))
    queued_at = await leader.queue(done.id)
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert (shown.state, shown.queued_at, shown.started_at) == (State.QUEUED, queued_at, None)
    started_at = await leader.start(done.id, 1)
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert (shown.state, shown.started_at) == (State.RUNNING, started_at)
    assert (shown.jobs[0].state, shown.jobs[0].box) == (JobState.ASSIGNED, leader.boxes[1].id)
    await leader.commit(workloads=(stopping(done.id, started_at),))
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert shown.state is State.STOPPING
    finished_at = await leader.finish(done.id, 1, result=Result.STOPPED)
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert (shown.state, shown.result) == (State.FINISHED, Result.STOPPED)
    assert shown.finished_at == finished_at
    job = shown.jobs[0]
    assert (job.state, job.result, job.exit_status) == (JobState.FINISHED, Result.STOPPED, 1)
    assert (job.started_at, job.finished_at) == (finished_at - 1, finished_at)


async def test_pages_go_from_newest_to_oldest(leader: Leader) -> None:
    project = await leader.project()
    group = [build(project, f"b{i}", jobs=(spec(), spec("lint"))) for i in range(25)]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    seen: list[WorkloadId] = []
    page = await leader.store.workloads(WorkloadFilter(limit=10))
    while True:
        seen += [w.id for w in page.workloads]
        first = page.workloads[0]
        assert [job.name for job in first.jobs] == ["test", "lint"]
        assert first.jobs[1].id == job_id(first.id, 1)
        if page.next is None:
            break
        assert page.next == seen[-1]
        page = await leader.store.workloads(WorkloadFilter(before=page.next, limit=10))
    assert seen == ids[::-1]


async def test_pages_contain_only_workloads_that_pass_the_filters(leader: Leader) -> None:
    web, app = await leader.project("web"), await leader.project("app")
    outcomes = await leader.store.submit(
        [
            build(web, "main"),
            build(web, "x"),
            deploy(web, "production"),
            deploy(app, "staging"),
            session(app, branch="main"),
        ]
    )
    b1, b2, d1, d2, s1 = (o.id for o in outcomes if isinstance(o, Submitted))
    await leader.queue(b1, d1)
    await leader.commit(ended=(finished(b2, NOW, Result.CANCELED),))

    async def page(**wanted: object) -> list[WorkloadId]:
        shown = await leader.store.workloads(WorkloadFilter(**wanted))  # type: ignore[arg-type]
        return [w.id for w in shown.workloads]

    assert await page() == [s1, d2, d1, b2, b1]
    assert await page(kind=Kind.DEPLOY) == [d2, d1]
    assert await page(project=web.id) == [d1, b2, b1]
    assert await page(branch="main") == [s1, b1]
    assert await page(server="staging") == [d2]
    assert await page(state=State.QUEUED) == [d1, b1]
    assert await page(state=State.FINISHED) == [b2]
    assert await page(state=State.REGISTERED, kind=Kind.SSH) == [s1]
    assert await page(project=web.id, state=State.QUEUED, kind=Kind.BUILD) == [b1]
    assert await page(project=app.id, branch="main") == [s1]
    assert await page(branch="main", before=s1) == [b1]
    assert await page(project=web.id, before=d1, limit=1) == [b2]
    assert await page(state=State.QUEUED, before=d1) == [b1]
    assert await page(branch="nope") == []
    assert await page(result=Result.CANCELED) == [b2]
    assert await page(result=Result.CANCELED, state=State.FINISHED, project=web.id) == [b2]
    assert await page(result=Result.CANCELED, before=b2) == []
    assert await page(result=Result.CANCELED, kind=Kind.DEPLOY) == []
    assert await page(result=Result.CANCELED, state=State.QUEUED) == []
    assert await page(result=Result.FAILED) == []
    assert await page(result=Result.FAILED, project=web.id) == []


async def test_unfinished_workloads_are_listed_by_id_and_finished_ones_latest_first(
    leader: Leader,
) -> None:
    project = await leader.project()
    group = [build(project, f"b{i}") for i in range(6)]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    for index, at in ((3, NOW + 1), (0, NOW + 3), (5, NOW + 2)):
        await leader.commit(ended=(finished(ids[index], at, Result.CANCELED),))
    assert [w.id for w in await leader.store.unfinished()] == [ids[1], ids[2], ids[4]]
    shown = await leader.store.activity(2)
    assert [w.id for w in shown.unfinished] == [ids[1], ids[2], ids[4]]
    assert [w.id for w in shown.finished] == [ids[0], ids[5]]
    assert shown.places == await leader.store.last_events()
    assert len((await leader.store.activity(50)).finished) == 3
    assert all(not w.jobs for w in (*shown.unfinished, *shown.finished))


async def test_an_activity_shows_one_moment(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds end while it is read page by page: each is in exactly one list."""
    monkeypatch.setattr(reads, "PAGE_WORKLOADS", 2)
    project = await leader.project()
    group = [build(project, f"b{i}") for i in range(30)]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]

    async def end_all() -> None:
        for n, id_ in enumerate(ids):
            await leader.commit(ended=(finished(id_, NOW + n, Result.CANCELED),))

    ending = asyncio.create_task(end_all())
    between = 0
    while not ending.done():
        shown = await leader.store.activity(100)
        assert sorted(w.id for w in (*shown.unfinished, *shown.finished)) == ids
        between += 0 < len(shown.finished) < len(ids)
    await ending
    assert between


async def test_pages_are_encoded_outside_of_the_event_loop(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await leader.project()
    group = [build(project, f"b{i}") for i in range(25)]
    ids = [o.id for o in await leader.store.submit(group) if isinstance(o, Submitted)]
    monkeypatch.setattr(reads, "PAGE_WORKLOADS", 10)
    shape, threads = rows.workload, []

    def noted(*given: Any) -> Workload:
        threads.append(threading.get_ident())
        return shape(*given)

    monkeypatch.setattr(rows, "workload", noted)
    assert [w.id for w in await leader.store.unfinished()] == ids
    assert len(threads) == 25
    assert threading.get_ident() not in threads


async def test_the_number_of_workloads_that_ran_ahead_of_a_waiting_one_is_known(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await leader.project()
    ids = [(await leader.submit(build(project, f"b{n}"))).id for n in range(7)]
    first, waits, *later = ids
    await leader.start(later[0], 0)  # and finished before the other one waited
    await leader.finish(later[0], 0)
    since = await leader.queue(waits)
    overtaken = leader.store.overtaken
    assert await overtaken(waits, since) == 0
    await leader.start(first, 1)  # it was there before
    assert await overtaken(waits, since) == 0
    await leader.start(later[1], 2)
    assert await overtaken(waits, since) == 1
    await leader.finish(later[1], 2)
    await leader.start(later[2], 2)
    assert await overtaken(waits, since) == 2
    for id_, box in ((first, 1), (later[2], 2)):
        await leader.finish(id_, box)
    await leader.commit(ended=(finished(later[3], leader.now(), Result.CANCELED),))
    assert await overtaken(waits, since) == 2
    monkeypatch.setattr(reads, "OVERTAKING_SEEN", 3)
    assert await overtaken(waits, since) is None  # four have finished since, which are not counted


# --- Logs (V18) -----------------------------------------------------------------------------

JOB = JobId(41 << 10)


async def test_a_log_is_read_from_any_offset(store: Store) -> None:
    await store.append_log(
        [(JOB, 1, 0, b"hello "), (JOB, 1, 6, b"\x00\xffworld"), (JOB, 2, 0, b"!")]
    )
    await store.append_log([(JOB, 1, 13, b" again")])
    whole = b"hello \x00\xffworld again"
    assert await store.log(JOB, 1, 0, 1000) == whole
    for offset in range(len(whole) + 2):
        for limit in (1, 5, 100):
            assert await store.log(JOB, 1, offset, limit) == whole[offset : offset + limit]
            pieces = await store.log_chunks(JOB, 1, offset, limit)
            assert b"".join(one.data for one in pieces) == whole[offset : offset + limit]
    assert await store.log(JOB, 2, 0, 10) == b"!"
    assert await store.log(JobId(1), 1, 0, 10) == b""
    assert [one.data for one in await store.log_chunks(JOB, 2, 0, 10)] == [b"!"]
    assert await store.log_chunks(JobId(1), 1, 0, 10) == []
    ends = [await store.log_end(*log) for log in ((JOB, 1), (JOB, 2), (JOB, 3), (JobId(1), 1))]
    assert ends == [len(whole), 1, 0, 0]


async def test_repeated_chunks_change_nothing(store: Store) -> None:
    chunks = [(JOB, 1, 0, b"abc"), (JOB, 1, 3, b"def")]
    await store.append_log(chunks)
    await store.append_log(chunks)
    await store.append_log([chunks[0], (JOB, 1, 1, b"XY"), (JOB, 1, 3, b"XYZ")])
    assert await store.log(JOB, 1, 0, 100) == b"abcdef"


async def test_only_the_new_part_of_an_overlapping_chunk_is_stored(store: Store) -> None:
    await store.append_log([(JOB, 1, 0, b"abc")])
    await store.append_log([(JOB, 1, 2, b"cdef"), (JOB, 1, 5, b"fgh"), (JOB, 1, 8, b"")])
    assert await store.log(JOB, 1, 0, 100) == b"abcdefgh"


async def test_a_chunk_that_would_leave_a_gap_waits_until_it_is_sent_in_order(
    store: Store,
) -> None:
    await store.append_log([(JOB, 1, 0, b"abc"), (JOB, 1, 6, b"ghi"), (JOB, 2, 0, b"x")])
    assert await store.log(JOB, 1, 0, 100) == b"abc"
    assert await store.log(JOB, 2, 0, 100) == b"x", "the others of the group are stored"
    await store.append_log([(JOB, 1, 3, b"def"), (JOB, 1, 6, b"ghi")])
    assert await store.log(JOB, 1, 0, 100) == b"abcdefghi"


async def test_output_that_the_database_lost_is_marked_in_the_log(db: DatabaseUnderTest) -> None:
    """The worker sent it before a failover, and continues after it."""
    store = await db.open()
    await store.append_log([(JOB, 1, 0, b"kept\n")])
    db.plant("INSERT INTO lineage VALUES (7, 'later', NULL, NULL, TRUE, 9)")
    await store.append_log([(JOB, 1, 5_005, b"goes on\n"), (JOB, 2, 70_000, b"x")])
    log = await store.log(JOB, 1, 0, 10_000)
    assert len(log) == 5_005 + 8
    assert log.startswith(b"kept\n\n[boxsched: 5000 bytes of output were lost by the database]\n ")
    assert log.endswith(b" \ngoes on\n")
    assert len(await store.log(JOB, 2, 0, 100_000)) == 70_001
    await store.append_log([(JOB, 2, 70_003, b"y")])
    assert (await store.log(JOB, 2, 70_001, 9)) == b"\n[" + b"y"


async def test_many_chunks_are_stored_at_once(store: Store) -> None:
    chunks = [(JobId(job << 10), 1, n * 3, b"%03d" % n) for n in range(100) for job in (1, 2, 3)]
    await store.append_log(chunks)
    expected = b"".join(b"%03d" % n for n in range(100))
    assert await store.log(JobId(2 << 10), 1, 0, 1000) == expected


# --- The page's sessions --------------------------------------------------------------------


async def test_a_session_is_valid_until_it_expires_or_is_dropped(store: Store) -> None:
    await store.put_session("digest", "admin", NOW + 10)
    await store.put_session("other", "ada", NOW + 20)
    assert await store.session("digest", NOW) == "admin"
    assert await store.session("digest", NOW + 10) is None
    assert await store.session("nope", NOW) is None
    await store.put_session("digest", "admin", NOW + 30)
    assert await store.session("digest", NOW + 10) == "admin"
    await store.drop_session("digest")
    await store.drop_session("digest")
    assert await store.session("digest", NOW) is None
    assert await store.session("other", NOW) == "ada"


async def test_a_database_keeps_its_cluster_id(store: Store) -> None:
    name = await store.cluster()
    assert len(name) == 32
    assert await store.cluster() == name


async def test_a_project_is_found_by_its_name(store: Store) -> None:
    for name in ("web", "app"):
        await store.put_project(name, "{}", None)
    ids = {name: await store.project_id(name) for name in ("web", "app", "none")}
    assert ids == {"web": 1, "app": 2, "none": None}
