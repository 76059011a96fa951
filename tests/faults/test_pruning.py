"""kill -9 of a service that deletes old workloads: every invariant holds, and at last all went."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from boxsched.store.operating.check import check
from boxsched.store.sqlite.connection import worded
from tests.faults.scale import REPEATS
from tests.faults.service import Service
from tests.faults.waiting import until

WORKLOADS = 6_000
KILLS = 4 * REPEATS
# Builds of one job that ran one after the other, 200 days ago, each with a batch of its own.
OLD = f"""
INSERT INTO project (id, name, settings, version, next_number, deleted)
VALUES (1, 'web', '{{{{}}}}', 1, {WORKLOADS} + 1, FALSE);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {WORKLOADS})
INSERT INTO workload (
    id, project, number, kind, lane, branch, priority, cancellation, fail_fast, boxes,
    created_at, state, result, queued_at, started_at, finished_at
)
SELECT i, 1, i, 'build', '1/branch/b' || i % 9, 'b' || i % 9, 50, 'none', FALSE, 1,
       {{then}} + i, 'finished', 'failed', {{then}} + i, {{then}} + i, {{then}} + i
  FROM n;
INSERT INTO job (id, name, box_type, timeout_seconds, expected_seconds, commands, environment,
                 state, result, attempt, started_at, finished_at)
SELECT id * 1024, 'test', 'default', 60, 60, '["make test"]', '{{{{}}}}', 'finished', 'failed', 1,
       started_at, finished_at FROM workload;
INSERT INTO log_chunk (job, attempt, first_byte, end_byte, data)
SELECT id * 1024, 1, 0, 4, 'text' FROM workload;
INSERT INTO event (shard, batch, n, type, at, workload, job, data)
SELECT 1, w.id, e.n, e.type, w.finished_at, w.id, CASE WHEN e.n = 4 THEN w.id * 1024 END,
       '{{{{"boxes_taken":["7"]}}}}'
  FROM workload AS w,
       (SELECT 1 AS n, 'workload.registered' AS type UNION ALL SELECT 2, 'workload.queued'
        UNION ALL SELECT 3, 'workload.started' UNION ALL SELECT 4, 'job.finished'
        UNION ALL SELECT 5, 'workload.finished') AS e;
UPDATE shard SET batch = {WORKLOADS}, epoch_batch = {WORKLOADS};
"""


async def test_a_service_is_killed_while_it_deletes_what_is_old(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    url = f"sqlite:///{data / 'boxsched.sqlite'}"
    upgrade = [sys.executable, "-m", "boxsched", "db", "upgrade", "--database", url]
    await asyncio.to_thread(subprocess.run, upgrade, check=True, capture_output=True)
    raw = sqlite3.connect(data / "boxsched.sqlite", isolation_level=None)
    raw.executescript(f"BEGIN; {worded(OLD.format(then=time.time() - 200 * 86_400))} COMMIT")
    assert await check(url) == []

    def left(table: str = "workload") -> int:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    chance = random.Random(1)
    service = Service(data, "--boxes", "1", "--box-driver", "none")
    for _ in range(KILLS):
        before = left()
        service.start()
        enough = before - chance.randrange(1, 400)

        async def gone(enough: int = enough) -> bool:
            return left() <= enough

        await until(gone, "some workloads are deleted")
        service.kill()
        assert await check(url) == []
    service.start()
    try:

        async def all_gone() -> bool:
            return left() == 1 and left("log_chunk") <= 1

        await until(all_gone, "all but the one of the greatest id is deleted", within=120.0)
    finally:
        service.stop()
    assert await check(url) == []
    raw.close()
