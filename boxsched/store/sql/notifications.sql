-- name: write_notifications
-- Insert a row for each target of the workload's project that wants such an event. Commit statuses are
-- only for builds whose commit is known. Ids follow the order of the events.
-- returns: nothing
WITH v(workload, event, at, n) AS (VALUES (:workload, :event, :at, :n))
INSERT INTO notification (workload, target, host, event, at, since, due_at)
SELECT workload.id, outgoing.name, outgoing.host, v.event, v.at, v.at, v.at
  FROM v
  JOIN workload ON workload.id = v.workload
  JOIN outgoing ON outgoing.project = workload.project
                   AND replace(outgoing.events, ' ' || v.event || ' ', '') <> outgoing.events
 WHERE outgoing.name <> 'statuses'
    OR (workload.kind = 'build' AND workload.commit_hash IS NOT NULL)
 ORDER BY v.n;

-- name: put_target
-- Create or replace a target of a project; its secret stays.
-- returns: nothing
INSERT INTO outgoing (project, name, provider, url, host, events)
VALUES (:project, :name, CAST(:provider AS text), :url, :host, :events)
ON CONFLICT (project, name) DO UPDATE
   SET provider = excluded.provider, url = excluded.url, host = excluded.host,
       events = excluded.events;

-- name: seal_target
-- Replace the secret of a target; NULL: it has none.
-- returns: nothing
UPDATE outgoing SET sealed = CAST(:sealed AS text) WHERE project = :project AND name = :name;

-- name: targets
-- A project's targets.
-- returns: name, host, sealed
SELECT name, host, sealed FROM outgoing WHERE project = :project ORDER BY name;

-- name: drop_target
-- Delete a target of a project.
-- returns: nothing
DELETE FROM outgoing WHERE project = :project AND name = :name;

-- name: drop_targets
-- Delete all targets of a project.
-- returns: nothing
DELETE FROM outgoing WHERE project = :project;

-- name: notifying
-- The projects of an organization that have targets.
-- returns: project
SELECT DISTINCT outgoing.project
  FROM outgoing JOIN project ON project.id = outgoing.project
 WHERE project.organization = :organization;

-- name: due_hosts
-- Hosts with due rows. It steps from host to host along the index, so its time does not depend on the
-- number of rows.
-- returns: host
WITH RECURSIVE h(host) AS (
    SELECT (SELECT min(n.host) FROM notification AS n WHERE n.state = 'waiting')
    UNION ALL
    SELECT (SELECT min(n.host) FROM notification AS n
             WHERE n.state = 'waiting' AND n.host > h.host)
      FROM h WHERE h.host IS NOT NULL
)
SELECT h.host FROM h
 WHERE h.host IS NOT NULL
   AND EXISTS (
       SELECT 1 FROM notification AS n
        WHERE n.host = h.host AND n.state = 'waiting' AND n.due_at <= :now
   )
 LIMIT :limit;

-- name: due_of_host
-- Due rows of a host: only the first waiting row of each workload and target. Skips rows that another
-- node is about to claim. NOT IN: with ``= 'waiting'`` SQLite reads every waiting row.
-- returns: id
SELECT n.id FROM notification AS n
 WHERE n.host = :host AND n.state = 'waiting' AND n.due_at <= :now
   AND NOT EXISTS (
       SELECT 1 FROM notification AS e
        WHERE e.workload = n.workload AND e.target = n.target AND e.id < n.id
          AND e.state NOT IN ('delivered', 'dead')
   )
 ORDER BY n.due_at, n.id LIMIT :limit
   FOR UPDATE OF n SKIP LOCKED;

-- name: claim
-- Claim these rows for this node until this time; after that they are due again.
-- returns: nothing
WITH v(id) AS (VALUES (:id))
UPDATE notification SET due_at = :until, claimed = TRUE, attempts = attempts + 1
  FROM v WHERE notification.id = v.id;

