-- The fifth schema. Every new column has a default, so that programs of the fourth schema can still use the
-- database during a rolling upgrade.

-- When a job that was given again got its present attempt, in seconds since the epoch; its running time counts
-- from then. NULL: it is at its first attempt, which began with its workload.
ALTER TABLE job ADD COLUMN given_at DOUBLE PRECISION;

-- The worker's seconds between SIGTERM and SIGKILL of a job. NULL: not known.
ALTER TABLE worker ADD COLUMN stop_grace DOUBLE PRECISION CHECK (stop_grace >= 0);

-- When a token was revoked; it is deleted some time later. NULL: it is valid, or a program of an earlier schema
-- revoked it; then the time counts from the first time that a node sees it.
ALTER TABLE token ADD COLUMN revoked_at DOUBLE PRECISION;
CREATE INDEX token_revoked ON token (revoked_at) WHERE revoked;
