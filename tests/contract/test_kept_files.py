"""Artifacts, and logs that were moved into files: their rows, over both databases."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import attrs
import psycopg2
import pytest

from boxsched.errors import Conflict, LeaseEnded, TooLarge
from boxsched.model import JobId, WorkloadId, job_id
from boxsched.protocol.artifacts import ArtifactFile
from boxsched.protocol.batches import BoxChange
from boxsched.protocol.shards import Project
from boxsched.states import Result
from boxsched.store.operating.check import check
from boxsched.store.records import Token
from boxsched.store.steps import blobs
from boxsched.store.steps.blobs import HeldJob, StoredArtifact, StoredFile
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest, PostgresUnderTest
from tests.contract.postgres_sessions import asked, until_waiting
from tests.contract.store_data import NOW, Leader, build, deploy, spec, worker

LATER = NOW + 1e6
MOST = 1_000
HOLDER = "token-1"
SHAS = [letter * 64 for letter in "abcdef"]


@pytest.fixture
async def leader(store: Store) -> Leader:
    """A leader whose Boxes are of a worker with a token."""
    await store.put_token(Token(HOLDER, "its digest", "worker", "", NOW))
    leader = await Leader(store).lead(boxes=0)
    connected = await store.connect_worker(worker("w", *["default"] * 4, token=HOLDER))
    leader.worker, leader.boxes = connected.connection.worker, connected.boxes
    freed = tuple(BoxChange(box.id, None, None, None, NOW) for box in leader.boxes)
    await leader.commit(freed=freed)
    return leader


def file(path: str, sha: str = SHAS[0], size: int = 10, **changes: Any) -> ArtifactFile:
    return ArtifactFile(path, size, sha, **changes)


def stored(name: str, size: int = 10, place: str = "folder") -> StoredFile:
    return StoredFile(place, name, size)


class Run:
    """A running build with artifacts."""

    def __init__(self, leader: Leader, id_: WorkloadId, boxes: Sequence[int]) -> None:
        self.leader, self.id, self.boxes = leader, id_, boxes
        self.token = leader.batch
        self.jobs = [job_id(id_, index) for index in range(len(boxes))]

    @classmethod
    async def of(cls, leader: Leader, project: Project, *boxes: int, **changes: object) -> "Run":
        keeping = attrs.evolve(spec(), artifacts=("dist/*",))
        new = build(project, jobs=(keeping,) * len(boxes), **changes)
        done = await leader.submit(new)
        await leader.queue(done.id)
        await leader.start(done.id, *boxes)
        return cls(leader, done.id, boxes)

    async def keep(
        self, kept: ArtifactFile, its: StoredFile, job: int = 0, now: float = NOW
    ) -> StoredFile:
        return await self.leader.store.blobs.put_artifact(
            self.jobs[job], self.token, HOLDER, kept, its, MOST, now
        )

    async def finish(self, result: Result = Result.PASSED) -> float:
        # the helper names the jobs' tokens by its last batch
        return await self.leader.finish(self.id, *self.boxes, result=result)


@pytest.fixture
async def project(leader: Leader) -> Project:
    return await leader.project()


@pytest.fixture
async def run(leader: Leader, project: Project) -> Run:
    return await Run.of(leader, project, 0, 1)


# --- Artifacts ------------------------------------------------------------------------------


async def test_only_the_holder_of_a_lease_can_keep_artifacts(
    leader: Leader, project: Project, run: Run
) -> None:
    store, job = leader.store, run.jobs[0]
    assert await store.blobs.held_job(job, run.token, HOLDER) == HeldJob(1, True, None)
    for wrong in ((job, run.token + 1, HOLDER), (job, run.token, "token-2"), (JobId(9), 1, HOLDER)):
        assert await store.blobs.held_job(*wrong) is None
        with pytest.raises(LeaseEnded):
            await store.blobs.put_artifact(*wrong, file("a"), stored("f"), MOST, NOW)
    await run.finish()
    assert await store.blobs.held_job(job, run.token, HOLDER) is None
    done = await leader.submit(deploy(project, build=run.id))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    held = await store.blobs.held_job(job_id(done.id, 0), leader.batch, HOLDER)
    assert held == HeldJob(1, False, run.id)


async def test_an_artifact_is_stored_with_its_content_once(leader: Leader, run: Run) -> None:
    store, job = leader.store, run.jobs[0]
    assert await run.keep(file("dist/b", SHAS[1]), stored("f1")) == stored("f1")
    assert await run.keep(file("dist/a", SHAS[1], executable=True), stored("f2")) == stored("f1")
    kept = [file("dist/a", SHAS[1], executable=True), file("dist/b", SHAS[1])]
    assert await store.blobs.artifacts_of(job, 1) == kept
    assert await store.blobs.artifacts_of(job, 2) == []
    assert await store.blobs.artifact(job, 1, "dist/a") == StoredArtifact(
        "dist/a", 10, SHAS[1], True, "folder", "f1"
    )
    assert await store.blobs.artifact(job, 1, "dist/c") is None
    await run.keep(file("dist/a", SHAS[2], 7), stored("f3", 7))
    assert await store.blobs.artifacts_of(job, 1) == [file("dist/a", SHAS[2], 7), kept[1]]
    assert await store.blobs.known_files(["f1", "f2", "f3"]) == {"f1", "f3"}


async def test_artifacts_of_a_job_have_limits(
    leader: Leader, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "MAX_ARTIFACTS", 2)
    await run.keep(file("a", size=MOST - 10), stored("f"))
    with pytest.raises(TooLarge, match="at most 2 artifacts, of 1000 bytes"):
        await run.keep(file("b", size=11), stored("f"))
    await run.keep(file("b", size=10), stored("f"))
    await run.keep(file("b", size=10), stored("f"))
    with pytest.raises(TooLarge):
        await run.keep(file("c", size=0), stored("f"))
    await run.keep(file("c", size=0), stored("f"), job=1)


async def test_the_limit_of_a_job_holds_for_two_nodes_at_the_same_time(
    db: DatabaseUnderTest, run: Run
) -> None:
    """Each would see the job without what the other one is storing."""
    if not isinstance(db, PostgresUnderTest):
        pytest.skip("with SQLite there is one node")
    (db.folder / "second").mkdir()
    nodes = [run.leader.store, await db.open("second")]

    async def keep(number: int) -> StoredFile:
        kept = file(f"dist/{number}", SHAS[number], MOST // 2 + 1)
        its = stored(f"f{number}", MOST // 2 + 1)
        blobs = nodes[number].blobs
        return await blobs.put_artifact(run.jobs[0], run.token, HOLDER, kept, its, MOST, NOW)

    with contextlib.closing(psycopg2.connect(db.url)) as other:
        asked(other, "LOCK TABLE artifact IN SHARE MODE")  # it can be read, but not written
        both = [asyncio.create_task(keep(number)) for number in (0, 1)]
        await until_waiting(db, 2)
        other.rollback()
        done = await asyncio.gather(*both, return_exceptions=True)
    assert [type(one) for one in done if isinstance(one, Exception)] == [TooLarge]
    assert len(await run.leader.store.blobs.artifacts_of(run.jobs[0], 1)) == 1


async def test_a_deploy_gets_the_artifacts_of_its_build_until_they_are_deleted(
    leader: Leader, project: Project, run: Run
) -> None:
    store = leader.store
    await run.keep(file("b", SHAS[1]), stored("f1"), job=1)
    await run.keep(file("b", SHAS[0]), stored("f0"))
    await run.keep(file("a", SHAS[2]), stored("f2"), job=1)
    other = await Run.of(leader, project, 2, branch="x")
    await other.keep(file("c", SHAS[3]), stored("f3"))
    assert await store.blobs.given(run.id) == [
        file("b", SHAS[0]),
        file("a", SHAS[2]),
        file("b", SHAS[1]),
    ]
    assert await store.blobs.given_content(run.id, SHAS[1]) == stored("f1")
    assert await store.blobs.given_content(run.id, SHAS[3]) is None, "of another build"
    await run.finish(Result.FAILED)
    assert await store.blobs.prune_artifacts(0, LATER, 100, LATER) == (3, None)
    with pytest.raises(Conflict, match="deleted, because they were old"):
        await store.blobs.given(run.id)
    assert await store.blobs.given(other.id) == [file("c", SHAS[3])]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_only_old_artifacts_that_nothing_needs_are_deleted(
    leader: Leader, project: Project, limit: int, db: DatabaseUnderTest
) -> None:
    runs = []
    for number in range(4):
        run = await Run.of(leader, project, number, branch=f"b{number}")
        await run.keep(file("a", SHAS[number]), stored(f"f{number}"))
        runs.append(run)
    passed, failed, young, _running = runs
    await passed.finish()  # the last that passed on its branch
    old = await failed.finish(Result.FAILED)
    await young.finish(Result.FAILED)
    place: int | None = 0
    dropped = rounds = 0
    while place is not None:
        count, place = await leader.store.blobs.prune_artifacts(place, old + 0.5, limit, LATER)
        dropped, rounds = dropped + count, rounds + 1
    assert (dropped, rounds) == (1, {1: 5, 2: 3, 100: 1}[limit])
    kept = [len(await leader.store.blobs.artifacts_of(run.jobs[0], 1)) for run in runs]
    assert kept == [1, 0, 1, 1]
    assert await check(db.url) == []


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_contents_without_an_artifact_are_deleted_after_a_while(
    leader: Leader, run: Run, limit: int
) -> None:
    store = leader.store
    await run.keep(file("a", SHAS[0]), stored("used"))
    for sha, name, place, now in (
        (SHAS[1], "old", "folder", NOW),
        (SHAS[2], "new", "folder", NOW + 100),
        (SHAS[3], "rows", "database", NOW),
    ):
        await run.keep(file("b", sha), stored(name, place=place), now=now)
    await run.keep(file("b", SHAS[0]), stored("other"))
    await store.blobs.put_part("rows", 0, b"x" * 10, NOW)
    place: str | None = ""
    gone: list[StoredFile] = []
    rounds = 0
    while place is not None:
        found, place = await store.blobs.drop_unused(place, NOW + 100, limit)
        gone, rounds = gone + found, rounds + 1
    assert sorted(one.file for one in gone) == ["old", "rows"]
    assert {one.place for one in gone} == {"folder", "database"}
    assert rounds == {1: 5, 2: 3, 100: 1}[limit]
    assert await store.blobs.known_files(["used", "old", "new", "rows"]) == {"used", "new"}
    assert await store.blobs.parts_end("rows") == 0


# --- Files in the database --------------------------------------------------------------------


async def test_a_file_in_the_database_grows_by_parts_without_gaps(store: Store) -> None:
    assert await store.blobs.parts_end("f") == 0
    assert await store.blobs.put_part("f", 1, b"gap", NOW) == 0
    assert await store.blobs.put_part("f", 0, b"abc", NOW) == 3
    assert await store.blobs.put_part("f", 0, b"XYZ", NOW) == 3, "a repetition changes nothing"
    assert await store.blobs.put_part("f", 3, b"de", NOW) == 5
    assert await store.blobs.parts_end("f") == 5
    assert [await store.blobs.part("f", at) for at in (0, 2, 3, 4, 5, 6)] == [
        b"abc", b"c", b"de", b"e", b"", b"",
    ]  # fmt: skip
    await store.blobs.put_part("g", 0, b"g", NOW)
    await store.blobs.drop_parts(["f", "nothing"])
    assert (await store.blobs.part("f", 0), await store.blobs.part("g", 0)) == (b"", b"g")


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_parts_of_files_without_a_content_are_deleted_after_a_while(
    leader: Leader, run: Run, limit: int
) -> None:
    store = leader.store
    await run.keep(file("a"), stored("known", place="database"))
    for name, at in (("known", NOW), ("new", NOW + 100), ("old", NOW), ("older", NOW - 1)):
        await store.blobs.put_part(name, 0, b"x", at)
        await store.blobs.put_part(name, 1, b"x", at)
    place: str | None = ""
    rounds = 0
    while place is not None:
        place = await store.blobs.drop_unknown_parts(place, NOW + 100, limit)
        rounds += 1
    assert rounds == {1: 5, 2: 3, 100: 1}[limit]
    ends = {name: await store.blobs.parts_end(name) for name in ("known", "new", "old", "older")}
    assert ends == {"known": 2, "new": 2, "old": 0, "older": 0}


# --- Logs in files ----------------------------------------------------------------------------


async def test_a_log_moves_into_a_file_once_and_only_whole(leader: Leader, run: Run) -> None:
    store, job = leader.store, run.jobs[0]
    await store.append_log([(job, 1, 0, b"abc"), (job, 1, 3, b"de"), (run.jobs[1], 1, 0, b"x")])
    assert not await store.move_log(job, 1, "f", 4), "it has grown"
    assert not await store.move_log(job, 2, "f", 0), "it has no such log"
    assert await store.log_file(job, 1) is None
    assert await store.move_log(job, 1, "f", 5)
    assert await store.log_file(job, 1) == ("f", 5)
    assert await store.log(job, 1, 0, 100) == b""
    assert await store.log(run.jobs[1], 1, 0, 100) == b"x"
    assert not await store.move_log(job, 1, "g", 5)
    assert await store.log_file(job, 1) == ("f", 5)
    assert await store.blobs.known_files(["f", "g"]) == {"f"}


async def with_logs(leader: Leader, project: Project) -> tuple[list[Run], float]:
    """Four builds with a log: two that finished, the second at the returned time; a younger one;
    and a running one.
    """
    runs = [await Run.of(leader, project, box, branch=f"b{box}") for box in range(4)]
    await leader.store.append_log([(run.jobs[0], 1, 0, b"x") for run in runs])
    await runs[0].finish()
    old = await runs[1].finish()
    await runs[2].finish()
    return runs, old


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_the_logs_of_finished_workloads_are_found_slice_by_slice(
    leader: Leader, project: Project, limit: int
) -> None:
    runs, old = await with_logs(leader, project)
    found: list[tuple[JobId, int]] = []
    place: JobId | None = JobId(0)
    rounds = 0
    while place is not None:
        some, place = await leader.store.finished_logs(place, old + 0.5, limit)
        found, rounds = found + some, rounds + 1
    assert found == [(run.jobs[0], 1) for run in runs[:2]]
    assert rounds == {1: 5, 3: 2, 100: 1}[limit]
    assert (await leader.store.finished_logs(JobId(0), old, 100))[0] == found[:1]


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_old_logs_in_files_are_deleted_slice_by_slice(
    leader: Leader, project: Project, limit: int
) -> None:
    store = leader.store
    runs, old = await with_logs(leader, project)
    for number, run in enumerate(runs):
        assert await store.move_log(run.jobs[0], 1, f"f{number}", 1)
    place: int | None = 0
    dropped = rounds = 0
    while place is not None:
        count, place = await store.prune_log_files(place, old + 0.5, limit)
        dropped, rounds = dropped + count, rounds + 1
    assert (dropped, rounds) == (2, {1: 5, 3: 2, 100: 1}[limit])
    names = [f"f{number}" for number in range(4)]
    assert await store.blobs.known_files(names) == {"f2", "f3"}
