-- name: lock_shards
-- Nobody else begins a history, or a batch, meanwhile.
-- returns: id
SELECT id FROM shard ORDER BY id FOR UPDATE;

-- name: skip_ids
-- So many ids are not given.
-- returns: count
SELECT count(nextval(:sequence)) FROM generate_series(1, :count);