-- name: claimed
-- The values for the delivery of these rows.
-- returns: id, workload, target, host, event, at, since, attempts, failures, provider, url, sealed,
-- project, repository
WITH v(id) AS (VALUES (:id))
SELECT n.id, n.workload, n.target, n.host, n.event, n.at, n.since, n.attempts, n.failures,
       outgoing.provider, outgoing.url, outgoing.sealed, project.id AS project,
       project.repository
  FROM v
  JOIN notification AS n ON n.id = v.id
  JOIN workload ON workload.id = n.workload
  JOIN project ON project.id = workload.project
  LEFT JOIN outgoing ON outgoing.project = project.id AND outgoing.name = n.target
 ORDER BY n.id;

-- name: settle
-- Store the results of these attempts, if they are still the latest.
-- returns: nothing
WITH v(id, attempts, state, due_at, failures, status, error, done_at) AS (VALUES (
    :id, :attempts, :state, :due_at, :failures, :status, :error, :done_at
))
UPDATE notification
   SET state = v.state, due_at = v.due_at, claimed = FALSE, failures = v.failures,
       status = CAST(v.status AS bigint), error = CAST(v.error AS text),
       done_at = CAST(v.done_at AS double precision)
  FROM v
 WHERE notification.id = v.id AND notification.attempts = v.attempts
   AND notification.state = 'waiting';

-- name: put_off_those_behind
-- Rows after a failed row wait until the same time, so that no claim reads them earlier.
-- returns: nothing
WITH v(id, workload, target, due_at) AS (VALUES (:id, :workload, :target, :due_at))
UPDATE notification SET due_at = v.due_at
  FROM v
 WHERE notification.workload = v.workload AND notification.target = v.target
   AND notification.id > v.id AND notification.state NOT IN ('delivered', 'dead')
   AND notification.due_at < v.due_at;

-- name: notifications
-- A page of an organization's notifications, newest first.
-- returns: id, workload, number, project, target, provider, url, host, event, at, state, attempts,
-- due_at, status, error, done_at, signed
SELECT n.id, n.workload, workload.number, project.name AS project, n.target, outgoing.provider,
       outgoing.url, n.host, n.event, n.at, n.state, n.attempts, n.due_at, n.status, n.error, n.done_at,
       outgoing.sealed IS NOT NULL AS signed
  FROM notification AS n
  JOIN workload ON workload.id = n.workload
  JOIN project ON project.id = workload.project
  LEFT JOIN outgoing ON outgoing.project = project.id AND outgoing.name = n.target
 WHERE workload.organization = :organization AND n.id < :before
 ORDER BY n.id DESC LIMIT :limit;

-- name: notifications_of_state
-- The same, in one state.
-- returns: as notifications
SELECT n.id, n.workload, workload.number, project.name AS project, n.target, outgoing.provider,
       outgoing.url, n.host, n.event, n.at, n.state, n.attempts, n.due_at, n.status, n.error, n.done_at,
       outgoing.sealed IS NOT NULL AS signed
  FROM notification AS n
  JOIN workload ON workload.id = n.workload
  JOIN project ON project.id = workload.project
  LEFT JOIN outgoing ON outgoing.project = project.id AND outgoing.name = n.target
 WHERE workload.organization = :organization AND n.id < :before AND n.state = :state
 ORDER BY n.id DESC LIMIT :limit;

-- name: resend
-- Send a row again, with another day of attempts; does not change a row that is being sent.
-- returns: one
UPDATE notification
   SET state = 'waiting', since = :now, failures = 0, done_at = NULL,
       due_at = CASE WHEN claimed THEN due_at ELSE :now END
 WHERE id = :id
RETURNING 1;

-- name: waiting_notifications
-- The number of waiting notifications, counted up to a limit.
-- returns: count
SELECT count(*) FROM (SELECT 1 FROM notification WHERE state = 'waiting' LIMIT :limit) AS w;

-- name: drop_old_notifications
-- Delete notifications that were delivered, or dead, before these times.
-- returns: one
DELETE FROM notification WHERE id IN (
    SELECT n.id FROM notification AS n
     WHERE n.state <> 'waiting'
       AND n.done_at < CASE n.state WHEN 'dead' THEN :dead ELSE :delivered END
       AND n.done_at < :delivered
     ORDER BY n.done_at LIMIT :limit
)
RETURNING 1;
