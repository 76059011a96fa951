-- The third schema: what each worker goes by. NULL, also for the statements of a program before it:
-- not known.

-- The most seconds without a node after which its supervisors may end a build's job.
ALTER TABLE worker ADD COLUMN lost_after DOUBLE PRECISION CHECK (lost_after > 0);

-- When it was heard last, by the database's clock: for people, nothing is decided by it.
ALTER TABLE worker ADD COLUMN seen_at DOUBLE PRECISION;
