"""A SQLite installation is moved to PostgreSQL, completely or not at all."""

import asyncio
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from boxsched.errors import Conflict, Fenced, Invalid
from boxsched.model import Kind
from boxsched.protocol.batches import DeployDue, DurationChange, LaneChange, Live, SetAside
from boxsched.protocol.schedules import NewSchedule, Schedule
from boxsched.protocol.shards import SHARD, Pause
from boxsched.protocol.workers import IN_PROCESS, NewWorker
from boxsched.store import Store, open_store
from boxsched.store.errors import SchemaTooOld, StoreInUse
from boxsched.store.operating.check import check
from boxsched.store.operating.move import Moved, move
from boxsched.store.records import Token, WorkloadFilter
from boxsched.store.steps.secrets import GIT_CREDENTIALS, WEBHOOK_SECRET
from boxsched.store.tables import TABLES
from tests.contract.conftest import SqliteUnderTest
from tests.contract.store_data import Leader, build, key, worker
from tests.contract.test_check import good_history
from tests.db.conftest import Roles, run

ODD = "back\\slash \\N tab\t line\nreturn\r quote' \"é 漢 🦉"
BYTES = bytes(range(256)) * 300


async def installation(db: SqliteUnderTest) -> Leader:
    """Fill every table, also with unusual rows; a service has used it twice."""
    leader = await Leader(await db.open()).lead()
    await good_history(leader)
    store = leader.store
    await store.append_log([(leader.boxes[0].id, 1, 0, BYTES)])
    project, _ = await store.put_project(
        "odd",
        json.dumps({"x": ODD, "clone": {"depth": 3}}),
        7,
        dict.fromkeys((WEBHOOK_SECRET, GIT_CREDENTIALS), lambda project, version: ODD),
        schedules=[NewSchedule(Schedule("@daily", "Europe/Berlin", ODD), 1.5)],
        now=0.5,
    )
    new = build(project, ODD, message=ODD, author=None, idempotency=key("odd"))
    await leader.submit(new)
    await store.put_token(Token("t1", "d" * 64, "worker", ODD, 1.5, 9e9))
    await store.put_token(Token("t2", "e" * 64, "admin", "gone", 2.25))
    await store.revoke_token("t2")
    learned = DurationChange(project.id, "test", (1.5, 0.1), 2.0)
    await leader.commit(durations=(learned,))
    await store.ask(SHARD, [("odd", ODD.encode())])
    (*_, odd) = await store.inbox(SHARD, 100)
    await leader.commit(inbox=(odd.id,), set_aside=(SetAside(odd.id, "odd", ODD, 1.5, None),))
    await store.put_pause(Pause("p", project.id, ODD, None, False, ODD, ODD, 1.5, None))
    lane = LaneChange(f"{project.id}/branch/{ODD}", project.id, 2)
    (first, *_) = (await store.workloads(WorkloadFilter())).workloads
    live, due = Live(project.id, ODD, first.id), DeployDue(first.id, ODD)
    await leader.commit(lanes=(lane,), live=(live,), deploys_due=(due,))
    await store.put_session("digest", "admin", 9e12)
    await store.put_node("node-1", "http://node-1", "1.0")
    await store.connect_worker(worker("other", "default", "mac"))
    await store.put_secret("odd", "ODD", lambda project, version: ODD, as_file=True)
    db.plant(
        "INSERT INTO outgoing (project, name, url, host, events) VALUES"
        f" ({project.id}, 'hook', 'https://example.org', 'example.org', '[]')"
    )
    db.plant(
        "INSERT INTO notification (id, workload, target, host, event, at, since, due_at) VALUES"
        f" (1, {first.id}, 'hook', 'example.org', 'workload.finished', 1.5, 1.5, 2.5)"
    )
    db.plant(
        "INSERT INTO delivery (project, provider, event, received_at, result, reason, workloads,"
        f" delivery_id, body_sha256) VALUES ({project.id}, 'github', 'push', 1.5, 'created',"
        " 'a reason', '[1]', 'an id', 'a sum')"
    )
    db.plant(f"INSERT INTO ssh_session VALUES ({first.id}, 7, '::1', 22, 'ssh-ed25519 AAAA')")
    db.plant("INSERT INTO history_start VALUES (1, 0, 0.5)")
    db.plant(
        f"INSERT INTO pruned_workload VALUES ({project.id}, 1);"
        f"UPDATE project SET next_number = next_number + 1 WHERE id = {project.id}"
    )
    path = ODD.replace("'", "''")
    db.plant(
        f"INSERT INTO blob VALUES ('{'a' * 64}', 1, 'database', 'f', 1.5);"
        "INSERT INTO blob_part SELECT 'f', 0, 1.5, data FROM log_chunk LIMIT 1;"
        f"INSERT INTO artifact VALUES (1, 1, '{path}', '{'a' * 64}', 1, TRUE);"
        "INSERT INTO log_file VALUES (1, 1, 'g', 1)"
    )
    db.plant(
        "INSERT INTO ghost (worker, job, attempt, lease_token, build, running, since, killed_by)"
        " SELECT max(id), 4096, 1, 7, 0, 1, 1.5, 'ada' FROM worker"
    )
    db.plant("INSERT INTO lineage VALUES (1, 'first', NULL, NULL, TRUE, 1.5)")
    again = await Leader(await db.reopen()).lead(boxes=0)
    return continuing_jobs_text(again, leader)


