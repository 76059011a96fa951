-- What only PostgreSQL needs of the eighth schema: a statement, as it executes no empty text.
COMMENT ON COLUMN job.image IS 'a reference, or dir:PATH; NULL: the system of the worker';
COMMENT ON COLUMN log_chunk.stored_at IS 'seconds since the epoch';
COMMENT ON COLUMN blob.used_at IS 'seconds since the epoch';
COMMENT ON COLUMN blob_part.stored_at IS 'seconds since the epoch';
COMMENT ON COLUMN workload.artifacts_dropped_at IS 'seconds since the epoch';
