-- name: ghosts_of
-- The ghosts of these workers, each with what the store knows of its job; none of a worker that has
-- another connection by now.
-- returns: worker, id, job, attempt, lease_token, build, running, killed_by
WITH v(worker, number) AS (VALUES (:worker, :number))
SELECT ghost.worker, ghost.id, ghost.job, ghost.attempt, ghost.lease_token, ghost.build,
       ghost.running, ghost.killed_by
  FROM v
  JOIN worker ON worker.id = v.worker AND worker.connection = v.number
  JOIN ghost ON ghost.worker = v.worker;

-- name: lock_haunted
-- The workers that are still on these connections; locked, so that no two nodes write their ghosts.
-- returns: worker
WITH v(worker, number) AS (VALUES (:worker, :number))
SELECT worker.id AS worker
  FROM v JOIN worker ON worker.id = v.worker AND worker.connection = v.number
 ORDER BY worker.id FOR NO KEY UPDATE OF worker;

-- name: jobs_of_ghosts
-- The jobs of ghosts, as far as they decide whether something is left to decide, or was decided.
-- returns: id, state, lease_token, reason, restored_from
WITH v(id) AS (VALUES (:id))
SELECT DISTINCT job.id, job.state, job.lease_token, job.reason, job.restored_from
  FROM v JOIN job ON job.id = v.id;

-- name: insert_ghosts
-- Insert ghosts that were found.
-- returns: nothing
WITH v(worker, job, attempt, lease_token, build, running) AS (VALUES (
    :worker, :job, :attempt, :lease_token, :build, :running
))
INSERT INTO ghost (worker, job, attempt, lease_token, build, running, since)
SELECT v.worker, v.job, v.attempt, v.lease_token, v.build, v.running,
       EXTRACT(EPOCH FROM clock_timestamp())
  FROM v WHERE v.worker IS NOT NULL
ON CONFLICT (worker, job, lease_token) DO NOTHING;

-- name: ghosts_ended
-- Note which ghosts have ended.
-- returns: nothing
WITH v(id) AS (VALUES (:id)) UPDATE ghost SET running = FALSE FROM v WHERE ghost.id = v.id;

-- name: drop_ghosts
-- Delete ghosts that their workers do not hold any more.
-- returns: nothing
WITH v(id) AS (VALUES (:id)) DELETE FROM ghost WHERE id IN (SELECT v.id FROM v);

-- name: ghosts
-- Every ghost of an organization, with its worker and its job as they are now.
-- returns: id, worker, worker_name, job, attempt, lease_token, build, running, since, killed_by,
-- connected, project, number, kind, name, workload_state, job_state, job_result, job_attempt,
-- job_token, job_worker, job_begun, job_reason
SELECT ghost.id, ghost.worker, worker.name AS worker_name, ghost.job, ghost.attempt,
       ghost.lease_token, ghost.build, ghost.running, ghost.since, ghost.killed_by,
       worker.state <> 'disconnected' AS connected, project.name AS project, workload.number,
       workload.kind, job.name, workload.state AS workload_state, job.state AS job_state,
       job.result AS job_result, job.attempt AS job_attempt, job.lease_token AS job_token,
       box.worker AS job_worker, job.started_at IS NOT NULL AS job_begun, job.reason AS job_reason
  FROM ghost
  JOIN worker ON worker.id = ghost.worker
  LEFT JOIN job ON job.id = ghost.job
  LEFT JOIN workload ON workload.id = ghost.job / 1024
  LEFT JOIN project ON project.id = workload.project
  LEFT JOIN box ON box.job = job.id
 WHERE worker.organization = :organization
 ORDER BY worker.name, ghost.since, ghost.id;

-- name: kill_ghost
-- Note who decides to end a ghost; no row if it is gone, or if somebody has decided it.
-- returns: worker, job, attempt, lease_token
UPDATE ghost SET killed_by = :killed_by, killed_at = EXTRACT(EPOCH FROM clock_timestamp())
 WHERE id = :id AND killed_by IS NULL
RETURNING worker, job, attempt, lease_token;

-- name: haunted_worker
-- A worker's name, and the shard that it belongs to.
-- returns: name, shard
SELECT worker.name, organization.shard
  FROM worker JOIN organization ON organization.id = worker.organization
 WHERE worker.id = :worker;

-- name: set_notes
-- What operators should know of workers.
-- returns: nothing
WITH v(worker, notes) AS (VALUES (:worker, :notes))
UPDATE worker SET notes = CAST(v.notes AS text) FROM v WHERE worker.id = v.worker;
