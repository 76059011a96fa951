"""Databases of other versions: an older one is upgraded, a newer one may let us in."""

import contextlib
import sqlite3

import attrs
import psycopg2
import pytest

from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import WorkerConnection
from boxsched.store import schema
from boxsched.store.blocks import sql_text
from boxsched.store.errors import SchemaTooNew
from boxsched.store.records import Workload
from boxsched.store.sqlite.connection import worded
from tests.contract.conftest import Place
from tests.contract.postgres_server import execute
from tests.contract.world import Leader, build, loaded, worker

# What a program of the first schema had written.
LEGACY = """
INSERT INTO project (id, name, settings, version, next_number, deleted)
VALUES (5, 'old', '{}', 1, 1, FALSE);
INSERT INTO worker (id, name, address, state) VALUES (3, 'in-process', 'in-process', 'connected');
INSERT INTO box (id, worker, ordinal, box_type, retired, freed_at)
VALUES (8, 3, 1, 'default', FALSE, 0);
"""
# Statements of that program, of the tables that changed; it goes on beside the new one.
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


def run(place: Place, *statements: str) -> None:
    """As another program would, in SQLite's words where it is one."""
    if place.url.startswith("postgres"):
        for statement in statements:
            execute(place.url, statement)
        return
    raw = sqlite3.connect(place.url.removeprefix("sqlite:///"), isolation_level=None)
    for statement in statements:
        raw.executescript(worded(statement))
    raw.close()


def columns(place: Place, view: str) -> list[str]:
    statement = f"SELECT * FROM {view}"
    if place.url.startswith("postgres"):
        with contextlib.closing(psycopg2.connect(place.url)) as raw, raw.cursor() as cursor:
            cursor.execute(statement)
            return [column.name for column in cursor.description]
    with contextlib.closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as raw:
        return [name for name, *_ in raw.execute(statement).description]


def meta(place: Place) -> dict[str, str]:
    if place.url.startswith("postgres"):
        raw = psycopg2.connect(place.url)
        with raw.cursor() as cursor:
            cursor.execute("SELECT key, value FROM meta")
            found = cursor.fetchall()
    else:
        raw = sqlite3.connect(place.url.removeprefix("sqlite:///"))
        found = raw.execute("SELECT key, value FROM meta").fetchall()
    raw.close()
    return dict(found)


def older_schema(place: Place, version: int) -> None:
    dialect = "postgres" if place.url.startswith("postgres") else "sqlite"
    for number in range(1, version + 1):
        run(
            place,
            sql_text(f"schema_{number:04}.sql"),
            sql_text(f"schema_{number:04}_{dialect}.sql"),
        )
    run(place, f"INSERT INTO meta VALUES ('schema', '{version}'), ('cluster', 'abc');")


def first_schema(place: Place) -> None:
    older_schema(place, 1)
    run(place, LEGACY)


async def test_an_older_database_is_upgraded_with_all_that_is_in_it(place: Place) -> None:
    first_schema(place)
    store = await place.open()
    assert await store.cluster() == "abc"
    assert meta(place) == {"cluster": "abc", **schema.facts()}
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
    await place.reopen()
    assert meta(place)["schema"] == str(schema.SCHEMA_VERSION)


async def test_a_program_of_the_first_schema_continues_next_to_a_new_one(place: Place) -> None:
    first_schema(place)
    store = await place.open()
    await store.connect_worker(worker("in-process", "default"))
    run(place, STATEMENTS)
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


async def test_a_program_of_the_second_schema_continues_next_to_a_new_one(place: Place) -> None:
    older_schema(place, 2)
    run(place, "INSERT INTO worker (name, address, state) VALUES ('w', 'here', 'disconnected')")
    store = await place.open()
    assert meta(place) == {"cluster": "abc", **schema.facts()}
    mine = (await store.connect_worker(worker("w", lost_after=50.0))).connection
    assert mine == WorkerConnection(1, 1)
    run(place, SECOND)
    assert await store.beat([mine], 50.0) == set(), "it is connected to the other"
    assert [(p.node, p.beat, p.connection, p.lost_after) for p in await store.pulses(SHARD)] == [
        ("node-2", 3, 2, 50.0),
        ("node-2", 1, 1, None),
    ]
    assert await store.inbox(SHARD, 10) == []
    assert (await store.connect_worker(worker("w", lost_after=60.0))).connection.number == 3


