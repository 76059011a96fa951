-- name: workload
-- One workload.
-- returns: id, project, project_name, number, kind, branch, tag, server, commit_hash, message,
-- author, priority, cancellation, fail_fast, state, result, created_at, queued_at, started_at,
-- finished_at, boxes, rebuild_of, build, public_key, reason, automatic, rollback, from_fork,
-- compare_url, event_at, target_branch, submitted_by, spared, priority_by, priority_note,
-- organization
SELECT * FROM workload_complete
 WHERE id = :workload;

-- name: shown
-- These workloads, in any order.
-- returns: as workload
WITH v(id) AS (VALUES (:id))
SELECT workload_complete.* FROM v JOIN workload_complete ON workload_complete.id = v.id;

-- name: numbers
-- The numbers of these workloads in their projects, without those that are deleted.
-- returns: id, number
WITH v(id) AS (VALUES (:id))
SELECT workload.id, workload.number FROM v JOIN workload ON workload.id = v.id;

-- name: unfinished
-- A page of an organization's unfinished workloads, by id.
-- returns: as workload
SELECT * FROM workload_complete
 WHERE organization = :organization AND finished_at IS NULL AND id > :after
 ORDER BY id LIMIT :limit;

-- name: recently_finished
-- An organization's last finished workloads, latest first.
-- returns: as workload
SELECT * FROM workload_complete
 WHERE organization = :organization AND finished_at IS NOT NULL
 ORDER BY finished_at DESC LIMIT :limit;

-- name: flaky_among
-- Those of these jobs that passed only when they were tried again. By their ids, as in jobs_of.
-- returns: id
WITH v(id) AS (VALUES (:id))
SELECT job.id FROM v JOIN job ON job.id = v.id
 WHERE job.result = 'passed' AND job.retried IS NOT NULL;

-- name: overtook_and_finished
-- Of the last finished workloads: the number that finished since, and the number that were submitted later
-- and started since.
-- returns: finished, came_later
SELECT count(*), coalesce(sum(CASE WHEN id > :workload AND started_at >= :since THEN 1 END), 0)
  FROM (SELECT id, started_at FROM workload
         WHERE organization = :organization AND finished_at >= :since
         ORDER BY finished_at DESC LIMIT :limit) AS recent;

-- name: overtook_and_run
-- The number of unfinished workloads that were submitted later, started since, and hold a Box.
-- returns: running
SELECT count(*) FROM workload
 WHERE id IN (SELECT job / 1024 FROM box WHERE job IS NOT NULL AND job / 1024 > :workload)
   AND organization = :organization AND started_at >= :since;

-- name: jobs_of
-- These jobs, in any order. By their ids, because with one range for each workload PostgreSQL would read
-- all jobs.
-- returns: id, name, box_type, timeout_seconds, expected_seconds, commands, environment, state,
-- result, box, attempt, lease_token, started_at, finished_at, exit_status, reason, show_commands,
-- restored_from, retry, retried, artifacts,
-- image
WITH v(id) AS (VALUES (:id))
SELECT job.id, job.name, job.box_type, job.timeout_seconds, job.expected_seconds, job.commands,
       job.environment, job.state, job.result, job.box, job.attempt, job.lease_token,
       job.started_at, job.finished_at, job.exit_status, job.reason, job.show_commands,
       job.restored_from, job.retry, job.retried, job.artifacts,
       job.image
  FROM v JOIN job ON job.id = v.id;

-- name: jobs_listed
-- These jobs, in any order, without their commands, which lists do not show.
-- returns: as jobs_of
WITH v(id) AS (VALUES (:id))
SELECT job.id, job.name, job.box_type, job.timeout_seconds, job.expected_seconds, '[]', '{}',
       job.state, job.result, job.box, job.attempt, job.lease_token, job.started_at,
       job.finished_at, job.exit_status, job.reason, job.show_commands, job.restored_from,
       job.retry, job.retried, job.artifacts, job.image
  FROM v JOIN job ON job.id = v.id;

-- name: concerns
-- The organization, the project and the server of a workload.
-- returns: organization, project, server
SELECT w.organization, p.name AS project, w.server FROM workload AS w JOIN project AS p ON p.id = w.project
 WHERE w.id = :workload;

