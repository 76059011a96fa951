-- name: organizations
-- All organizations, by name.
-- returns: id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
SELECT id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
  FROM organization WHERE NOT deleted ORDER BY name;

-- name: organization
-- One organization by its id.
-- returns: as organizations
SELECT id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
  FROM organization WHERE id = :organization AND NOT deleted;

-- name: lock_organizations
-- Lock the list of organizations, by the row of the default one, which is always there. Afterwards the
-- transaction sees all that other nodes made.
-- returns: id
SELECT id FROM organization WHERE id = 1 FOR NO KEY UPDATE OF organization;

-- name: named
-- The organization of a name.
-- returns: as organizations
SELECT id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
  FROM organization WHERE name = :name;

-- name: count_organizations
-- How many there are, and the id of the next one, which no other had.
-- returns: organizations, next
SELECT coalesce(sum(CASE WHEN deleted THEN 0 ELSE 1 END), 0), max(id) + 1 FROM organization;

-- name: free_shard
-- The first shard that no organization has; NULL: none is free.
-- returns: shard
SELECT min(shard.id) FROM shard
 WHERE NOT EXISTS (SELECT 1 FROM organization WHERE organization.shard = shard.id);

-- name: add_shard
-- Insert another shard, without a leader.
-- returns: id
INSERT INTO shard (id, epoch, batch, epoch_batch, node)
SELECT max(id) + 1, 0, 0, 0, '' FROM shard
RETURNING id;

-- name: insert_organization
-- Insert an organization.
-- returns: created_at
INSERT INTO organization (
    id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
) VALUES (
    :id, :name, :policy, CAST(:max_boxes AS bigint), CAST(:priority_aging AS double precision),
    :shard, :lost_retries, EXTRACT(EPOCH FROM clock_timestamp())
)
RETURNING created_at;

-- name: set_organization
-- Replace an organization's settings; its shard never changes.
-- returns: shard
UPDATE organization
   SET policy = :policy, max_boxes = CAST(:max_boxes AS bigint),
       priority_aging = CAST(:priority_aging AS double precision), lost_retries = :lost_retries
 WHERE id = :id AND NOT deleted
RETURNING shard;

-- name: unfinished_of_organization
-- A row if the organization has unfinished workloads; read under the locks of its projects.
-- returns: one
SELECT 1 FROM workload WHERE finished_at IS NULL AND organization = :organization LIMIT 1;

-- name: lock_organization
-- Lock an organization, so that nothing new refers to it meanwhile.
-- returns: id
SELECT id FROM organization WHERE id = :id FOR UPDATE OF organization;

-- name: projects_of_organization
-- The names of its projects, locked, in the order of their ids.
-- returns: name
SELECT name FROM project
 WHERE organization = :organization AND NOT deleted
 ORDER BY id FOR NO KEY UPDATE OF project;

-- name: revoke_tokens_of_organization
-- Revoke the tokens of an organization.
-- returns: nothing
UPDATE token SET revoked = TRUE, revoked_at = EXTRACT(EPOCH FROM clock_timestamp())
 WHERE organization = :organization AND NOT revoked;

-- name: bury_organization
-- Mark an organization as deleted, which frees its name.
-- returns: nothing
UPDATE organization SET deleted = TRUE, name = name || '#' || CAST(id AS text) WHERE id = :id;
