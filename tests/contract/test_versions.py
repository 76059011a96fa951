"""Databases of other versions: an older one is upgraded; a newer one may allow us."""

import contextlib
import sqlite3

import attrs
import psycopg2
import pytest

from boxsched.model import ProjectId, WorkloadId
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import WorkerConnection
from boxsched.store import schema
from boxsched.store.blocks import sql_text
from boxsched.store.errors import SchemaTooNew
from boxsched.store.records import Workload
from boxsched.store.sqlite.connection import worded
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.postgres_server import execute
from tests.contract.store_data import Leader, build, loaded, worker

# What a program of the first schema wrote.
LEGACY = """
INSERT INTO project (id, name, settings, version, next_number, deleted)
VALUES (5, 'old', '{}', 1, 1, FALSE);
INSERT INTO worker (id, name, address, state) VALUES (3, 'in-process', 'in-process', 'connected');
INSERT INTO box (id, worker, ordinal, box_type, retired, freed_at)
VALUES (8, 3, 1, 'default', FALSE, 0);
"""
# Statements of that program on changed tables; it continues beside the new one.
STATEMENTS = """
INSERT INTO worker (name, address, state) VALUES ('in-process', 'here', 'connected')
ON CONFLICT (name) DO UPDATE SET address = excluded.address, state = excluded.state;
INSERT INTO worker (name, address, state) VALUES ('new', 'there', 'connected')
ON CONFLICT (name) DO UPDATE SET address = excluded.address, state = excluded.state;
UPDATE organization SET name = 'ours', policy = 'strict', max_boxes = 9, priority_aging = NULL
 WHERE id = 1;
INSERT INTO project (
    name, settings, repository, max_boxes, webhook_secret, version, next_number, deleted
) VALUES ('mine', '{}', NULL, NULL, NULL, 1, 1, FALSE)
ON CONFLICT (name) WHERE NOT deleted DO UPDATE SET version = project.version + 1;
INSERT INTO inbox (shard, kind, payload) VALUES (1, 'stop', '[1]');
UPDATE shard SET epoch = epoch + 1, epoch_batch = batch, node = 'old' WHERE id = 1;
UPDATE shard SET batch = CASE WHEN epoch = 1 AND batch = 0 THEN batch + 1 END WHERE id = 1;
"""


# The same of the second schema: its worker statements.
SECOND = """
INSERT INTO worker (identity, name, address, state, organization, node, connection, beat)
VALUES ('new', 'new', 'there', 'connected', 1, 'node-2', 1, 1);
UPDATE worker
   SET identity = 'w''s own', name = 'w', address = 'here', state = 'connected', node = 'node-2',
       connection = connection + 1, beat = beat + 1
 WHERE name = 'w';
WITH v(worker, number) AS (VALUES (1, 2))
UPDATE worker SET beat = beat + 1
  FROM v
 WHERE worker.id = v.worker AND worker.connection = v.number AND worker.state <> 'disconnected';
INSERT INTO inbox (shard, kind, payload, workload) VALUES (1, 'stop', '[1]', NULL);
DELETE FROM inbox WHERE id IN (SELECT i.id FROM inbox AS i WHERE i.id BETWEEN 1 AND 9);
"""


def run(db: DatabaseUnderTest, *statements: str) -> None:
    """Execute as another program would, in SQLite's SQL where it is SQLite."""
    if db.url.startswith("postgres"):
        for statement in statements:
            execute(db.url, statement)
        return
    raw = sqlite3.connect(db.url.removeprefix("sqlite:///"), isolation_level=None)
    for statement in statements:
        raw.executescript(worded(statement))
    raw.close()


def columns(db: DatabaseUnderTest, view: str) -> list[str]:
    statement = f"SELECT * FROM {view}"
    if db.url.startswith("postgres"):
        with contextlib.closing(psycopg2.connect(db.url)) as raw, raw.cursor() as cursor:
            cursor.execute(statement)
            return [column.name for column in cursor.description]
    with contextlib.closing(sqlite3.connect(db.url.removeprefix("sqlite:///"))) as raw:
        return [name for name, *_ in raw.execute(statement).description]


def meta(db: DatabaseUnderTest) -> dict[str, str]:
    if db.url.startswith("postgres"):
        raw = psycopg2.connect(db.url)
        with raw.cursor() as cursor:
            cursor.execute("SELECT key, value FROM meta")
            found = cursor.fetchall()
    else:
        raw = sqlite3.connect(db.url.removeprefix("sqlite:///"))
        found = raw.execute("SELECT key, value FROM meta").fetchall()
    raw.close()
    return dict(found)


