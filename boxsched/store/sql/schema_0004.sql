-- The fourth schema. Every new column has a default, so that a program of the third schema can go on
-- beside this one during a rolling upgrade.

-- The promise of a workload that was the head of the queue: the first time T that was reserved for
-- it, in seconds since the epoch. NULL: it has not been the head.
ALTER TABLE workload ADD COLUMN promise DOUBLE PRECISION;
