-- Statements of the seventh schema only for PostgreSQL: none is needed, but PostgreSQL executes no empty text.
COMMENT ON COLUMN workload.submitted_by IS 'name or role of a token, webhook, automatic or schedule';