def continuing_jobs_text(leader: Leader, before: Leader) -> Leader:
    """Use it with the other's Boxes and time."""
    leader.boxes, leader.worker = before.boxes, before.worker
    leader.now = before.now  # type: ignore[method-assign]
    return leader


async def moved(db: SqliteUnderTest, roles: Roles) -> Moved:
    await db.close()
    await asyncio.to_thread(roles.upgrade)
    return await asyncio.to_thread(move, db.url, roles.owner, lambda *_: None)


def rows_of_sqlite(path: Path, table: str) -> Counter[tuple[tuple[str, Any], ...]]:
    raw = sqlite3.connect(path)
    raw.row_factory = sqlite3.Row
    found = [dict(row) for row in raw.execute(f"SELECT * FROM {table}")]
    raw.close()
    return Counter(tuple(sorted(row.items())) for row in found)


def rows_of_postgres(url: str, table: str) -> Counter[tuple[tuple[str, Any], ...]]:
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        names = [column.name for column in cursor.description or ()]
        found = [dict(zip(names, map(_plain, row), strict=True)) for row in cursor]
    connection.close()
    return Counter(tuple(sorted(row.items())) for row in found)


def _plain(value: object) -> object:
    """Convert a value to its form in SQLite."""
    if isinstance(value, memoryview):
        return bytes(value)
    return int(value) if isinstance(value, bool) else value


async def test_all_rows_are_moved_unchanged(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path
) -> None:
    await installation(sqlite_db)
    counts = (await moved(sqlite_db, roles)).rows
    for table in TABLES:
        was = rows_of_sqlite(tmp_path / "boxsched.sqlite", table)
        assert was, f"nothing in {table} that could go wrong"
        if table == "meta":
            assert rows_of_postgres(roles.owner, table) == was, "the cluster's name, too"
        elif table == "shard":
            ((now, _),) = rows_of_postgres(roles.owner, table).items()
            ((before, _),) = was.items()
            kept = dict(before)
            raised = {"epoch": kept["epoch"] + 1, "epoch_batch": kept["batch"], "node": ""}
            assert dict(now) == kept | raised
        elif table == "leadership":
            assert rows_of_postgres(roles.owner, table) > was
        else:
            assert rows_of_postgres(roles.owner, table) == was, table
        assert counts[table] == was.total()


async def test_a_store_continues_where_the_file_ended(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path
) -> None:
    old = await installation(sqlite_db)
    used = [entry.id for entry in await old.store.inbox(1, 1000)]
    place = await old.store.last_event(1)
    await moved(sqlite_db, roles)
    assert await check(roles.reader) == []
    store = await _opened(roles.service, tmp_path / "service")
    leader = continuing_jobs_text(await Leader(store).lead(boxes=0), old)
    assert (leader.epoch, leader.batch) == (old.epoch + 2, old.batch), "moved, and led"

    project = await leader.project()
    again = await leader.submit(build(project, idempotency=key("k")))
    assert again.repeated, "keys hold"
    new = await leader.submit(build(project, "x"))
    known = (await store.workloads(WorkloadFilter())).workloads
    assert [each.id for each in known[:2]] == [new.id, new.id - 1]
    assert new.number == max(w.number for w in known[1:] if w.project == project.id) + 1
    inbox = [entry.id for entry in await store.inbox(1, 1000)]
    assert inbox[: len(used)] == used and inbox[len(used) :] > [max(used)]
    fresh = await store.connect_worker(worker("third", "default"))
    assert fresh.connection.worker == old.worker + 2

    running = next(w for w in known if w.kind is Kind.BUILD and w.started_at and not w.finished_at)
    assert [a.workload for a in await leader.assignments()] == [running.id], "it is still leased"
    await leader.finish(running.id, 0)
    assert await store.last_event(1) > place
    assert await store.token("d" * 64) is not None
    assert await store.token("e" * 64) is None, "revoked it stays"
    assert await store.log(old.boxes[0].id, 1, 5, len(BYTES)) == BYTES[5:]
    with pytest.raises(Fenced):
        await store.commit(old.next_batch())
    await store.close()
    assert await check(roles.reader) == []


