-- name: put_pause
-- Begin a pause of an organization, or replace the pause of this name; returns the shard.
-- returns: shard
INSERT INTO pause (
    organization, name, project, branch, server, automatic, note, set_by, since, until
)
VALUES (
    :organization, :name, CAST(:project AS bigint), CAST(:branch AS text), CAST(:server AS text), :automatic,
    :note, :set_by, :since, CAST(:until AS double precision)
)
ON CONFLICT (organization, name) DO UPDATE
   SET project = excluded.project, branch = excluded.branch, server = excluded.server,
       automatic = excluded.automatic, note = excluded.note, set_by = excluded.set_by,
       since = excluded.since, until = excluded.until
RETURNING (SELECT shard FROM organization WHERE organization.id = pause.organization);

-- name: lock_living
-- Lock the project; no row if it was deleted.
-- returns: id
SELECT id FROM project WHERE id = :project AND NOT deleted FOR NO KEY UPDATE OF project;

-- name: pause_there
-- A row if there is a pause of this name.
-- returns: one
SELECT 1 FROM pause WHERE organization = :organization AND name = :name;

-- name: project_of_pause
-- The project of a pause.
-- returns: project
SELECT project FROM pause WHERE organization = :organization AND name = :name;

-- name: count_pauses
-- The number of other pauses.
-- returns: pauses
SELECT count(*) FROM pause WHERE organization = :organization AND name <> :name;

-- name: drop_pause
-- End a pause; returns the shard, no row if there is none.
-- returns: shard
DELETE FROM pause WHERE organization = :organization AND name = :name
RETURNING (SELECT shard FROM organization WHERE organization.id = pause.organization);

-- name: pauses
-- The pauses of an organization, by name.
-- returns: name, project, branch, server, automatic, note, set_by, since, until
SELECT name, project, branch, server, automatic, note, set_by, since, until FROM pause
 WHERE organization = :organization ORDER BY name;

-- name: drop_pauses_of_project
-- The pauses of a deleted project.
-- returns: name
DELETE FROM pause WHERE project = :project RETURNING name;

-- name: forget_lanes_of_project
-- The counts of a deleted project's lanes.
-- returns: nothing
DELETE FROM lane_count WHERE project = :project;