def older_schema(db: DatabaseUnderTest, version: int) -> None:
    dialect = "postgres" if db.url.startswith("postgres") else "sqlite"
    for number in range(1, version + 1):
        run(
            db,
            sql_text(f"schema_{number:04}.sql"),
            sql_text(f"schema_{number:04}_{dialect}.sql"),
        )
    run(db, f"INSERT INTO meta VALUES ('schema', '{version}'), ('cluster', 'abc');")


def first_schema(db: DatabaseUnderTest) -> None:
    older_schema(db, 1)
    run(db, LEGACY)


async def test_an_older_database_is_upgraded_with_all_its_data(db: DatabaseUnderTest) -> None:
    first_schema(db)
    store = await db.open()
    assert await store.cluster() == "abc"
    assert meta(db) == {"cluster": "abc", **schema.facts()}
    assert (await store.organization()).shard == SHARD
    project = await store.project("old")
    assert project is not None
    (kept,) = await store.project_versions(project.id, 9, 9)
    assert (kept.version, kept.by, kept.at) == (1, None, None), "nobody knows who wrote it"
    leader = await Leader(store).lead(boxes=0)
    await leader.submit(build(project))
    connected = await store.connect_worker(worker("in-process", "default"))
    assert connected.connection == WorkerConnection(3, 1)
    assert [box.id for box in connected.boxes] == [8]
    state = (await loaded(store)).state
    assert [each.name for each in state.projects] == ["old"]
    assert [each.id for each in state.boxes] == [8]
    await db.reopen()
    assert meta(db)["schema"] == str(schema.SCHEMA_VERSION)


async def test_rebuilds_of_an_earlier_schema_are_as_old_as_what_they_repeat(
    db: DatabaseUnderTest,
) -> None:
    older_schema(db, 5)
    columns_ = (
        "id, project, number, kind, lane, branch, server, priority, cancellation, fail_fast,"
        " boxes, rebuild_of, build, state, result, created_at, queued_at, started_at, finished_at"
    )
    ended = "50, 'none', FALSE, 1, {}, {}, 'finished', 'passed', 1, 1, 1, 1"
    rows = [
        f"(1, 5, 1, 'build', '5/branch/main', 'main', NULL, {ended.format('NULL', 'NULL')})",
        f"(2, 5, 2, 'build', '5/branch/main', 'main', NULL, {ended.format('NULL', 'NULL')})",
        f"(3, 5, 3, 'build', '5/branch/main', 'main', NULL, {ended.format(1, 'NULL')})",
        f"(4, 5, 4, 'deploy', '5/server/p', 'main', 'p', {ended.format('NULL', 2)})",
    ]
    project = (
        "INSERT INTO project (id, name, settings, version, next_number, deleted)"
        " VALUES (5, 'web', '{}', 1, 5, FALSE)"
    )
    run(db, project, f"INSERT INTO workload ({columns_}) VALUES {', '.join(rows)}")
    store = await db.open()
    assert await store.newer_there(ProjectId(5), "p", WorkloadId(3))
    assert not await store.newer_there(ProjectId(5), "p", WorkloadId(2))


async def test_a_program_of_the_first_schema_continues_next_to_a_new_one(
    db: DatabaseUnderTest,
) -> None:
    first_schema(db)
    store = await db.open()
    await store.connect_worker(worker("in-process", "default"))
    run(db, STATEMENTS)
    assert (await store.organization()).name == "ours"
    assert [(w.name, w.address) for w in await store.workers()] == [
        ("in-process", "here"),
        ("new", "there"),
    ]
    mine = await store.project("mine")
    assert mine is not None
    assert len(await store.submit([build(mine)])) == 1
    assert [each.kind for each in await store.inbox(SHARD, 10)] == ["stop", "submit"]
    assert await store.batch_number(SHARD) == (1, 1)
    state = (await loaded(store)).state
    assert [each.name for each in state.projects] == ["mine", "old"]
    assert len(state.pulses) == 2
    assert (await store.connect_worker(worker("new"))).connection.number == 1


