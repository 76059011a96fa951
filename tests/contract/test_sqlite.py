"""What only SQLite has: one process per folder, full disks, damaged files, kill -9."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from boxsched.errors import Invalid, OutcomeUnknown, StoreAway
from boxsched.protocol.shards import SHARD
from boxsched.store import Store, open_store
from boxsched.store.errors import StoreDamaged, StoreInUse
from boxsched.store.operating.check import check
from boxsched.store.records import Submitted
from boxsched.store.sqlite.errors import LEAST_ROOM_BYTES, has_wal_reset_bug, translated
from tests.contract.store_data import NOW, Leader, build, event

PROJECT = Path(__file__).resolve().parents[2]
FILE = "boxsched.sqlite"


def url(folder: Path) -> str:
    return f"sqlite:///{folder / FILE}"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    store = open_store(url(folder), folder)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# --- One process per folder ------------------------------------------------------------------


async def test_a_second_process_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    async with opened(tmp_path):
        other = await asyncio.to_thread(_process, tmp_path)
        _, complaint = other.communicate(timeout=60)
        assert other.returncode != 0
        assert "StoreInUse" in complaint
        assert f"the data folder {tmp_path} is in use by process {os.getpid()}" in complaint
    async with opened(tmp_path):
        pass  # the lock ends with its owner


async def test_neither_another_store_nor_another_folder_can_open_the_file(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path):
        for folder in (tmp_path, tmp_path / "elsewhere"):
            other = open_store(url(tmp_path), folder)
            with pytest.raises(StoreInUse, match=str(os.getpid())):
                await other.open()
            await other.close()
    async with opened(tmp_path):
        pass


async def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = await asyncio.to_thread(_process, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(StoreInUse, match=f"in use by process {process.pid}"):
        async with opened(tmp_path):
            pass
    process.kill()
    process.wait()
    async with opened(tmp_path):
        pass


def _process(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contract.writing_process", url(folder), str(folder)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_other_users_cannot_read_the_files(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_organization(await store.organization())
        modes = _modes(tmp_path)
        assert set(modes.values()) == {0o600}, modes
        assert f"{FILE}-wal" in modes


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_a_closed_store_is_away(tmp_path: Path) -> None:
    store = open_store(url(tmp_path), tmp_path)
    with pytest.raises(StoreAway):
        await store.ping()
    await store.open()
    await store.close()
    with pytest.raises(StoreAway):
        await store.ping()
    with pytest.raises(StoreAway):
        await store.submit([])
    await store.close()


async def test_started_work_is_finished_before_closing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        leader = await Leader(store).lead(boxes=0)
        project = await leader.project()
        tasks = [asyncio.create_task(store.submit([build(project)] * 30)) for _ in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    async with opened(tmp_path) as store:
        assert len(await store.unfinished()) == 150


@pytest.mark.parametrize("wrong", ["", "x.db", "sqlite:///", "mysql://x/y"])
def test_an_invalid_url_is_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        open_store(wrong, tmp_path)


# --- Disks ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_an_error_and_loses_nothing(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with opened(small_disk) as store:
        leader = await Leader(store).lead()
        project = await leader.project()
        done = await leader.submit(build(project, "first"))
        await leader.queue(done.id)
        ballast.write_bytes(bytes(2 << 20))
        stored = await _until_full(store, leader)
        for _ in range(3):
            with pytest.raises(StoreAway, match="the disk is full"):
                await store.submit([build(project, message="m" * 100_000)] * 10)
        assert len(await store.unfinished()) == 1 + stored, "reads go on"
        with pytest.raises(StoreAway):
            await leader.commit(events=(event("x", NOW, text="x" * 4_000_000),))
        assert await store.batch_number(SHARD) == (leader.epoch, leader.batch)

        ballast.unlink()
        await leader.start(done.id, 0)
        assert (await leader.submit(build(project))).number == 2 + stored, "no number was lost"
    async with opened(small_disk) as store:
        assert len(await store.unfinished()) == 2 + stored
    assert [v for v in await check(url(small_disk)) if v.invariant == "file"] == []


async def _until_full(store: Store, leader: Leader) -> int:
    project = await store.project("web")
    assert project is not None
    for count in range(1000):
        try:
            await store.submit([build(project, f"b{count}", message="m" * 10_000)])
        except OutcomeUnknown:
            pytest.fail("a full disk leaves no doubt")
        except StoreAway:
            return count
    pytest.fail("the disk did not fill up")


async def test_a_file_that_may_not_grow_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        leader = await Leader(store).lead()
        project = await leader.project()
        raw = store._driver._driver._writer.raw  # type: ignore[attr-defined]
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages + 10}")
        stored = await _until_full(store, leader)
        raw.execute("PRAGMA max_page_count = 1000000")
        (outcome,) = await store.submit([build(project)])
        assert isinstance(outcome, Submitted)
        assert outcome.number == stored + 1
        assert len(await store.inbox(SHARD, 1000)) == stored + 2  # with the project's


async def test_another_program_that_holds_the_database_is_noticed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        leader = await Leader(store).lead()
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreAway, match="another program holds the database"):
            await leader.commit()
        await store.ping()
        with pytest.raises(StoreAway):
            await store.ready()  # it does not only read: a node that cannot write is not ready
        other.execute("ROLLBACK")
        await store.ready()
        other.close()
        await leader.commit()


# --- Files ----------------------------------------------------------------------------------


async def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, " * 1000)
    with pytest.raises(StoreDamaged, match=FILE):
        async with opened(tmp_path):
            pass
    assert [v.invariant for v in await check(url(tmp_path))] == ["file"]


async def test_an_unusable_data_folder_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.touch()
    store = open_store(url(tmp_path), file)
    with pytest.raises(StoreAway, match=r"the data folder cannot be used: .*a file"):
        await store.open()
    await store.close()
    async with opened(tmp_path):
        pass  # nothing of it is still locked


async def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        leader = await Leader(store).lead()
        project = await leader.project()
        await store.submit([build(project, f"b{i}", message="m" * 500) for i in range(500)])
    content = bytearray((tmp_path / FILE).read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 64] = b"\xee" * 64
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreDamaged, match="the database is damaged"):
        async with opened(tmp_path) as store:
            await store.unfinished()
    assert "file" in [v.invariant for v in await check(url(tmp_path))]


async def test_a_database_keeps_its_cluster_id(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        async with opened(tmp_path):
            raw = sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro", uri=True)
            found.append(raw.execute("SELECT value FROM meta WHERE key = 'cluster'").fetchall())
            raw.close()
    assert found[0] == found[1]
    assert len(found[0][0][0]) == 32


async def test_the_history_is_append_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        leader = await Leader(store).lead()
        await leader.commit(events=(event("x", time.time()),))
    raw = sqlite3.connect(tmp_path / FILE)
    for statement in ("UPDATE event SET data = '{}'", "DELETE FROM event"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(statement)
    raw.close()


# --- kill -9 (F22) --------------------------------------------------------------------------


async def test_confirmed_data_survives_kill_9(tmp_path: Path) -> None:
    """Kill it at several random moments; each run adds to what the others left."""
    submitted: set[int] = set()
    committed = 0
    for lines in (1, 2, 5, 8, 13, 21):
        process = await asyncio.to_thread(_process, tmp_path)
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        said = [await asyncio.to_thread(process.stdout.readline) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += await asyncio.to_thread(process.stdout.readlines)
        await asyncio.to_thread(process.communicate)
        for line in said:
            word, *numbers = line.split() if line.endswith("\n") else ("torn",)
            if word == "submitted":
                submitted.update(map(int, numbers))
            elif word == "committed":
                committed = int(numbers[0])
        async with opened(tmp_path) as store:
            kept = {w.id for w in await store.unfinished()}
            assert submitted <= kept
            assert len(kept) % 20 == 0, "a group is there whole or not at all"
            _, batch = await store.batch_number(SHARD)
            assert batch in (committed, committed + 1)
        assert await check(url(tmp_path)) == []


# --- Errors and versions --------------------------------------------------------------------


def _error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


@pytest.mark.parametrize(
    ("name", "committing", "meant"),
    [
        ("SQLITE_FULL", False, StoreAway),
        ("SQLITE_FULL", True, StoreAway),
        ("SQLITE_IOERR_WRITE", False, StoreAway),
        ("SQLITE_IOERR_FSYNC", True, OutcomeUnknown),
        ("SQLITE_IOERR_WRITE", True, OutcomeUnknown),
        ("SQLITE_BUSY_SNAPSHOT", False, StoreAway),
        ("SQLITE_READONLY_DBMOVED", False, StoreAway),
        ("SQLITE_CORRUPT_VTAB", False, StoreDamaged),
        ("SQLITE_NOTADB", True, StoreDamaged),
        ("SQLITE_ERROR", False, type(None)),
    ],
)
def test_errors_of_sqlite_have_a_meaning(name: str, committing: bool, meant: type) -> None:
    assert type(translated(_error(name), "file", committing=committing)) is meant


@pytest.mark.parametrize("name", ["SQLITE_IOERR_WRITE", "SQLITE_CANTOPEN"])
def test_a_full_disk_for_a_file_beside_the_database_is_recognized(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SQLite does not say so itself if a file beside the database has no room."""

    def said(file: Path, free: int) -> str:
        left = SimpleNamespace(f_bavail=free, f_frsize=1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda folder: {str(tmp_path): left}[folder])
            return str(translated(_error(name), str(file)))

    assert "the disk is full" in said(tmp_path / FILE, LEAST_ROOM_BYTES - 1)
    assert "the disk is full" not in said(tmp_path / FILE, LEAST_ROOM_BYTES)
    unknown = translated(_error(name), str(tmp_path / "nowhere" / FILE))
    assert isinstance(unknown, StoreAway)
    assert "the disk is full" not in str(unknown)


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, int, int], affected: bool
) -> None:
    assert has_wal_reset_bug(version) is affected