async def _opened(url: str, folder: Path) -> Store:
    store = open_store(url, folder)
    await store.open()
    return store


async def test_the_in_process_worker_keeps_its_jobs(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path
) -> None:
    """Under the name that a node gives it if there may be others."""
    alone = NewWorker(IN_PROCESS, IN_PROCESS, IN_PROCESS, "node-1", ("default",))
    was = await (await sqlite_db.open()).connect_worker(alone)
    await moved(sqlite_db, roles)
    name = f"{IN_PROCESS}@node-1"
    store = await _opened(roles.service, tmp_path / "service")
    now = await store.connect_worker(NewWorker(name, name, IN_PROCESS, "node-1", ("default",)))
    assert now.connection.worker == was.connection.worker
    assert now.boxes == was.boxes
    await store.close()


async def test_a_file_in_use_is_refused(sqlite_db: SqliteUnderTest, roles: Roles) -> None:
    await installation(sqlite_db)
    await asyncio.to_thread(roles.upgrade)
    with pytest.raises(StoreInUse):
        await asyncio.to_thread(move, sqlite_db.url, roles.owner, lambda *_: None)


async def test_a_target_in_use_is_refused(
    sqlite_db: SqliteUnderTest, roles: Roles, tmp_path: Path
) -> None:
    await installation(sqlite_db)
    await asyncio.to_thread(roles.upgrade)
    store = await _opened(roles.service, tmp_path / "service")
    await store.put_node("a", "http://a", "1")
    with pytest.raises(Conflict, match="not empty: there are rows in node"):
        await moved(sqlite_db, roles)
    await store.close()


async def test_schemas_that_differ_are_refused(sqlite_db: SqliteUnderTest, roles: Roles) -> None:
    await installation(sqlite_db)
    await sqlite_db.close()
    with pytest.raises(Invalid, match="db upgrade"):
        await asyncio.to_thread(move, sqlite_db.url, roles.owner, lambda *_: None)
    sqlite_db.plant("UPDATE meta SET value = '1' WHERE key = 'schema'")
    with pytest.raises(SchemaTooOld):
        await moved(sqlite_db, roles)


async def test_a_database_that_breaks_an_invariant_is_not_moved(
    sqlite_db: SqliteUnderTest, roles: Roles
) -> None:
    await installation(sqlite_db)
    await sqlite_db.close()
    sqlite_db.plant("UPDATE project SET next_number = 99 WHERE id = 1")
    with pytest.raises(Conflict, match="I5, V24"):
        await moved(sqlite_db, roles)
    assert rows_of_postgres(roles.owner, "project").total() == 0
    assert await check(roles.reader) == [], "as empty as before"
    sqlite_db.plant("UPDATE project SET next_number = 4 WHERE id = 1")
    sqlite_db.plant("UPDATE project SET max_boxes = -1")
    with pytest.raises(Exception, match="max_boxes"):
        await moved(sqlite_db, roles)


async def test_the_command_moves_the_database(sqlite_db: SqliteUnderTest, roles: Roles) -> None:
    await installation(sqlite_db)
    await sqlite_db.close()
    sqlite_db.plant("UPDATE workload SET message = 'a' || char(0) || 'b' WHERE id = 1")
    await asyncio.to_thread(roles.upgrade)
    asked = ("db", "move", "--from", sqlite_db.url, "--to")
    said = (await asyncio.to_thread(run, *asked, roles.owner)).stdout
    assert "1 NUL characters were replaced" in said
    assert "\nMoved and checked: every invariant holds.\nNow start it with: boxsched serve" in said
    refused = await asyncio.to_thread(run, *asked, roles.owner, status=1)
    assert "this database was moved to postgresql://" in refused.stderr
    await asyncio.to_thread(run, *asked, sqlite_db.url, status=2)
    by_service = await asyncio.to_thread(run, *asked, roles.service, status=1)
    assert by_service.stdout == ""