async def test_a_program_of_the_second_schema_continues_next_to_a_new_one(
    db: DatabaseUnderTest,
) -> None:
    older_schema(db, 2)
    run(db, "INSERT INTO worker (name, address, state) VALUES ('w', 'here', 'disconnected')")
    store = await db.open()
    assert meta(db) == {"cluster": "abc", **schema.facts()}
    mine = (await store.connect_worker(worker("w", lost_after=50.0))).connection
    assert mine == WorkerConnection(1, 1)
    run(db, SECOND)
    assert await store.beat([mine], 50.0) == {}, "it is connected to the other"
    assert [(p.node, p.beat, p.connection, p.lost_after) for p in await store.pulses(SHARD)] == [
        ("node-2", 3, 2, 50.0),
        ("node-2", 1, 1, None),
    ]
    assert await store.inbox(SHARD, 10) == []
    assert (await store.connect_worker(worker("w", lost_after=60.0))).connection.number == 3


@pytest.mark.parametrize(("workers", "most"), [(1, 100), (150, 150)])
async def test_all_workers_of_an_earlier_schema_may_return_with_one_token(
    db: DatabaseUnderTest, workers: int, most: int
) -> None:
    older_schema(db, 3)
    rows = ", ".join(f"('w{n}', 'here', 'disconnected')" for n in range(workers))
    run(
        db,
        f"INSERT INTO worker (name, address, state) VALUES {rows}",
        """INSERT INTO token (id, digest, role, name, created_at, organization)
           VALUES ('t1', 'd1', 'worker', 'all', 1, 1), ('t2', 'd2', 'admin', 'ada', 1, 1)""",
    )
    tokens = await (await db.open()).tokens()
    assert {token.id: token.max_workers for token in tokens} == {"t1": most, "t2": 100}


async def test_a_newer_database_that_allows_us_is_used_and_left_alone(
    db: DatabaseUnderTest,
) -> None:
    await db.open()
    await db.close()
    newer = str(schema.SCHEMA_VERSION + 1)
    run(
        db,
        f"UPDATE meta SET value = '{newer}' WHERE key = 'schema'",
        f"UPDATE meta SET value = '{schema.SCHEMA_VERSION}' WHERE key = 'oldest'",
        "ALTER TABLE project ADD COLUMN something TEXT NOT NULL DEFAULT 'new'",
    )
    leader = await Leader(await db.open()).lead()
    await leader.submit(build(await leader.project()))
    await db.reopen()
    said = meta(db)
    assert (said["schema"], said["oldest"]) == (newer, str(schema.SCHEMA_VERSION))


@pytest.mark.parametrize("oldest", ["9999", None])
async def test_a_newer_database_that_does_not_allow_us_is_refused(
    db: DatabaseUnderTest, oldest: str | None
) -> None:
    await db.open()
    await db.close()
    run(
        db,
        "UPDATE meta SET value = '9999' WHERE key = 'schema'",
        "DELETE FROM meta WHERE key = 'oldest'",
        f"INSERT INTO meta VALUES ('oldest', '{oldest}')" if oldest else "SELECT 1",
    )
    before = meta(db)
    with pytest.raises(SchemaTooNew, match="schema 9999"):
        await db.open()
    assert meta(db) == before


async def test_an_upgrade_that_fails_leaves_the_old_database(
    db: DatabaseUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_schema(db)
    before = meta(db)
    upgrades = schema.upgrades

    def broken(said: dict[str, str], dialect: str) -> list[str]:
        return [*upgrades(said, dialect), "INSERT INTO no_such_table VALUES (1);"]

    for module in ("sqlite.driver", "postgres.schema"):
        monkeypatch.setattr(f"boxsched.store.{module}.upgrades", broken)
    with pytest.raises((sqlite3.Error, psycopg2.Error)):
        await db.open()
    assert meta(db) == before
    monkeypatch.undo()
    await (await db.open()).organization()


async def test_the_view_of_older_programs_has_the_columns_that_they_count(
    db: DatabaseUnderTest,
) -> None:
    """They read all columns, in order."""
    await db.open()
    old, new = columns(db, "shown_workload"), columns(db, "workload_shown")
    assert len(old) == 24 and new[:24] == old
    assert len(new) == 25
    sixth = columns(db, "workload_row")
    assert sixth[:25] == new
    assert len(sixth) == 31
    seventh = columns(db, "workload_full")
    assert seventh[:31] == sixth
    assert len(seventh) == 32
    eighth = columns(db, "workload_whole")
    assert eighth[:32] == seventh
    assert len(eighth) == 35
    newest = columns(db, "workload_complete")
    assert newest[:35] == eighth
    fields = [field.name for field in attrs.fields(Workload)]
    elsewhere = ["jobs", "ssh"]  # read from other tables
    assert fields[-2:] == elsewhere and len(newest) == len(fields) - len(elsewhere)
