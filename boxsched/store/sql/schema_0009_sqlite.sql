-- What only SQLite needs of the ninth schema.

-- Until now it had one shard.
CREATE INDEX inbox_shard ON inbox (shard, id);
