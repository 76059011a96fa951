-- What only PostgreSQL needs of the ninth schema: a statement, as it executes no empty text.
COMMENT ON COLUMN token.last_used_at IS 'seconds since the epoch';
COMMENT ON COLUMN organization.created_at IS 'seconds since the epoch';
