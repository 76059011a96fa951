-- name: organization
-- The one organization's queue settings.
SELECT id, name, policy, max_boxes, priority_aging FROM organization WHERE id = 1;

-- name: set_organization
-- Replace an organization's queue settings.
UPDATE organization
   SET name = :name, policy = :policy, max_boxes = :max_boxes, priority_aging = :priority_aging
 WHERE id = :id;

-- name: put_project
-- Create a project, or replace its settings under a new version; version 1 = it was created.
INSERT INTO project (
    name, settings, repository, max_boxes, webhook_secret, version, next_number, deleted
) VALUES (:name, :settings, :repository, :max_boxes, :secret, 1, 1, FALSE)
ON CONFLICT (name) WHERE NOT deleted DO UPDATE
   SET settings = excluded.settings, repository = excluded.repository,
       max_boxes = excluded.max_boxes, version = project.version + 1,
       webhook_secret = CASE WHEN :keep_secret THEN project.webhook_secret
                             ELSE excluded.webhook_secret END
RETURNING id, name, settings, max_boxes, version, webhook_secret;

-- name: project
-- One project by its name.
SELECT id, name, settings, max_boxes, version, webhook_secret
  FROM project WHERE name = :name AND NOT deleted;

-- name: projects
-- All projects, by name.
SELECT id, name, settings, max_boxes, version, webhook_secret
  FROM project WHERE NOT deleted ORDER BY name;

-- name: bury_project
-- The project's name is free from now on, and no submission that was checked before is stored.
UPDATE project SET deleted = TRUE, version = version + 1, webhook_secret = NULL
 WHERE name = :name AND NOT deleted
RETURNING id;

-- name: unfinished_of_project
-- A row while the project has unfinished workloads; asked behind bury_project's row lock.
SELECT 1 FROM workload WHERE finished_at IS NULL AND project = :project LIMIT 1;
