-- The second schema: a cluster. What is new has a default, so that the statements of a program of
-- the first schema, which goes on beside this one for a while, still mean what they meant.

-- Every leadership that began: ``batch`` is the last one committed before it. Triggers write it.
-- First of all: a leader of the first schema may be at work, and locks its shard before all else.
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

-- An organization is in one shard for good, and a shard has one organization at most.
ALTER TABLE organization ADD COLUMN shard BIGINT NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX organization_shard ON organization (shard);

ALTER TABLE project ADD COLUMN organization BIGINT NOT NULL DEFAULT 1;

-- ``identity`` is the worker's own for good; NULL until one connects by the name of a row of the
-- first schema. ``connection`` grows with each connect, ``beat`` while a node hears from it.
ALTER TABLE worker ADD COLUMN organization BIGINT NOT NULL DEFAULT 1;
ALTER TABLE worker ADD COLUMN identity TEXT;
ALTER TABLE worker ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN connection BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX worker_identity ON worker (identity);

-- Every node that ever was; who is alive is told by the locks, each named by a node's id.
CREATE TABLE node (
    id BIGSERIAL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL
);

-- A revoked token stays, so that no node's start can bring it back.
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
