-- name: lock_shards
-- Lock the shards: no other transaction begins a history or a batch meanwhile.
-- returns: id
SELECT id FROM shard ORDER BY id FOR UPDATE;

-- name: skip_ids
-- Skip ids of a sequence.
-- returns: count
SELECT count(nextval(:sequence)) FROM generate_series(1, :count);
