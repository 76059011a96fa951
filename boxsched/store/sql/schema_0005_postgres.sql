-- Statements of the fifth schema only for PostgreSQL.

COMMENT ON COLUMN job.given_at IS 'seconds since the epoch';
COMMENT ON COLUMN worker.stop_grace IS 'seconds';
