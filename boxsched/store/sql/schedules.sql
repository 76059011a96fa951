-- name: put_schedules
-- Insert the schedules of this version of a project's settings; existing ones keep their next time.
-- returns: nothing
WITH v(cron, time_zone, branch, next_at) AS (VALUES (:cron, :time_zone, :branch, :next_at))
INSERT INTO schedule (project, cron, time_zone, branch, version, next_at, decided_at)
SELECT :project, v.cron, v.time_zone, v.branch, :version, CAST(v.next_at AS double precision), :now
  FROM v WHERE v.cron IS NOT NULL
ON CONFLICT (project, cron, time_zone, branch) DO UPDATE SET version = excluded.version;

-- name: drop_other_schedules
-- Delete schedules that are no longer in the settings.
-- returns: nothing
DELETE FROM schedule WHERE project = :project AND version <> :version;

-- name: drop_schedules_of_project
-- The schedules of a deleted project.
-- returns: nothing
DELETE FROM schedule WHERE project = :project;

-- name: drop_schedule
-- Delete a schedule that is in no project's settings.
-- returns: nothing
DELETE FROM schedule
 WHERE project = :project AND cron = :cron AND time_zone = :time_zone AND branch = :branch
   AND next_at = :next_at;

-- name: unscheduled
-- Projects whose settings were written by an earlier version: their schedules are not stored yet.
-- returns: id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
-- webhook_secret_until, organization
SELECT id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
       webhook_secret_until, organization
  FROM project WHERE NOT deleted AND scheduled <> version ORDER BY id LIMIT :limit;

-- name: set_scheduled
-- Note that the schedules of this version are stored; no row if the settings have another version.
-- returns: id
UPDATE project SET scheduled = :version
 WHERE id = :project AND version = :version AND NOT deleted
RETURNING id;

-- name: due_schedules
-- Due schedules, the earliest first.
-- returns: project, organization, project_name, cron, time_zone, branch, next_at
SELECT s.project, p.organization, p.name AS project_name, s.cron, s.time_zone, s.branch, s.next_at
  FROM schedule AS s JOIN project AS p ON p.id = s.project
 WHERE s.next_at <= :now ORDER BY s.next_at LIMIT :limit;

-- name: ahead_schedules
-- Schedules whose ``decided_at`` is in the future, because the clock was set back.
-- returns: as due_schedules
SELECT s.project, p.organization, p.name AS project_name, s.cron, s.time_zone, s.branch, s.next_at
  FROM schedule AS s JOIN project AS p ON p.id = s.project
 WHERE s.decided_at > :now ORDER BY s.decided_at LIMIT :limit;

-- name: next_schedule
-- The earliest next time of all schedules; NULL if there is none.
-- returns: next_at
SELECT min(next_at) AS next_at FROM schedule;

-- name: next_times
-- The next times of these schedules; no row for a deleted one.
-- returns: project, cron, time_zone, branch, next_at
WITH v(project, cron, time_zone, branch) AS (VALUES (:project, :cron, :time_zone, :branch))
SELECT s.project, s.cron, s.time_zone, s.branch, s.next_at
  FROM v
  JOIN schedule AS s ON s.project = v.project AND s.cron = v.cron
   AND s.time_zone = v.time_zone AND s.branch = v.branch;

-- name: settle_schedules
-- Store the decisions about schedules that were due at these times.
-- returns: nothing
WITH v(
    project, cron, time_zone, branch, due, next_at, decided_at, fired_at, workload, skipped_at,
    skipped
) AS (VALUES (
    :project, :cron, :time_zone, :branch, :due, :next_at, :decided_at, :fired_at, :workload,
    :skipped_at, :skipped
))
UPDATE schedule
   SET next_at = CAST(v.next_at AS double precision),
       decided_at = CAST(v.decided_at AS double precision),
       fired_at = coalesce(CAST(v.fired_at AS double precision), schedule.fired_at),
       workload = coalesce(CAST(v.workload AS bigint), schedule.workload),
       skipped_at = coalesce(CAST(v.skipped_at AS double precision), schedule.skipped_at),
       skipped = coalesce(CAST(v.skipped AS text), schedule.skipped)
  FROM v
 WHERE schedule.project = v.project AND schedule.cron = v.cron
   AND schedule.time_zone = v.time_zone AND schedule.branch = v.branch
   AND schedule.next_at = CAST(v.due AS double precision);

-- name: schedules_of_project
-- The schedules of a project.
-- returns: project, project_name, cron, time_zone, branch, next_at, fired_at, workload, skipped_at,
-- skipped
SELECT s.project, p.name AS project_name, s.cron, s.time_zone, s.branch, s.next_at, s.fired_at,
       s.workload, s.skipped_at, s.skipped
  FROM schedule AS s JOIN project AS p ON p.id = s.project
 WHERE s.project = :project
 ORDER BY s.cron, s.time_zone, s.branch;

-- name: schedules
-- A page of an organization's schedules, after this one.
-- returns: as schedules_of_project
SELECT s.project, p.name AS project_name, s.cron, s.time_zone, s.branch, s.next_at, s.fired_at,
       s.workload, s.skipped_at, s.skipped
  FROM schedule AS s JOIN project AS p ON p.id = s.project
 WHERE p.organization = :organization
   AND (s.project, s.cron, s.time_zone, s.branch) > (:project, :cron, :time_zone, :branch)
 ORDER BY s.project, s.cron, s.time_zone, s.branch LIMIT :limit;

-- name: last_builds
-- The states of these workloads, if they exist.
-- returns: id, number, state, result
WITH v(id) AS (VALUES (:id))
SELECT w.id, w.number, w.state, w.result FROM v JOIN workload AS w ON w.id = v.id;
