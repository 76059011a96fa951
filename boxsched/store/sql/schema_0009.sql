-- The ninth schema. Every new column has a default, so that a program of the eighth schema can go on
-- beside this one during a rolling upgrade.

-- What a token may do and see. ``projects``, ``servers``: JSON lists of patterns; NULL: all. ``instance``:
-- it is not limited to its organization; NULL: a program of an earlier schema created it, and it is the
-- instance's if it is an admin's. ``last_used_at``: in seconds since the epoch, about a minute exact.
ALTER TABLE token ADD COLUMN projects TEXT;
ALTER TABLE token ADD COLUMN servers TEXT;
ALTER TABLE token ADD COLUMN instance BOOLEAN;
ALTER TABLE token ADD COLUMN last_used_at DOUBLE PRECISION;

-- The role of a token that may do less than an admin of the instance, and is not a worker's; otherwise
-- NULL, and ``role`` is its role. Programs of earlier schemas know no such tokens, and would let them do
-- everything. For them it is a worker's token that another worker has taken, so they refuse it.
ALTER TABLE token ADD COLUMN limited_role TEXT
    CHECK (limited_role IN ('viewer', 'developer', 'operator', 'admin'));

-- A random text of the worker's process, new at each of its starts. A process with another one may not
-- connect while this one sends heartbeats: one is a copy of the other. NULL: it did not say.
ALTER TABLE worker ADD COLUMN start TEXT CHECK (length(start) BETWEEN 1 AND 64);
