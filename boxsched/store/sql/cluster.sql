-- name: open_shards
-- Insert missing shards, without a leader.
-- returns: nothing
WITH v(id) AS (VALUES (:id))
INSERT INTO shard (id, epoch, batch, epoch_batch, node)
SELECT v.id, 0, 0, 0, '' FROM v WHERE v.id IS NOT NULL
ON CONFLICT (id) DO NOTHING;

-- name: shards
-- Each shard's epoch, its last batch, and its present or last leader.
-- returns: id, epoch, batch, node
SELECT id, epoch, batch, node FROM shard ORDER BY id;

-- name: put_node
-- Insert or update the node with this name; its start is now.
-- returns: id, name, url, version, requires, started_at, schema
INSERT INTO node (name, url, version, requires, schema_known, started_at, schema_at)
SELECT :name, :url, :version, :requires, CAST(:schema_known AS bigint), t.now, t.now
  FROM (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision) AS now) AS t
 WHERE TRUE
ON CONFLICT (name) DO UPDATE
   SET url = excluded.url, version = excluded.version, requires = excluded.requires,
       started_at = excluded.started_at, schema_known = excluded.schema_known,
       schema_at = excluded.schema_at
RETURNING id, name, url, version, requires, started_at, schema_known AS schema;

-- name: nodes
-- All nodes, also absent ones, with the beat of their in-process worker.
-- returns: id, name, url, version, requires, started_at, seen_at, schema
SELECT id, name, url, version, requires, started_at,
       (SELECT max(worker.seen_at) FROM worker
         WHERE worker.node = node.name AND worker.address = 'in-process'),
       CASE WHEN schema_at = started_at THEN schema_known END AS schema
  FROM node ORDER BY id;

-- name: forget_node
-- Delete a node.
-- returns: nothing
DELETE FROM node WHERE name = :name;

-- name: old_nodes
-- The nodes among these that were started and last seen more than :seconds ago.
-- returns: name
WITH v(name) AS (VALUES (:name))
SELECT node.name FROM v JOIN node ON node.name = v.name
 WHERE node.started_at < EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
   AND NOT EXISTS (
       SELECT 1 FROM worker
        WHERE worker.node = node.name AND worker.address = 'in-process'
          AND worker.seen_at >= EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
   );

-- name: own_workers
-- The connections of the in-process workers of these nodes.
-- returns: id, connection
WITH v(name) AS (VALUES (:name))
SELECT worker.id, worker.connection FROM v JOIN worker ON worker.node = v.name
 WHERE worker.address = 'in-process' AND worker.state = 'disconnected';
