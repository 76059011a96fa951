-- name: find_workers
-- The workers with this identity or this name, and whether the token that each is bound to is valid.
-- Locked, so that no other connection becomes the same worker. ``fresh``: it has sent a heartbeat just now.
-- returns: id, identity, name, organization, token, token_holds, address, node, start, fresh
SELECT id, identity, name, organization, token, token = 'in-process' OR EXISTS (
           SELECT 1 FROM token
            WHERE token.id = worker.token AND NOT token.revoked
              AND coalesce(token.expires_at > EXTRACT(EPOCH FROM clock_timestamp()), TRUE)
       ),
       address, node, start,
       state <> 'disconnected'
       AND coalesce(seen_at > EXTRACT(EPOCH FROM clock_timestamp()) - :silence, FALSE)
  FROM worker
 WHERE identity = :identity OR name = :name
 ORDER BY id FOR NO KEY UPDATE OF worker;

-- name: lock_token
-- The maximum number of workers of a token. Locked, so that no other worker takes the last place.
-- returns: max_workers, bound, taken_by
SELECT max_workers, bound, taken_by FROM token WHERE id = :token FOR NO KEY UPDATE OF token;

-- name: take_token
-- The worker that takes a token for one worker.
-- returns: nothing
UPDATE token SET taken_by = :identity WHERE id = :token AND taken_by IS NULL;

-- name: workers_of_token
-- The workers that are bound to a token; those that can be removed first, the longest disconnected
-- first of all.
-- returns: id, away, gone
SELECT id, state = 'disconnected' AS away, state = 'disconnected' AND NOT EXISTS (
           SELECT 1 FROM box WHERE box.worker = worker.id AND (box.job IS NOT NULL OR NOT box.retired)
       ) AND NOT EXISTS (SELECT 1 FROM inbox WHERE kind IN ('boxes', 'worker_forgotten')) AS gone
  FROM worker WHERE token = :token
 ORDER BY gone DESC, seen_at, id;

-- name: insert_worker
-- Insert a worker that connects for the first time; if another was faster, the schema refuses it.
-- returns: id, connection
INSERT INTO worker (
    identity, name, address, state, organization, token, problem, node, connection, beat,
    lost_after, stop_grace, fingerprint, start, seen_at
) VALUES (
    :identity, :name, :address, 'connected', :organization, :token, :problem, :node, 1, 1,
    :lost_after, :stop_grace, :fingerprint, :start, EXTRACT(EPOCH FROM clock_timestamp())
)
RETURNING id, connection;

-- name: connect_worker
-- Store a new connection of a known worker. Until its first heartbeat on this connection, the worker
-- may still use the lost_after of an earlier one.
-- returns: id, connection
UPDATE worker
   SET identity = :identity, name = :name, address = :address, state = 'connected', node = :node,
       token = :token, problem = :problem, stop_grace = :stop_grace,
       fingerprint = :fingerprint, start = :start, drain_done = FALSE, connection = connection + 1, beat = beat + 1,
       seen_at = EXTRACT(EPOCH FROM clock_timestamp()),
       lost_after = CASE WHEN lost_after > :lost_after THEN lost_after ELSE :lost_after END
 WHERE id = :worker
RETURNING id, connection;

-- name: shard_of_organization
-- The shard whose leader gives out the Boxes of an organization's workers.
-- returns: shard
SELECT shard FROM organization WHERE id = :organization;

-- name: disconnect_workers
-- Mark workers as disconnected, except those that have connected again.
-- returns: nothing
WITH v(worker, number) AS (VALUES (:worker, :number))
UPDATE worker SET state = 'disconnected'
  FROM v WHERE worker.id = v.worker AND worker.connection = v.number;

