-- name: lock_shards
-- Nobody else begins a history, or a batch, meanwhile.
SELECT id FROM shard ORDER BY id FOR UPDATE;

-- name: latest
-- The server and timeline of the history that was begun last.
SELECT system, timeline FROM lineage ORDER BY number DESC LIMIT 1;

-- name: add
-- A history begins.
INSERT INTO lineage (number, id, system, timeline, restored, began_at)
SELECT coalesce(max(number), 0) + 1, :id, :system, :timeline, :restored, :began_at FROM lineage;

-- name: skip_ids
-- So many ids are not given.
SELECT count(nextval(:sequence)) FROM generate_series(1, :count);
