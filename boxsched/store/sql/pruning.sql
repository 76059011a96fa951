-- name: oldest_events
-- The oldest events of a shard.
-- returns: batch, at, type, workload
SELECT batch, at, type, workload FROM event WHERE shard = :shard ORDER BY batch, n LIMIT :limit;

-- name: begin_history
-- Record that events of the shard up to this batch are deleted; no row if another node has done it.
-- returns: shard
INSERT INTO history_start (shard, batch, at) VALUES (:shard, :batch, :at)
ON CONFLICT (shard) DO UPDATE SET batch = excluded.batch, at = excluded.at
 WHERE history_start.batch < excluded.batch
RETURNING shard;

-- name: forget_events
-- Delete the shard's events up to this batch; returns the number.
-- returns: events
SELECT forget_events(:shard, :batch) AS events;

-- name: kept_workloads
-- The workloads among these that must stay: unfinished workloads; live deploys and their builds; builds
-- that wait to be deployed; workloads that an unfinished workload refers to; the last passed build of each
-- branch; and the workload with the greatest id. A deleted project has no servers and no branches.
-- returns: id
WITH v(id) AS (VALUES (:id))
SELECT w.id FROM v JOIN workload AS w ON w.id = v.id
 WHERE w.finished_at IS NULL
    OR EXISTS (SELECT 1 FROM server_live AS l WHERE l.workload = w.id)
    OR w.id IN (
        SELECT deploy.build
          FROM server_live JOIN workload AS deploy ON deploy.id = server_live.workload
         WHERE deploy.build IS NOT NULL
    )
    OR EXISTS (SELECT 1 FROM deploy_due AS due WHERE due.build = w.id)
    OR EXISTS (
        SELECT 1 FROM workload AS u
         WHERE u.build = w.id AND u.build IS NOT NULL AND u.finished_at IS NULL
    )
    OR EXISTS (
        SELECT 1 FROM workload AS u
         WHERE u.rebuild_of = w.id AND u.rebuild_of IS NOT NULL AND u.finished_at IS NULL
    )
    OR w.kind = 'build' AND w.result = 'passed' AND w.branch IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM workload AS n
         WHERE n.project = w.project AND n.branch = w.branch AND n.id > w.id
           AND n.kind = 'build' AND n.result = 'passed' AND n.branch IS NOT NULL
    ) AND NOT EXISTS (SELECT 1 FROM project AS p WHERE p.id = w.project AND p.deleted)
    OR w.id = (SELECT max(id) FROM workload);

-- name: boxes_of
-- The number of jobs of these workloads.
-- returns: id, boxes
WITH v(id) AS (VALUES (:id))
SELECT w.id, w.boxes FROM v JOIN workload AS w ON w.id = v.id;

-- name: drop_logs
-- Delete all logs of these jobs.
-- returns: one
WITH v(job) AS (VALUES (:job))
DELETE FROM log_chunk WHERE job IN (SELECT v.job FROM v)
RETURNING 1;

-- name: drop_log_files
-- Delete the rows of all logs in files of these jobs.
-- returns: one
WITH v(job) AS (VALUES (:job))
DELETE FROM log_file WHERE job IN (SELECT v.job FROM v)
RETURNING 1;

-- name: drop_jobs
-- Delete these jobs.
-- returns: nothing
WITH v(id) AS (VALUES (:id))
DELETE FROM job WHERE id IN (SELECT v.id FROM v);

-- name: drop_workloads
-- Delete these workloads with their notifications; return the project of each deleted workload.
-- returns: project
WITH v(id) AS (VALUES (:id))
DELETE FROM workload WHERE id IN (SELECT v.id FROM v)
RETURNING project;

-- name: count_pruned
-- Count deleted workloads of these projects.
-- returns: nothing
WITH v(project, workloads) AS (VALUES (:project, :workloads))
INSERT INTO pruned_workload (project, workloads)
SELECT v.project, v.workloads FROM v WHERE v.project IS NOT NULL
ON CONFLICT (project) DO UPDATE SET workloads = pruned_workload.workloads + excluded.workloads;

-- name: cut_history
-- Mark these workloads: some of their events were deleted.
-- returns: nothing
WITH v(id) AS (VALUES (:id))
UPDATE workload SET history_cut = TRUE FROM v WHERE workload.id = v.id AND NOT history_cut;

-- name: cut_workloads
-- The next workloads that were kept when their events were deleted, by finish time.
-- returns: id, finished_at
SELECT w.id, w.finished_at
  FROM workload AS w
 WHERE w.history_cut AND w.finished_at IS NOT NULL
   AND (w.finished_at, w.id) > (:finished_at, :id)
   AND w.finished_at < (
       SELECT history_start.at
         FROM organization JOIN history_start ON history_start.shard = organization.shard
        WHERE organization.id = w.organization
   )
   AND w.finished_at < :before
 ORDER BY w.finished_at, w.id LIMIT :limit;

-- name: counted_lanes
-- The next lanes with a count of superseded builds.
-- returns: lane
SELECT lane FROM lane_count WHERE lane > :after ORDER BY lane LIMIT :limit;

-- name: lanes_in_use
-- The lanes among these with a build that is unfinished, or finished at this time or later.
-- returns: lane
WITH v(lane, project, branch) AS (VALUES (:lane, :project, :branch))
SELECT v.lane FROM v
 WHERE EXISTS (
        SELECT 1 FROM workload AS w
         WHERE w.project = v.project AND w.branch = v.branch AND w.branch IS NOT NULL
           AND (w.finished_at IS NULL OR w.finished_at >= :before)
    );

-- name: logs_behind
-- The next chunks of logs, by job.
-- returns: job
SELECT job FROM log_chunk WHERE job > :job ORDER BY job LIMIT :limit;

-- name: ends_of
-- When these workloads were created and finished; no row for a deleted one.
-- returns: id, created_at, finished_at
WITH v(id) AS (VALUES (:id))
SELECT w.id, w.created_at, w.finished_at FROM v JOIN workload AS w ON w.id = v.id;

-- name: drop_tail
-- Delete the last chunks of a job's logs, so that the rest of a log has no gap at its beginning.
-- returns: one
DELETE FROM log_chunk
 WHERE job = :job AND (attempt, first_byte) IN (
    SELECT attempt, first_byte FROM log_chunk
     WHERE job = :job ORDER BY attempt DESC, first_byte DESC LIMIT :limit
 )
RETURNING 1;

-- name: history_starts
-- The last batch of each shard whose events were deleted, and its time.
-- returns: shard, batch, at
SELECT shard, batch, at FROM history_start;

-- name: were_given
-- Whether ids of workloads up to this one were issued, and some workloads were deleted.
-- returns: one
SELECT 1 AS one
 WHERE EXISTS (SELECT 1 FROM pruned_workload) AND :id < (SELECT max(id) FROM workload);

-- name: database_bytes
-- The size of the whole database.
-- returns: bytes
SELECT pg_database_size(current_database()) AS bytes;