-- name: beat
-- Record heartbeats, except of workers that have connected again. Such a worker uses the lost_after
-- of this node, because it sends heartbeats only after it received it. Stores whether each can begin
-- jobs; returns whether it is drained and has no jobs.
-- returns: id, drained
WITH v(worker, number, problem) AS (VALUES (:worker, :number, :problem))
UPDATE worker SET beat = beat + 1, lost_after = :lost_after, problem = v.problem,
       seen_at = EXTRACT(EPOCH FROM clock_timestamp())
  FROM v
 WHERE worker.id = v.worker AND worker.connection = v.number AND worker.state <> 'disconnected'
RETURNING id, drain_done AS drained;

-- name: pulses
-- The heartbeats of the workers of a shard's organization.
-- returns: id, node, connected, beat, connection, lost_after, name, problem, stop_grace,
-- fingerprint, differs
SELECT worker.id, worker.node, worker.state <> 'disconnected', worker.beat, worker.connection,
       worker.lost_after, worker.name, worker.problem, worker.stop_grace, worker.fingerprint,
       worker.differs
  FROM worker JOIN organization ON organization.id = worker.organization
 WHERE organization.shard = :shard
 ORDER BY worker.id;

-- name: places
-- The nodes to which these workers are connected.
-- returns: id, node
WITH v(id) AS (VALUES (:id))
SELECT worker.id, worker.node
  FROM v JOIN worker ON worker.id = v.id
 WHERE worker.state <> 'disconnected';

-- name: gone_worker
-- The worker, if it has been away since that connection, its Boxes are removed, and no command about
-- them waits for the leader. Locked, so that it does not connect meanwhile.
-- returns: id
SELECT id FROM worker
 WHERE id = :worker AND connection = :connection AND state = 'disconnected'
   AND NOT EXISTS (SELECT 1 FROM inbox WHERE kind IN ('boxes', 'worker_forgotten'))
   AND NOT EXISTS (
       SELECT 1 FROM box WHERE box.worker = worker.id AND (box.job IS NOT NULL OR NOT box.retired)
   )
   FOR NO KEY UPDATE OF worker;

-- name: forget_boxes
-- Delete the Boxes of a worker that is removed.
-- returns: nothing
DELETE FROM box WHERE worker = :worker;

-- name: forget_worker
-- Delete a worker.
-- returns: nothing
DELETE FROM worker WHERE id = :worker;

-- name: add_boxes
-- Insert Boxes that the worker did not have; the engine's batch makes them usable.
-- returns: nothing
WITH v(ordinal, box_type) AS (VALUES (:ordinal, :box_type))
INSERT INTO box (worker, ordinal, box_type, retired, freed_at)
SELECT :worker, v.ordinal, v.box_type, TRUE, 0 FROM v WHERE v.ordinal IS NOT NULL
ON CONFLICT (worker, ordinal, box_type) DO NOTHING;

-- name: drop_boxes
-- Delete a worker's former Boxes that were removed, if no command about them waits.
-- returns: id
WITH v(id) AS (VALUES (:id))
DELETE FROM box
 WHERE id IN (SELECT v.id FROM v) AND retired AND job IS NULL
   AND NOT EXISTS (SELECT 1 FROM inbox WHERE kind IN ('boxes', 'worker_forgotten') AND kind = 'boxes')
RETURNING id;

-- name: boxes_of_worker
-- The rows of a worker's Boxes, including former Boxes.
-- returns: id, worker, ordinal, box_type
SELECT id, worker, ordinal, box_type FROM box WHERE worker = :worker ORDER BY ordinal, id;

