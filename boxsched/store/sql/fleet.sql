-- name: connect_worker
-- The worker of that name, connected.
INSERT INTO worker (name, address, state) VALUES (:name, :address, 'connected')
ON CONFLICT (name) DO UPDATE SET address = excluded.address, state = excluded.state
RETURNING id;

-- name: add_boxes
-- Boxes that the worker did not have; the engine's batch makes them usable.
WITH v(ordinal, box_type) AS (VALUES (:ordinal, :box_type))
INSERT INTO box (worker, ordinal, box_type, retired, freed_at)
SELECT :worker, v.ordinal, v.box_type, TRUE, 0 FROM v WHERE v.ordinal IS NOT NULL
ON CONFLICT (worker, ordinal, box_type) DO NOTHING;

-- name: boxes_of_worker
-- The rows of a worker's Boxes, also of those that it has no more.
SELECT id, worker, ordinal, box_type FROM box WHERE worker = :worker ORDER BY ordinal, id;

-- name: assignments
-- What a worker should be running now, as one text.
SELECT CAST(json_agg(json_build_array(
           job.id, job.attempt, job.lease_token, box.id, box.ordinal, job.state = 'stopping',
           job.timeout_seconds, job.name, job.commands, job.environment, workload.id,
           workload.number, workload.kind, project.name, workload.branch, workload.tag,
           workload.server, workload.commit_hash, project.repository, job.started_at IS NOT NULL
       )) AS text)
  FROM box
  JOIN job ON job.id = box.job
  JOIN workload ON workload.id = job.id / 1024
  JOIN project ON project.id = workload.project
 WHERE box.worker = :worker AND job.state IN ('assigned', 'running', 'stopping', 'unknown');

-- name: boxes
-- Every Box, with what runs on it.
SELECT box.id, box.worker, box.ordinal, box.box_type, box.retired, box.job, box.last_project,
       box.last_branch, box.freed_at, worker.name, job.id / 1024, job.name
  FROM box
  JOIN worker ON worker.id = box.worker
  LEFT JOIN job ON job.id = box.job
 ORDER BY worker.name, box.ordinal, box.id;

-- name: workers
-- The fleet: Boxes in being, and how many workloads of each kind have a job there now.
SELECT worker.id, worker.name, worker.address, worker.state,
       count(CASE WHEN box.retired AND box.job IS NULL THEN NULL ELSE box.id END),
       count(DISTINCT CASE WHEN workload.kind = 'build' THEN workload.id END),
       count(DISTINCT CASE WHEN workload.kind = 'deploy' THEN workload.id END),
       count(DISTINCT CASE WHEN workload.kind = 'ssh' THEN workload.id END)
  FROM worker
  LEFT JOIN box ON box.worker = worker.id
  LEFT JOIN workload ON workload.id = box.job / 1024
 GROUP BY worker.id, worker.name, worker.address, worker.state
 ORDER BY worker.name;
