-- What only PostgreSQL needs of the seventh schema: a statement, as it executes no empty text.
COMMENT ON COLUMN workload.submitted_by IS 'name or role of a token, webhook, automatic or schedule';
