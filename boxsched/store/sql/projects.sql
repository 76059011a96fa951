-- name: lock_organization
-- Lock an organization against deletion; no row if it was deleted.
-- returns: shard
SELECT shard FROM organization
 WHERE id = :organization AND NOT deleted FOR KEY SHARE OF organization;

-- name: lock_version
-- The project that has a name, locked, and its version.
-- returns: id, version
SELECT id, version FROM project WHERE name = :name AND NOT deleted FOR NO KEY UPDATE OF project;

-- name: put_project
-- Create a project, or replace its settings as a new version. 1: it was created. A new project continues
-- the numbers of deleted projects with its name, so that web#12 always means the same workload.
-- returns: id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
-- webhook_secret_until, organization
INSERT INTO project (
    organization, name, settings, repository, clone, cache, max_boxes, version, scheduled,
    first_number, next_number, deleted
)
SELECT :organization, :name, :settings, CAST(:repository AS text), CAST(:clone AS text), CAST(:cache AS text),
       CAST(:max_boxes AS bigint), 1, 1, f.first, f.first, FALSE
  FROM (
    SELECT coalesce(max(p.next_number), 1) AS first
      FROM project AS p WHERE p.name = :name AND p.deleted
  ) AS f
 WHERE TRUE
ON CONFLICT (name) WHERE NOT deleted DO UPDATE
   SET settings = excluded.settings, repository = excluded.repository,
       clone = excluded.clone, cache = excluded.cache, max_boxes = excluded.max_boxes,
       version = project.version + 1, scheduled = project.version + 1
RETURNING id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
          webhook_secret_until, organization;

-- name: set_webhook_secret
-- Replace a project's webhook secret. The previous one stays valid for the given seconds. NULL: the project
-- has no secret from now on, and the previous one is not valid either.
-- returns: webhook_secret, webhook_secret_before, webhook_secret_until
UPDATE project
   SET webhook_secret = CAST(:sealed AS text),
       webhook_secret_before = CASE WHEN CAST(:sealed AS text) IS NOT NULL THEN webhook_secret END,
       webhook_secret_until = CASE
           WHEN CAST(:sealed AS text) IS NOT NULL AND webhook_secret IS NOT NULL
           THEN EXTRACT(EPOCH FROM clock_timestamp()) + :seconds
       END
 WHERE id = :project
RETURNING webhook_secret, webhook_secret_before, webhook_secret_until;

-- name: set_git_credentials
-- Replace a project's git credentials; NULL: none.
-- returns: nothing
UPDATE project SET git_credentials = CAST(:sealed AS text) WHERE id = :project;

-- name: project
-- One project by its full name.
-- returns: id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
-- webhook_secret_until, organization
SELECT id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
       webhook_secret_until, organization
  FROM project WHERE name = :name AND NOT deleted;

-- name: project_id
-- The project that has a name.
-- returns: id
SELECT id FROM project WHERE name = :name AND NOT deleted;

-- name: project_names
-- The names of these projects.
-- returns: id, name
WITH v(id) AS (VALUES (:id))
SELECT project.id, project.name FROM v JOIN project ON project.id = v.id;

-- name: projects
-- The projects of an organization, by name.
-- returns: as project
SELECT id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
       webhook_secret_until, organization
  FROM project WHERE organization = :organization AND NOT deleted ORDER BY name;

-- name: bury_project
-- Mark a project as deleted, which frees its name; earlier checked submissions are then refused.
-- returns: id, shard
UPDATE project SET deleted = TRUE, version = version + 1, webhook_secret = NULL,
       webhook_secret_before = NULL, webhook_secret_until = NULL, git_credentials = NULL
 WHERE name = :name AND NOT deleted
RETURNING id, (SELECT shard FROM organization WHERE organization.id = project.organization);

-- name: forget_durations
-- Delete the durations of a deleted project's jobs.
-- returns: nothing
DELETE FROM job_history WHERE project = :project;

-- name: unfinished_of_project
-- A row if the project has unfinished workloads; read under bury_project's row lock.
-- returns: one
SELECT 1 FROM workload WHERE finished_at IS NULL AND project = :project LIMIT 1;

-- name: slice_of_projects
-- The next projects by id, deleted or not.
-- returns: id
SELECT id FROM project WHERE id > :after ORDER BY id LIMIT :limit;

-- name: drop_deleted_projects
-- Delete the deleted projects between these ids that no row refers to. The row with a name's highest
-- number stays, because the next project of that name continues from it. If no number was given, no row
-- of the name needs to stay.
-- returns: one
DELETE FROM project
 WHERE id > :after AND id <= :last AND deleted
   AND NOT EXISTS (SELECT 1 FROM workload WHERE workload.project = project.id)
   AND NOT EXISTS (SELECT 1 FROM job_history WHERE job_history.project = project.id)
   AND (
       next_number = 1
       OR EXISTS (
           SELECT 1 FROM project AS living
            WHERE living.name = project.name AND NOT living.deleted
              AND living.next_number >= project.next_number
       )
       OR EXISTS (
           SELECT 1 FROM project AS other
            WHERE other.name = project.name AND other.deleted AND other.id <> project.id
              AND (other.next_number > project.next_number
                   OR (other.next_number = project.next_number AND other.id > project.id))
       )
   )
RETURNING 1;
