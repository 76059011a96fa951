-- The second schema, for a cluster. Every new column has a default, so that programs of the first schema
-- can still use the database during a rolling upgrade.

-- Every leadership that began. ``batch`` is the last batch committed before it. Triggers write it.
-- This is the first statement, because a leader of the first schema may be running, and it also locks its
-- shard first.
CREATE TABLE leadership (
    shard BIGINT NOT NULL REFERENCES shard (id),
    epoch BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    node TEXT NOT NULL,
    began_at DOUBLE PRECISION,
    PRIMARY KEY (shard, epoch)
) /* WITHOUT ROWID */;
INSERT INTO leadership (shard, epoch, batch, node)
SELECT id, epoch, epoch_batch, node FROM shard WHERE epoch > 0;

-- An organization never changes its shard, and a shard has at most one organization.
ALTER TABLE organization ADD COLUMN shard BIGINT NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX organization_shard ON organization (shard);

ALTER TABLE project ADD COLUMN organization BIGINT NOT NULL DEFAULT 1;

-- ``identity`` of a worker never changes; NULL in a row of the first schema until the worker connects.
-- ``connection`` grows with each connect, ``beat`` with each heartbeat.
ALTER TABLE worker ADD COLUMN organization BIGINT NOT NULL DEFAULT 1;
ALTER TABLE worker ADD COLUMN identity TEXT;
ALTER TABLE worker ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN connection BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX worker_identity ON worker (identity);

-- All nodes, also earlier ones. The locks, each named by a node's id, show which nodes are alive.
CREATE TABLE node (
    id BIGSERIAL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL
);

-- A revoked token stays, so that the start of a node cannot make it valid again.
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('admin', 'worker')),
    name TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    organization BIGINT NOT NULL REFERENCES organization (id),
    revoked BOOLEAN NOT NULL DEFAULT FALSE
);
