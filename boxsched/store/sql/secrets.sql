-- name: lock_project
-- The project that has a name, locked.
-- returns: id
SELECT id FROM project WHERE name = :name AND NOT deleted FOR NO KEY UPDATE OF project;

-- name: other_secrets
-- The number of the project's other secrets, and the total length of their encrypted texts in characters.
-- returns: secrets, characters
SELECT count(*), CAST(coalesce(sum(length(sealed)), 0) AS bigint)
  FROM secret WHERE project = :project AND name <> :name;

-- name: secret_version
-- The version of a secret.
-- returns: version
SELECT version FROM secret WHERE project = :project AND name = :name;

-- name: put_secret
-- Create a secret, or replace its value.
-- returns: name, as_file, version, updated_at
INSERT INTO secret (project, name, version, as_file, sealed, updated_at)
VALUES (:project, :name, :version, :as_file, :sealed, EXTRACT(EPOCH FROM clock_timestamp()))
ON CONFLICT (project, name) DO UPDATE
   SET version = excluded.version, as_file = excluded.as_file, sealed = excluded.sealed,
       updated_at = excluded.updated_at
RETURNING name, as_file, version, updated_at;

-- name: secrets
-- The secrets of a project by name, without their values.
-- returns: name, as_file, version, updated_at
SELECT name, as_file, version, updated_at FROM secret WHERE project = :project ORDER BY name;

-- name: drop_secret
-- Delete a secret.
-- returns: one
DELETE FROM secret WHERE project = :project AND name = :name RETURNING 1;

-- name: drop_secrets
-- Delete all secrets of a project.
-- returns: nothing
DELETE FROM secret WHERE project = :project;

-- name: sealed_secrets
-- The stored secrets of these projects.
-- returns: project, name, version, as_file, sealed
WITH v(project) AS (VALUES (:project))
SELECT secret.project, secret.name, secret.version, secret.as_file, secret.sealed
  FROM v JOIN secret ON secret.project = v.project;

-- name: sealed_git_credentials
-- The stored git credentials of these projects.
-- returns: project, sealed
WITH v(project) AS (VALUES (:project))
SELECT project.id AS project, project.git_credentials AS sealed
  FROM v JOIN project ON project.id = v.project
 WHERE project.git_credentials IS NOT NULL;

-- name: slice_of_secret
-- The next encrypted texts of secrets that do not begin with this prefix.
-- returns: project, name, version, sealed
SELECT project, name, version, sealed FROM secret
 WHERE (project, name) > (:project, :name) AND substr(sealed, 1, :length) <> :prefix
 ORDER BY project, name LIMIT :limit;

-- name: slice_of_webhook_secret
-- The same for webhook secrets; those of earlier versions are not encrypted.
-- returns: project, sealed
SELECT id AS project, webhook_secret AS sealed FROM project
 WHERE id > :project AND webhook_secret IS NOT NULL AND substr(webhook_secret, 1, :length) <> :prefix
 ORDER BY id LIMIT :limit;

-- name: slice_of_webhook_secret_before
-- The same for previous webhook secrets.
-- returns: project, sealed
SELECT id AS project, webhook_secret_before AS sealed FROM project
 WHERE id > :project AND webhook_secret_before IS NOT NULL
   AND substr(webhook_secret_before, 1, :length) <> :prefix
 ORDER BY id LIMIT :limit;

-- name: slice_of_git_credentials
-- The same for git credentials.
-- returns: project, sealed
SELECT id AS project, git_credentials AS sealed FROM project
 WHERE id > :project AND git_credentials IS NOT NULL
   AND substr(git_credentials, 1, :length) <> :prefix
 ORDER BY id LIMIT :limit;

-- name: reseal_secret
-- Replace an encrypted text, if it has not changed.
-- returns: one
UPDATE secret SET sealed = :sealed
 WHERE project = :project AND name = :name AND version = :version AND sealed = :before
RETURNING 1;

-- name: reseal_webhook_secret
-- The same for a webhook secret.
-- returns: one
UPDATE project SET webhook_secret = :sealed WHERE id = :project AND webhook_secret = :before
RETURNING 1;

-- name: reseal_webhook_secret_before
-- The same for a previous webhook secret.
-- returns: one
UPDATE project SET webhook_secret_before = :sealed
 WHERE id = :project AND webhook_secret_before = :before
RETURNING 1;

-- name: reseal_git_credentials
-- The same for git credentials.
-- returns: one
UPDATE project SET git_credentials = :sealed WHERE id = :project AND git_credentials = :before
RETURNING 1;

-- name: slice_of_outgoing
-- The same for the tokens and secrets of notifications.
-- returns: project, name, sealed
SELECT project, name, sealed FROM outgoing
 WHERE (project, name) > (:project, :name) AND sealed IS NOT NULL
   AND substr(sealed, 1, :length) <> :prefix
 ORDER BY project, name LIMIT :limit;

-- name: reseal_outgoing
-- The same for such a token or secret.
-- returns: one
UPDATE outgoing SET sealed = :sealed
 WHERE project = :project AND name = :name AND sealed = :before
RETURNING 1;