-- name: job_state
-- A job's state and attempt, for readers of its log.
-- returns: state, attempt
SELECT state, attempt FROM job WHERE id = :job;

-- name: find_number
-- The workload with a number in the project of a name, or in a deleted project of that name.
-- returns: workload
SELECT max(f.id) FROM (
    SELECT w.id FROM project AS p JOIN workload AS w ON w.project = p.id AND w.number = :number
     WHERE p.name = :project AND NOT p.deleted
    UNION ALL
    SELECT w.id FROM project AS p JOIN workload AS w ON w.project = p.id AND w.number = :number
     WHERE p.name = :project AND p.deleted
) AS f;

-- name: events_after
-- Events after an id, in order.
-- returns: shard, batch, n, type, data
SELECT shard, batch, n, type, data FROM event
 WHERE shard = :shard AND (batch, n) > (:batch, :n)
 ORDER BY batch, n LIMIT :limit;

-- name: last_event
-- The position of the newest event.
-- returns: batch, n
SELECT batch, n FROM event WHERE shard = :shard ORDER BY batch DESC, n DESC LIMIT 1;

-- name: last_events
-- The position of the newest event in every shard; 0, 0 without events.
-- returns: id, batch, n
SELECT s.id, coalesce(s.batch, 0),
       coalesce((SELECT max(n) FROM event WHERE event.shard = s.id AND event.batch = s.batch), 0)
  FROM (SELECT id, (SELECT max(batch) FROM event WHERE event.shard = shard.id) AS batch
          FROM shard) AS s
 ORDER BY s.id;

-- name: events_there
-- The positions among these that have an event.
-- returns: shard, batch, n
WITH v(shard, batch, n) AS (VALUES (:shard, :batch, :n))
SELECT e.shard, e.batch, e.n
  FROM v JOIN event AS e ON e.shard = v.shard AND e.batch = v.batch AND e.n = v.n;

-- name: latest_history
-- The latest history of the database: a restored backup or a later timeline.
-- returns: restored, timeline, began_at
SELECT restored, timeline, began_at FROM lineage
 WHERE number > 1 OR restored ORDER BY number DESC LIMIT 1;

-- name: try_to_write
-- Write an unchanged row, to check that the database accepts writes.
-- returns: nothing
UPDATE organization SET name = name WHERE id = 1;

-- name: ping
-- Whether the store can read.
-- returns: one
SELECT 1 FROM meta LIMIT 1;

-- name: cluster
-- The database's name.
-- returns: value
SELECT value FROM meta WHERE key = 'cluster';

-- name: set_aside
-- The last commands of a shard that were set aside, latest first. NULL: of all shards.
-- returns: id, kind, payload, workload, error, at
SELECT id, kind, payload, workload, error, at FROM set_aside
 WHERE shard = coalesce(CAST(:shard AS bigint), shard) ORDER BY id DESC LIMIT :limit;

-- name: set_aside_of
-- The commands about one workload that were set aside, latest first.
-- returns: id, kind, payload, workload, error, at
SELECT id, kind, payload, workload, error, at FROM set_aside
 WHERE workload = :workload ORDER BY id DESC LIMIT :limit;

-- name: set_aside_one
-- One command of a shard that was set aside.
-- returns: id, kind, payload, workload, error, at
SELECT id, kind, payload, workload, error, at FROM set_aside WHERE id = :id AND shard = :shard;

-- name: drop_old_set_aside
-- Delete some of the commands that were set aside before this time, the oldest first.
-- returns: one
DELETE FROM set_aside WHERE at < :then AND id IN (
    SELECT id FROM set_aside ORDER BY id LIMIT :limit
)
RETURNING 1;

-- name: drop_set_aside_beyond
-- Delete the oldest commands beyond the number to keep.
-- returns: one
DELETE FROM set_aside WHERE id IN (
    SELECT id FROM set_aside ORDER BY id DESC LIMIT :limit OFFSET :kept
)
RETURNING 1;

-- name: drop_set_aside
-- Delete a command that an operator has dealt with.
-- returns: id
DELETE FROM set_aside WHERE id = :id AND shard = :shard
RETURNING id;

-- name: time
-- The database's time, in seconds since the epoch.
-- returns: now
SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision) AS now;
