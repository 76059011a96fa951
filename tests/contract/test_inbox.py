"""The inbox is read by shard and emptied by id, at any length.

SQLite has one shard: its entries are read in order of their ids.
"""

import sqlite3

import psycopg2
import pytest

from boxsched.protocol.shards import SHARD
from boxsched.store.blocks import Call, load
from boxsched.store.sqlite.connection import worded
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader, build

BLOCKS = load("leading.sql")
ENTRIES = 20_000  # most of them of shards without a leader just now
MINE = """
INSERT INTO inbox (shard, kind, payload, workload)
SELECT CASE WHEN id % 100 = 0 THEN 1 ELSE 2 + id % 7 END, 'submit', '{}', id FROM filler;
"""
FILLER = f"""
WITH RECURSIVE filler (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM filler WHERE id < {ENTRIES})
"""
READS = {
    "inbox": BLOCKS["inbox"](shard=SHARD, limit=1_000),
    "load_inbox_workloads": BLOCKS["load_inbox_workloads"](shard=SHARD, after=0, limit=1_000),
}


def plan(db: DatabaseUnderTest, call: Call) -> str:
    """Return the database's query plan, with a full inbox."""
    rows = call.rows or ()
    values = [value for row in rows for value in row] + list(call.values)
    if db.url.startswith("postgres"):
        raw = psycopg2.connect(db.url)
        with raw.cursor() as cursor:
            cursor.execute(FILLER + MINE)
            cursor.execute("ANALYZE inbox")
            cursor.execute("EXPLAIN " + call.block.written("%s", len(rows)), values)
            found = [row[0] for row in cursor]
    else:
        raw = sqlite3.connect(db.url.removeprefix("sqlite:///"))
        raw.execute(FILLER + MINE)
        raw.execute("ANALYZE")
        own = load("sqlite.sql").get(call.block.name, call.block)
        text = worded(own.written("?", len(rows)))
        found = [row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    raw.close()
    return "\n".join(found)


@pytest.mark.parametrize("read", READS)
async def test_a_leader_reads_only_its_own_entries(db: DatabaseUnderTest, read: str) -> None:
    await db.open()
    await db.close()
    found = plan(db, READS[read])
    if db.url.startswith("postgres"):
        assert "inbox_shard" in found, found
    else:
        assert "TEMP B-TREE" not in found, found


async def test_entries_are_deleted_by_their_ids(db: DatabaseUnderTest) -> None:
    await db.open()
    await db.close()
    found = plan(db, BLOCKS["empty_inbox"].rows([(1, 100), (200, 200)]))
    assert "Seq Scan on inbox" not in found and "SCAN inbox" not in found, found
    assert "inbox_pkey" in found or "INTEGER PRIMARY KEY" in found, found


async def test_a_commit_reads_the_oldest_commands_that_are_left(db: DatabaseUnderTest) -> None:
    """Where that costs no round trip, so not over PostgreSQL."""
    store = await db.open()
    leader = await Leader(store).lead()
    project = await leader.project()
    for _ in range(4):
        await leader.submit(build(project))
    entries = await store.inbox(SHARD, 1_000)
    ids = [entry.id for entry in entries]
    assert len(ids) >= 5
    committed = await store.commit(leader.next_batch(inbox=ids[:1]), 2)
    leader.batch += 1
    assert list(committed.inbox) == (entries[1:3] if store.is_near else [])
    assert committed.level is None
    committed = await store.commit(leader.next_batch(inbox=ids[1:2]), 0, leader.worker)
    leader.batch += 1
    assert list(committed.inbox) == []
    assert committed.level == ([] if store.is_near else None)
    committed = await store.commit(leader.next_batch(inbox=ids[2:]), 1_000)
    assert list(committed.inbox) == []