@pytest.mark.parametrize(("workers", "most"), [(1, 100), (150, 150)])
async def test_all_workers_of_an_earlier_schema_may_come_back_with_one_token(
    place: Place, workers: int, most: int
) -> None:
    older_schema(place, 3)
    rows = ", ".join(f"('w{n}', 'here', 'disconnected')" for n in range(workers))
    run(
        place,
        f"INSERT INTO worker (name, address, state) VALUES {rows}",
        """INSERT INTO token (id, digest, role, name, created_at, organization)
           VALUES ('t1', 'd1', 'worker', 'all', 1, 1), ('t2', 'd2', 'admin', 'ada', 1, 1)""",
    )
    tokens = await (await place.open()).tokens()
    assert {token.id: token.max_workers for token in tokens} == {"t1": most, "t2": 100}


async def test_a_newer_database_that_lets_us_in_is_used_and_left_alone(place: Place) -> None:
    await place.open()
    await place.close()
    newer = str(schema.SCHEMA_VERSION + 1)
    run(
        place,
        f"UPDATE meta SET value = '{newer}' WHERE key = 'schema'",
        f"UPDATE meta SET value = '{schema.SCHEMA_VERSION}' WHERE key = 'oldest'",
        "ALTER TABLE project ADD COLUMN something TEXT NOT NULL DEFAULT 'new'",
    )
    leader = await Leader(await place.open()).lead()
    await leader.submit(build(await leader.project()))
    await place.reopen()
    said = meta(place)
    assert (said["schema"], said["oldest"]) == (newer, str(schema.SCHEMA_VERSION))


@pytest.mark.parametrize("oldest", ["9999", None])
async def test_a_newer_database_that_does_not_is_refused(place: Place, oldest: str | None) -> None:
    await place.open()
    await place.close()
    run(
        place,
        "UPDATE meta SET value = '9999' WHERE key = 'schema'",
        "DELETE FROM meta WHERE key = 'oldest'",
        f"INSERT INTO meta VALUES ('oldest', '{oldest}')" if oldest else "SELECT 1",
    )
    before = meta(place)
    with pytest.raises(SchemaTooNew, match="schema 9999"):
        await place.open()
    assert meta(place) == before


async def test_an_upgrade_that_fails_leaves_the_old_database(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_schema(place)
    before = meta(place)
    upgrades = schema.upgrades

    def broken(said: dict[str, str], dialect: str) -> list[str]:
        return [*upgrades(said, dialect), "INSERT INTO no_such_table VALUES (1);"]

    for module in ("sqlite.driver", "postgres.schema"):
        monkeypatch.setattr(f"boxsched.store.{module}.upgrades", broken)
    with pytest.raises((sqlite3.Error, psycopg2.Error)):
        await place.open()
    assert meta(place) == before
    monkeypatch.undo()
    await (await place.open()).organization()


async def test_the_view_of_older_programs_has_the_columns_that_they_count(place: Place) -> None:
    """They read all of them, in their order."""
    await place.open()
    old, new = columns(place, "shown_workload"), columns(place, "workload_shown")
    assert len(old) == 24 and new[:24] == old
    assert len(new) == 25
    sixth = columns(place, "workload_row")
    assert sixth[:25] == new
    assert len(sixth) == 31
    newest = columns(place, "workload_full")
    assert newest[:31] == sixth
    fields = [field.name for field in attrs.fields(Workload)]
    assert len(newest) == len(fields) - 1 and fields[-1] == "jobs"
