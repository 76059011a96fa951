-- What only PostgreSQL needs of the sixth schema.

COMMENT ON COLUMN secret.updated_at IS 'seconds since the epoch';
