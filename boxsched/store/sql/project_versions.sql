-- name: keep_former
-- Store the present version before a change, if a program with an earlier schema did not store it.
-- returns: nothing
INSERT INTO project_version (project, version, settings)
SELECT id, version, settings FROM project WHERE id = :project
ON CONFLICT (project, version) DO NOTHING;

-- name: add_version
-- Store the project's present settings as a version.
-- returns: nothing
INSERT INTO project_version (
    project, version, settings, changed, reverts, changed_by, changed_at
)
SELECT id, version, settings, :changed, CAST(:reverts AS bigint), :changed_by,
       EXTRACT(EPOCH FROM clock_timestamp())
  FROM project WHERE id = :project;

-- name: drop_old_versions
-- Delete all but the latest ``kept`` versions of a project.
-- returns: nothing
DELETE FROM project_version
 WHERE project = :project
   AND version <= (SELECT version FROM project WHERE id = :project) - :kept;

-- name: drop_versions
-- The versions of a deleted project.
-- returns: nothing
DELETE FROM project_version WHERE project = :project;

-- name: versions
-- The versions of a project below a number, latest first, without their settings.
-- returns: version, changed, reverts, changed_by, changed_at
SELECT version, changed, reverts, changed_by, changed_at FROM project_version
 WHERE project = :project AND version < :before
 ORDER BY version DESC LIMIT :limit;

-- name: version
-- One version of a project.
-- returns: version, changed, reverts, changed_by, changed_at, settings
SELECT version, changed, reverts, changed_by, changed_at, settings FROM project_version
 WHERE project = :project AND version = :version;
