-- A shard's commands, in the order of their ids.
CREATE INDEX inbox_shard ON inbox (shard, id);
