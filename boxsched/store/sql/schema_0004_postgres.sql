-- Statements of the fourth schema only for PostgreSQL.

COMMENT ON COLUMN workload.promise IS 'seconds since the epoch';
