"""After a move no service can use the old file by mistake, wherever the move was interrupted."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsched.store import open_store
from boxsched.store.errors import StoreMoved
from boxsched.store.operating.check import check
from tests.contract.conftest import SqliteUnderTest
from tests.contract.store_data import Leader
from tests.contract.test_check import good_history
from tests.db.conftest import PASSWORD, Roles, run
from tests.faults.service import Service

MARK = "boxsched.sqlite.moved"

# A move whose process dies just before or just after the commit.
DYING = """
import os, sys
from boxsched.store import moved
from boxsched.store.operating.move import move
write = moved.write
def dies(database, mark):
    if not mark.sure:
        write(database, mark)
    if mark.sure == (sys.argv[3] == "behind"):
        os._exit(9)
moved.write = dies
move(sys.argv[1], sys.argv[2], lambda *_: None)
"""


def boxsched(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "boxsched", *words]
    environment = {name: v for name, v in os.environ.items() if not name.startswith("BOXSCHED_")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@contextlib.contextmanager
def serving(data: Path, *options: str) -> Iterator[Service]:
    service = Service(data, "--boxes", "0", *options)
    service.start()
    try:
        yield service
    finally:
        assert service.stop() == 0


async def test_a_service_refuses_the_file_that_was_moved(roles: Roles, tmp_path: Path) -> None:
    with serving(tmp_path) as old:
        await old.put_project("web", jobs=[{"name": "test", "commands": ["true"]}])
        token = old.token
    await asyncio.to_thread(roles.upgrade)
    file, mark = f"sqlite:///{tmp_path}/boxsched.sqlite", tmp_path / MARK
    moved = boxsched("db", "move", "--from", file, "--to", roles.owner)
    assert moved.returncode == 0, moved.stderr
    assert f"Now start it with: boxsched serve --data {tmp_path} --database " in moved.stdout
    assert PASSWORD not in mark.read_text() and json.loads(mark.read_text())["sure"]
    for command in (["serve", "--port", "0"], ["demo"]):
        refused = boxsched(*command, "--data", str(tmp_path))
        assert refused.returncode == 1
        assert refused.stderr.startswith("boxsched: this database was moved to postgresql://")
        assert (
            f"; to serve the old file nevertheless, remove {mark} and run boxsched db restored\n"
            in refused.stderr
        )
    assert boxsched("db", "restored", "--database", file).returncode == 1
    again = boxsched("db", "move", "--from", file, "--to", roles.owner)
    assert again.returncode == 1 and "this database was moved to" in again.stderr

    with serving(tmp_path, "--database", roles.service) as new:
        assert [one["name"] for one in (await new.get("projects"))["projects"]] == ["web"]
        assert new.token == token
    mark.unlink()
    refused = boxsched("serve", "--port", "0", "--data", str(tmp_path))
    assert "older than what this data folder has seen of it" in refused.stderr
    assert boxsched("db", "restored", "--database", file).returncode == 0
    with serving(tmp_path):
        pass


@pytest.mark.parametrize("died", ["before", "behind"])
async def test_a_move_that_dies_at_its_commit(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path, died: str
) -> None:
    await good_history(await Leader(await sqlite_db.open()).lead())
    await sqlite_db.close()
    await asyncio.to_thread(roles.upgrade)
    dying = [sys.executable, "-c", DYING, sqlite_db.url, roles.owner, died]
    assert (await asyncio.to_thread(subprocess.run, dying)).returncode == 9
    assert not json.loads((tmp_path / MARK).read_text())["sure"]
    with pytest.raises(StoreMoved, match=r"was interrupted on .* repeat it"):
        await open_store(sqlite_db.url, tmp_path).open()
    asked = ("db", "move", "--from", sqlite_db.url, "--to")
    elsewhere = await asyncio.to_thread(run, *asked, roles.admin, status=1)
    assert "was interrupted on" in elsewhere.stderr, "it may be there, and would be twice"
    asked = (*asked, roles.owner)
    again = await asyncio.to_thread(run, *asked, status=0 if died == "before" else 1)
    if died == "behind":
        assert "is already in postgresql://" in again.stderr
    assert json.loads((tmp_path / MARK).read_text())["sure"]
    assert await check(roles.reader) == []
    with pytest.raises(StoreMoved, match="was moved to"):
        await open_store(sqlite_db.url, tmp_path).open()


async def test_a_database_that_was_not_moved_is_not_marked(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path
) -> None:
    await good_history(await Leader(await sqlite_db.open()).lead())
    await sqlite_db.close()
    await asyncio.to_thread(roles.upgrade)
    sqlite_db.plant("UPDATE project SET next_number = 99 WHERE id = 1")
    asked = ("db", "move", "--from", sqlite_db.url, "--to")
    await asyncio.to_thread(run, *asked, roles.owner, status=1)
    by_service = (await asyncio.to_thread(run, *asked, roles.service, status=1)).stderr
    owner, service = roles.names["owner"], roles.names["service"]
    assert f"move as the owner of the tables, '{owner}', not as '{service}'" in by_service
    assert not (tmp_path / MARK).exists()
    await sqlite_db.open()


def test_an_absolute_path_with_a_slash_too_few_is_recognized(tmp_path: Path) -> None:
    run("db", "upgrade", "--database", f"sqlite:///{tmp_path}/x")
    said = run("db", "status", "--database", f"sqlite://{tmp_path}/x", status=1).stderr
    assert f"(an absolute path has four slashes: sqlite:///{tmp_path}/x)" in said
    said = run("db", "status", "--database", "sqlite:///no/such/file", status=1).stderr
    assert "slashes" not in said


def test_an_unreadable_mark_also_counts(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("{")
    asked = ("db", "upgrade", "--database", f"sqlite:///{tmp_path}/boxsched.sqlite")
    assert "give --database" in run(*asked, status=1).stderr
