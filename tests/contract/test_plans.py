"""Query plans of the databases: no query of a service reads a whole table that grows."""

import itertools
import re
import sqlite3
from collections.abc import Iterator, Sequence

import psycopg2
import pytest

from boxsched.store.blocks import Block, load
from boxsched.store.postgres.connection import ALONG_INDEXES
from boxsched.store.schema import upgrades
from boxsched.store.sqlite.connection import worded
from tests.contract.postgres_server import database

FILES = (
    "deliveries.sql",
    "fleet.sql",
    "leading.sql",
    "logs.sql",
    "notifications.sql",
    "pages.sql",
    "project_versions.sql",
    "projects.sql",
    "pruning.sql",
    "reading.sql",
    "schedules.sql",
    "sessions.sql",
    "submission.sql",
    "tokens.sql",
)
BLOCKS = {block.name: block for file in FILES for block in load(file).values()}
GROWING = (
    "workload",
    "job",
    "event",
    "log_chunk",
    "idempotency",
    "job_history",
    "inbox",
    "set_aside",
    "schedule",
    "delivery",
    "project_version",
    "notification",
)
# Not checked: blocks that insert, and these, which do not read a growing table:
BY_DESIGN = {
    "load_inbox_workloads",  # a leader's load, page by page along the ids of its inbox
    "inbox",  # the same; SQLite has one shard, whose entries are in order
    "drop_expired_sessions",
    "workload_ids",
    "waiting_notifications",  # counts up to a limit
}
WORKLOADS = 40_000
PROJECTS = 20
FILLING = f"""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PROJECTS})
INSERT INTO project (id, name, settings, version, next_number, deleted)
SELECT i, 'p' || i, '{{}}', 1, 100000, FALSE FROM n;

WITH RECURSIVE n (i) AS (SELECT 20 UNION ALL SELECT i + 1 FROM n WHERE i < {WORKLOADS})
INSERT INTO workload (
    id, project, number, kind, lane, branch, server, priority, cancellation, fail_fast, boxes,
    created_at, state, result, queued_at, started_at, finished_at
)
SELECT i, 1 + i % {PROJECTS}, i / {PROJECTS}, CASE WHEN i % 50 = 0 THEN 'deploy' ELSE 'build' END,
       'lane ' || i, CASE WHEN i % 2 = 0 THEN 'main' ELSE 'topic ' || i % 700 END,
       CASE WHEN i % 50 = 0 THEN 'production' END, 50, 'none', FALSE, 1, i,
       CASE WHEN i % 100 = 7 THEN 'queued' ELSE 'finished' END,
       CASE WHEN i % 100 = 7 THEN NULL WHEN i % 9 = 0 THEN 'failed' ELSE 'passed' END, i,
       CASE WHEN i % 100 = 7 THEN NULL ELSE i END, CASE WHEN i % 100 = 7 THEN NULL ELSE i END
  FROM n;

INSERT INTO job (id, name, box_type, timeout_seconds, expected_seconds, commands, environment,
                 state, attempt)
SELECT id * 1024, 'test', 'default', 60, 60, '[]', '{{}}', 'waiting', 0 FROM workload;

INSERT INTO event (shard, batch, n, type, at, data) SELECT 1, id, 1, 'x', 0, '{{}}' FROM workload;
INSERT INTO idempotency (scope, key, body_sha256, workload, number)
SELECT 's', 'k' || id, '', id, number FROM workload;
INSERT INTO log_chunk (job, attempt, first_byte, end_byte, data)
SELECT id, 1, 0, 1, CAST('x' AS BYTEA) FROM workload;
INSERT INTO inbox (shard, kind, payload, workload) SELECT 1, 'stop', '[]', NULL FROM workload;
INSERT INTO set_aside (id, shard, kind, payload, workload, error, at)
SELECT id, 1, 'stop', '[]', id, '', 0 FROM workload;
INSERT INTO delivery (
    id, project, provider, event, received_at, result, workloads, delivery_id, body_sha256
)
SELECT id, project, 'github', 'push', id, 'created', '[]', 'd' || id, 'b' || id FROM workload;
INSERT INTO project_version (project, version, settings)
SELECT project, id, '{{}}' FROM workload;
INSERT INTO job_history (project, job_name, recent, expected_seconds)
SELECT project, 'j' || id, '[]', 1 FROM workload;
INSERT INTO schedule (project, cron, time_zone, branch, version, next_at, decided_at)
SELECT project, '@daily', '', 'b' || id, 1, id, id FROM workload WHERE id % 4 = 0;
UPDATE project SET scheduled = version WHERE id <> 3;
INSERT INTO notification (workload, target, host, event, at, since, due_at)
SELECT id, 'hook.1', 'h' || id % 10, 'workload.finished', id, id, id FROM workload;
"""
TEXTS = {
    "branch": "nope",
    "server": "nope",
    "kind": "deploy",
    "state": "queued",
    "result": "failed",
    "name": "p3",
    "job_name": "j7",
    "scope": "s",
    "key": "k7",
    "digest": "d",
    "identity": "i",
    "token": "t",
    "last_scope": "s",
    "last_key": "k8",
    "lane": "1/branch/main",
    "cron": "@daily",
    "time_zone": "",
    "body_sha256": "b7",
    "delivery_id": "d7",
    "host": "h7",
    "target": "hook.1",
}
TEXT_IDS = {"token", "revoke_token", "put_token", "token_used"}  # ids of tokens are texts
WALKS = {name: block for name, block in BLOCKS.items() if name.startswith("walk_")}


