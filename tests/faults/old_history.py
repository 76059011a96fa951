"""The history of a service that ran for long: finished builds of one job, 200 days old."""

import time

AGE_SECONDS = 200 * 86_400


def old_history(workloads: int, *, branches: int, result: str) -> str:
    """Return statements that fill an empty database, in PostgreSQL's SQL.

    Each build has its events in its own batch. ``result``: of all builds and jobs.
    """
    then = time.time() - AGE_SECONDS
    return f"""
INSERT INTO project (id, name, settings, version, next_number, deleted)
VALUES (1, 'web', '{{}}', 1, {workloads} + 1, FALSE);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {workloads})
INSERT INTO workload (
    id, project, number, kind, lane, branch, priority, cancellation, fail_fast, boxes,
    created_at, state, result, queued_at, started_at, finished_at
)
SELECT i, 1, i, 'build', '1/branch/b' || (i % {branches}), 'b' || (i % {branches}), 50, 'none',
       FALSE, 1, {then} + i, 'finished', '{result}', {then} + i, {then} + i, {then} + i
  FROM n;
INSERT INTO job (id, name, box_type, timeout_seconds, expected_seconds, commands, environment,
                 state, result, attempt, started_at, finished_at)
SELECT id * 1024, 'test', 'default', 60, 60, '["make test"]', '{{}}', 'finished', '{result}', 1,
       started_at, finished_at FROM workload;
INSERT INTO log_chunk (job, attempt, first_byte, end_byte, data)
SELECT id * 1024, 1, 0, 4, 'text' FROM workload;
INSERT INTO event (shard, batch, n, type, at, workload, job, data)
SELECT 1, w.id, e.n, e.type, w.finished_at, w.id, CASE WHEN e.n = 4 THEN w.id * 1024 END,
       '{{"number":1,"project":"web","state":"finished","boxes_taken":["7"]}}'
  FROM workload AS w,
       (SELECT 1 AS n, 'workload.registered' AS type UNION ALL SELECT 2, 'workload.queued'
        UNION ALL SELECT 3, 'workload.started' UNION ALL SELECT 4, 'job.finished'
        UNION ALL SELECT 5, 'workload.finished') AS e;
UPDATE shard SET batch = {workloads}, epoch_batch = {workloads};
"""
