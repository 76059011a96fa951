-- What only PostgreSQL needs of the fourth schema.

COMMENT ON COLUMN workload.promise IS 'seconds since the epoch';