def read_or_changed(block: Block) -> bool:
    return re.search(r"\b(SELECT|UPDATE|DELETE)\b", block.text) is not None and (
        "INSERT INTO" not in block.text
    )


PLANNED = {
    name: block
    for name, block in BLOCKS.items()
    if read_or_changed(block) and name not in BY_DESIGN
}


def value(block: Block, name: str) -> object:
    if name in ("branch", "server") and block.name in ("walk_kind", "walk_all", "walk_result"):
        return None
    if name == "id" and block.name in TEXT_IDS:
        return "t"
    if name == "project" and block.name == "find_number":
        return "p3"
    if name == "spared":
        return False
    if name == "after" and block.name in ("load_lanes", "counted_lanes"):
        return ""
    if name == "before":
        return WORKLOADS
    if name in ("limit", "looked"):
        return 50
    if name in ("data", "error", "reason", "commit_hash", "stop_cause", "max_boxes"):
        return None
    return TEXTS.get(name, 1)


def values(block: Block) -> list[object]:
    return [value(block, name) for name in (*block.row_names * 3, *block.names)]


@pytest.fixture(scope="module")
def filled_sqlite() -> Iterator[sqlite3.Connection]:
    raw = sqlite3.connect(":memory:")
    for text in upgrades({}, "sqlite"):
        raw.executescript(worded(text))
    raw.executescript(worded(FILLING))
    yield raw
    raw.close()


@pytest.fixture(scope="module")
def filled_postgres(postgres: str) -> Iterator[psycopg2.extensions.connection]:
    with database(postgres) as url:
        raw = psycopg2.connect(url)
        raw.autocommit = True
        with raw.cursor() as cursor:
            for text in upgrades({}, "postgres"):
                cursor.execute(text)
            cursor.execute(FILLING)
            cursor.execute("ANALYZE")
        yield raw
        raw.close()


def whole(plan: Sequence[str]) -> bool:
    return any(re.search(rf"Seq Scan on ({'|'.join(GROWING)})\b", step) for step in plan)


def sqlite_plan(raw: sqlite3.Connection, block: Block) -> list[str]:
    own = load("sqlite.sql").get(block.name, block)
    text = worded(own.written("?", 3 if block.row_names else 0))
    return [row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values(block))]


def postgres_plan(raw: psycopg2.extensions.connection, block: Block) -> list[str]:
    text = block.written("%s", 3 if block.row_names else 0)
    with raw.cursor() as cursor:
        cursor.execute(f"EXPLAIN {text}", values(block))
        return [row[0] for row in cursor]


@pytest.mark.parametrize("block", PLANNED.values(), ids=lambda block: block.name)
def test_sqlite_reads_no_growing_table_completely(
    filled_sqlite: sqlite3.Connection, block: Block
) -> None:
    """A scan in order is fine if it ends at a limit."""
    steps = sqlite_plan(filled_sqlite, block)
    scan = re.compile(rf"SCAN ({'|'.join(GROWING)}|[wjcelhi])\b")
    scans = [step for step in steps if scan.match(step)]
    bounded = "LIMIT" in block.text and not any("TEMP B-TREE" in step for step in steps)
    assert not scans or bounded, steps


@pytest.mark.parametrize("block", PLANNED.values(), ids=lambda block: block.name)
def test_postgres_reads_no_growing_table_completely(
    filled_postgres: psycopg2.extensions.connection, block: Block
) -> None:
    plan = postgres_plan(filled_postgres, block)
    assert not whole(plan), "\n".join(plan)


@pytest.mark.parametrize("name", ["workload", "jobs_of", "jobs_listed", "shown", "number_of"])
def test_postgres_reads_by_ids_in_a_snapshot(
    filled_postgres: psycopg2.extensions.connection, name: str
) -> None:
    """With scans disabled, the plan must not read a whole index instead."""
    with filled_postgres.cursor() as cursor:
        cursor.execute(ALONG_INDEXES.replace("LOCAL ", ""))
    plan = postgres_plan(filled_postgres, PLANNED[name])
    assert not whole(plan), "\n".join(plan)
    for step, behind in itertools.pairwise([*plan, ""]):
        if re.search(rf"Index (Only )?Scan.* on ({'|'.join(GROWING)})\b", step):
            assert "Index Cond" in behind, "\n".join(plan)


@pytest.mark.parametrize("name", ["due_hosts", "due_of_host", "put_off_those_behind"])
def test_what_a_sender_does_each_round_does_not_read_all_waiting_notifications(
    filled_sqlite: sqlite3.Connection,
    filled_postgres: psycopg2.extensions.connection,
    name: str,
) -> None:
    for plan in (
        sqlite_plan(filled_sqlite, PLANNED[name]),
        postgres_plan(filled_postgres, PLANNED[name]),
    ):
        assert "notification_state" not in "\n".join(plan), plan


@pytest.mark.parametrize("block", WALKS.values(), ids=lambda block: block.name)
def test_a_walk_reads_its_index_in_order(
    filled_sqlite: sqlite3.Connection,
    filled_postgres: psycopg2.extensions.connection,
    block: Block,
) -> None:
    """It sorts nothing, so the limit on the rows is a limit on the work."""
    with filled_postgres.cursor() as cursor:
        cursor.execute(ALONG_INDEXES.replace("LOCAL ", ""))
    theirs = "\n".join(sqlite_plan(filled_sqlite, block))
    assert "SEARCH workload USING" in theirs or block.name == "walk_all", theirs
    assert "TEMP B-TREE" not in theirs, theirs
    plan = "\n".join(postgres_plan(filled_postgres, block))
    assert "Index Scan" in plan and "Sort" not in plan, plan
