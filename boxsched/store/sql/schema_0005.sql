-- The fifth schema. Every new column has a default, so that a program of the fourth schema can go on
-- beside this one during a rolling upgrade.

-- When a job that was given again got its present attempt, in seconds since the epoch: its running time
-- counts from then. NULL: it has its first attempt, which began with its workload.
ALTER TABLE job ADD COLUMN given_at DOUBLE PRECISION;

-- Seconds that a worker leaves to a job between SIGTERM and SIGKILL. NULL: it did not say.
ALTER TABLE worker ADD COLUMN stop_grace DOUBLE PRECISION CHECK (stop_grace >= 0);

-- When a token was revoked: it is deleted some time later. NULL: it holds, or a program of an earlier
-- schema revoked it, and the time counts from the first look.
ALTER TABLE token ADD COLUMN revoked_at DOUBLE PRECISION;
CREATE INDEX token_revoked ON token (revoked_at) WHERE revoked;
