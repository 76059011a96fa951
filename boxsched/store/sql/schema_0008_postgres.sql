-- What only PostgreSQL needs of the eighth schema: a statement, as it executes no empty text.
COMMENT ON COLUMN job.image IS 'a reference, or dir:PATH; NULL: the system of the worker';
