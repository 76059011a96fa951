-- The third schema: the lost_after that each worker uses. NULL: not known, also if a program of an earlier
-- schema wrote the row.

-- The longest time, in seconds without a node, after which the worker's supervisors end a build's job.
ALTER TABLE worker ADD COLUMN lost_after DOUBLE PRECISION CHECK (lost_after > 0);

-- The time of the last heartbeat, by the database's clock. Only shown; no decision uses it.
ALTER TABLE worker ADD COLUMN seen_at DOUBLE PRECISION;
