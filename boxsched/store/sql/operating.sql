-- name: shards
-- Each shard, its organization, and the time at which its leader began.
-- returns: id, epoch, batch, node, organization, since
SELECT s.id, s.epoch, s.batch, s.node, o.name AS organization, l.began_at AS since
  FROM shard AS s
  LEFT JOIN organization AS o ON o.shard = s.id
  LEFT JOIN leadership AS l ON l.shard = s.id AND l.epoch = s.epoch
 ORDER BY s.id;

-- name: load
-- The number of unfinished workloads, and of commands that wait for a leader.
-- returns: unfinished, commands
SELECT (SELECT count(*) FROM workload WHERE finished_at IS NULL), (SELECT count(*) FROM inbox);

-- name: jump_shards
-- Advance epochs, lease tokens and event ids beyond all that were issued since the backup.
-- returns: id, epoch, batch
UPDATE shard
   SET epoch = epoch + :by, batch = batch + :by, epoch_batch = batch + :by, node = ''
 WHERE id > 0
RETURNING id, epoch, batch;

-- name: jump_connections
-- Make all earlier connections of workers invalid.
-- returns: nothing
UPDATE worker
   SET connection = connection + :by,
       state = CASE WHEN state = 'draining' THEN state ELSE 'disconnected' END,
       lost_after = NULL
 WHERE id > 0;

-- name: may_have_begun
-- Mark assigned jobs as begun: they may have run since the backup, so they must not start again.
-- returns: nothing
UPDATE job SET state = 'running', started_at = :now
 WHERE state = 'assigned' AND id IN (SELECT job FROM box WHERE job IS NOT NULL);

-- name: raise_epochs
-- Begin a new leadership of every shard, so that no earlier leader can write.
-- returns: id, epoch, batch
UPDATE shard SET epoch = epoch + 1, epoch_batch = batch, node = '' WHERE id > 0
RETURNING id, epoch, batch;

-- name: name_in_process
-- Rename the in-process worker of a single node to its name in a cluster.
-- returns: nothing
UPDATE worker SET name = name || '@' || node, identity = name || '@' || node
 WHERE name = :name AND address = :name AND node <> '';
