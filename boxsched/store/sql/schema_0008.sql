-- The eighth schema. Every new column has a default, so that a program of the seventh schema can go on
-- beside this one during a rolling upgrade.

-- The image that a job runs in: a reference, or dir:PATH for a folder of the worker. NULL: the worker's own
-- system.
ALTER TABLE job ADD COLUMN image TEXT;
