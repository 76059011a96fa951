-- name: known_deliveries
-- Deliveries with effects that have one of these bodies, or one of these ids of the host. One index
-- look-up for each, because a join could read all deliveries of the project.
-- returns: project, body_sha256, delivery_id, workloads
WITH v(project, body_sha256, delivery_id) AS (VALUES (:project, :body_sha256, :delivery_id))
SELECT d.project, d.body_sha256, d.delivery_id, d.workloads
  FROM v
  JOIN delivery AS d ON d.id = (
      SELECT e.id FROM delivery AS e
       WHERE e.project = v.project AND e.body_sha256 = v.body_sha256
  )
 UNION
SELECT d.project, d.body_sha256, d.delivery_id, d.workloads
  FROM v
  JOIN delivery AS d ON d.id = (
      SELECT e.id FROM delivery AS e
       WHERE e.project = v.project AND e.delivery_id = CAST(v.delivery_id AS text)
  );

-- name: same_deliveries
-- The deliveries among these that really are repetitions, if the project has not changed. One index
-- look-up for each, as in known_deliveries.
-- returns: project, version, body_sha256, event, workloads
WITH v(project, version, body_sha256) AS (VALUES (:project, :version, :body_sha256))
SELECT d.project, v.version, d.body_sha256, d.event, d.workloads
  FROM v
  JOIN project ON project.id = v.project AND project.version = v.version
  JOIN delivery AS d ON d.id = (
      SELECT e.id FROM delivery AS e
       WHERE e.project = v.project AND e.body_sha256 = v.body_sha256
  );

-- name: unfinished_of_lanes
-- The unfinished workloads of these lanes that are not being stopped, oldest first.
-- returns: lane, id
WITH v(lane) AS (VALUES (:lane))
SELECT w.lane, w.id FROM v JOIN workload AS w ON w.lane = v.lane
 WHERE w.finished_at IS NULL AND w.stop_cause IS NULL
 ORDER BY w.id;

-- name: insert_deliveries
-- Insert deliveries with their results.
-- returns: nothing
WITH v(
    project, provider, event, received_at, result, reason, workloads, delivery_id, body_sha256
) AS (VALUES (
    :project, :provider, :event, :received_at, :result, :reason, :workloads, :delivery_id,
    :body_sha256
))
INSERT INTO delivery (
    project, provider, event, received_at, result, reason, workloads, delivery_id, body_sha256
)
SELECT v.project, v.provider, v.event, v.received_at, v.result, CAST(v.reason AS text),
       v.workloads, CAST(v.delivery_id AS text), CAST(v.body_sha256 AS text)
  FROM v WHERE v.project IS NOT NULL;

-- name: webhook_secrets
-- The stored webhook secrets of these projects. Also returns a row for a name without a project, so
-- that both take the same time.
-- returns: name, project, now, before, until
WITH v(name) AS (VALUES (:name))
SELECT v.name, project.id AS project, project.webhook_secret AS now,
       project.webhook_secret_before AS before, project.webhook_secret_until AS until
  FROM v LEFT JOIN project ON project.name = v.name AND NOT project.deleted
 WHERE v.name IS NOT NULL;

-- name: deliveries
-- A page of an organization's deliveries, newest first.
-- returns: id, provider, event, project, received_at, result, reason, workloads
SELECT d.id, d.provider, d.event, project.name AS project, d.received_at, d.result, d.reason,
       d.workloads
  FROM delivery AS d JOIN project ON project.id = d.project
 WHERE project.organization = :organization AND d.id < :before
 ORDER BY d.id DESC LIMIT :limit;

-- name: deliveries_with_result
-- The same, with one result.
-- returns: as deliveries
SELECT d.id, d.provider, d.event, project.name AS project, d.received_at, d.result, d.reason,
       d.workloads
  FROM delivery AS d JOIN project ON project.id = d.project
 WHERE project.organization = :organization AND d.result = :result AND d.id < :before
 ORDER BY d.id DESC LIMIT :limit;

-- name: deliveries_of_project
-- The same, of one project and with one result.
-- returns: as deliveries
SELECT d.id, d.provider, d.event, project.name AS project, d.received_at, d.result, d.reason,
       d.workloads
  FROM delivery AS d JOIN project ON project.id = d.project
 WHERE d.project = :project AND d.result = :result AND d.id < :before
 ORDER BY d.id DESC LIMIT :limit;

-- name: drop_old_deliveries
-- Delete some of the deliveries received before this time, the oldest first.
-- returns: one
DELETE FROM delivery
 WHERE id IN (SELECT d.id FROM delivery AS d ORDER BY d.id LIMIT :limit)
   AND received_at < :before
RETURNING 1;
