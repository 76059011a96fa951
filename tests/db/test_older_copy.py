"""An older copy of a SQLite file is refused until an operator confirms the restore."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from boxsched.protocol.shards import SHARD
from boxsched.store import Store, open_store
from boxsched.store.errors import StoreBehind
from boxsched.store.memory import FILE
from boxsched.store.steps.maintenance import JUMP
from tests.contract.store_data import Leader, build
from tests.db.conftest import run

NAME = "boxsched.sqlite"


def store_of(folder: Path, *, remembers: bool = True) -> Store:
    return open_store(f"sqlite:///{folder / NAME}", folder, remembers=remembers)


async def lived(folder: Path, commits: int, *, remembers: bool = True) -> None:
    """Lead on it for a while and close it normally."""
    store = store_of(folder, remembers=remembers)
    await store.open()
    leader = await Leader(store).lead()
    await leader.submit(build(await leader.project()))
    for _ in range(commits):
        await leader.commit()
    await store.close()


async def opened_and_closed(folder: Path) -> tuple[int, int]:
    store = store_of(folder)
    await store.open()
    found = await store.batch_number(SHARD)
    await store.close()
    return found


async def test_an_older_copy_is_refused_until_the_restore_is_confirmed(tmp_path: Path) -> None:
    await lived(tmp_path, 3)
    copy = shutil.copy(tmp_path / NAME, tmp_path / "copy")
    await lived(tmp_path, 3)
    newest = await opened_and_closed(tmp_path)
    shutil.copy(copy, tmp_path / NAME)

    for _ in range(2):
        with pytest.raises(StoreBehind, match="boxsched db restored") as refused:
            await opened_and_closed(tmp_path)
    epoch, batch = newest
    assert f"epoch {epoch}, batch {batch} have been seen" in refused.value.message
    assert (tmp_path / NAME).read_bytes() == Path(copy).read_bytes(), "nothing was written to it"

    await asyncio.to_thread(run, "db", "restored", "--database", f"sqlite:///{tmp_path / NAME}")
    epoch, batch = await opened_and_closed(tmp_path)
    assert epoch > JUMP and batch > newest[1]
    shutil.copy(copy, tmp_path / NAME)
    with pytest.raises(StoreBehind):
        await opened_and_closed(tmp_path)


async def test_the_service_ends_with_the_command_to_run(tmp_path: Path) -> None:
    await lived(tmp_path, 1)
    copy = shutil.copy(tmp_path / NAME, tmp_path / "copy")
    await lived(tmp_path, 1)
    shutil.copy(copy, tmp_path / NAME)
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "boxsched", "serve", "--data", str(tmp_path), "--port", "0",
        "--boxes", "0", stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, said = await service.communicate()
    assert service.returncode == 1
    assert f"boxsched db restored --database sqlite:///{tmp_path / NAME}" in said.decode()


async def test_data_that_may_not_be_on_the_disk_is_not_recorded(tmp_path: Path) -> None:
    """A process was killed before its last commits were synced; the next one sees them, and then
    the power fails."""
    await lived(tmp_path, 1)
    on_disk = shutil.copy(tmp_path / NAME, tmp_path / "on-disk")
    noted = (tmp_path / FILE).read_bytes()
    await lived(tmp_path, 5, remembers=False)
    store = store_of(tmp_path)
    await store.open()
    await store.shards()
    await store.close()
    assert (tmp_path / FILE).read_bytes() == noted
    shutil.copy(on_disk, tmp_path / NAME)
    await opened_and_closed(tmp_path)


async def test_the_state_is_recorded_while_the_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So kill -9 leaves it there."""
    monkeypatch.setattr("boxsched.store.sqlite.driver.NOTE_SECONDS", 0.01)
    store = store_of(tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    await leader.commit()
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0.01)
            if (tmp_path / FILE).exists():
                shards = json.loads((tmp_path / FILE).read_bytes())["shards"]
                if shards[str(SHARD)] == [leader.epoch, leader.batch]:
                    break
    await store.close()


async def test_another_database_in_the_folder_is_ignored(tmp_path: Path) -> None:
    await lived(tmp_path, 5)
    (tmp_path / NAME).unlink()
    await lived(tmp_path, 0)
    await opened_and_closed(tmp_path)


async def test_an_upgrade_of_an_older_backup_is_not_refused(tmp_path: Path) -> None:
    await lived(tmp_path, 1)
    copy = shutil.copy(tmp_path / NAME, tmp_path / "copy")
    await lived(tmp_path, 1)
    shutil.copy(copy, tmp_path / NAME)
    url = f"sqlite:///{tmp_path / NAME}"
    await asyncio.to_thread(run, "db", "upgrade", "--database", url)
    with pytest.raises(StoreBehind):
        await opened_and_closed(tmp_path)