-- name: assignments
-- All jobs that each of these workers should be running now, as one text; no row for a worker without
-- jobs. A job that waits for another attempt belongs to no worker; else a worker that comes back would
-- begin it.
-- returns: worker, assignments[job, attempt, lease_token, box, ordinal, stop, timeout_seconds,
-- name, commands, environment, workload, number, kind, project, branch, tag, server, commit,
-- repository, started, stop_reason, show_commands, owner, has_secrets,
-- has_credentials, from_fork, clone, public_key, ssh_forwarding, restores, artifacts,
-- cache, build, image]
WITH v(worker) AS (VALUES (:worker))
SELECT box.worker, CAST(json_agg(json_build_array(
           job.id, job.attempt, job.lease_token, box.id, box.ordinal, job.state = 'stopping',
           job.timeout_seconds, job.name, job.commands, job.environment, workload.id,
           workload.number, workload.kind, project.name, workload.branch, workload.tag,
           workload.server, workload.commit_hash,
           nullif(coalesce(workload.repository, project.repository), ''),
           job.started_at IS NOT NULL,
           CASE WHEN job.state = 'stopping' THEN coalesce(job.reason, workload.reason) END,
           job.show_commands,
           CASE WHEN job.started_at IS NULL AND job.state <> 'stopping' THEN project.id END,
           NOT workload.from_fork
           AND EXISTS (SELECT 1 FROM secret WHERE secret.project = project.id),
           project.git_credentials IS NOT NULL, workload.from_fork, project.clone,
           workload.public_key, workload.ssh_forwarding, job.restored_from,
           job.artifacts, project.cache, workload.build, job.image
       )) AS text)
  FROM v
  JOIN box ON box.worker = v.worker
  JOIN job ON job.id = box.job
  JOIN workload ON workload.id = job.id / 1024
  JOIN project ON project.id = workload.project
 WHERE job.state IN ('assigned', 'running', 'stopping', 'unknown')
   AND NOT (
       job.state = 'unknown' AND job.reason IS NOT NULL
       AND (job.reason = CAST(:again AS text) OR job.reason LIKE CAST(:waits_again AS text))
   )
 GROUP BY box.worker;

-- name: boxes
-- Every Box of an organization that is in use, with its job.
-- returns: id, worker, ordinal, box_type, retired, job, last_project, last_branch, freed_at,
-- worker_name, workload, job_name
SELECT box.id, box.worker, box.ordinal, box.box_type, box.retired, box.job, box.last_project,
       box.last_branch, box.freed_at, worker.name AS worker_name, job.id / 1024 AS workload,
       job.name AS job_name
  FROM box
  JOIN worker ON worker.id = box.worker
  LEFT JOIN job ON job.id = box.job
 WHERE worker.organization = :organization AND (box.job IS NOT NULL OR NOT box.retired)
 ORDER BY worker.name, box.ordinal, box.id;

-- name: workers
-- The workers of an organization, with the number of their Boxes, and of the workloads of each kind that have a job on them.
-- returns: id, name, address, state, boxes, builds, deploys, ssh_sessions, seen_at, token, problem,
-- drain_by, drain_since, drain_note, drain_stop_at, drain_done, drain_automatic, fingerprint,
-- differs, notes
SELECT worker.id, worker.name, worker.address, worker.state,
       count(CASE WHEN box.retired AND box.job IS NULL THEN NULL ELSE box.id END),
       count(DISTINCT CASE WHEN workload.kind = 'build' THEN workload.id END),
       count(DISTINCT CASE WHEN workload.kind = 'deploy' THEN workload.id END),
       count(DISTINCT CASE WHEN workload.kind = 'ssh' THEN workload.id END),
       worker.seen_at, worker.token, worker.problem, worker.drain_by, worker.drain_since,
       worker.drain_note, worker.drain_stop_at, worker.drain_done, worker.drain_automatic,
       worker.fingerprint, worker.differs, worker.notes
  FROM worker
  LEFT JOIN box ON box.worker = worker.id
  LEFT JOIN workload ON workload.id = box.job / 1024
 WHERE worker.organization = :organization
 GROUP BY worker.id, worker.name, worker.address, worker.state, worker.seen_at, worker.token,
          worker.problem, worker.drain_by, worker.drain_since, worker.drain_note,
          worker.drain_stop_at, worker.drain_done, worker.drain_automatic, worker.fingerprint,
          worker.differs, worker.notes
 ORDER BY worker.name;
