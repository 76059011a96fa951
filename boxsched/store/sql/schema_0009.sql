-- The ninth schema: organizations and rights. Every new column has a default, so that a program of the eighth
-- schema can go on beside this one during a rolling upgrade: it serves the first organization, default.

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

-- How often a lost job of a build gets another Box, and when the organization was made (NULL: with the
-- database). The row of a deleted organization stays, because its finished workloads need it; its name is
-- free again: it ends with # and the id.
ALTER TABLE organization ADD COLUMN lost_retries BIGINT NOT NULL DEFAULT 2 CHECK (lost_retries BETWEEN 0 AND 10);
ALTER TABLE organization ADD COLUMN created_at DOUBLE PRECISION;
ALTER TABLE organization ADD COLUMN deleted BOOLEAN NOT NULL DEFAULT FALSE;

-- The organization of a workload's project, here because lists are read along indexes that begin with it.
ALTER TABLE workload ADD COLUMN organization BIGINT NOT NULL DEFAULT 1;
DROP INDEX workload_unfinished;
CREATE INDEX workload_unfinished ON workload (organization, id) WHERE finished_at IS NULL;
DROP INDEX workload_result;
CREATE INDEX workload_result ON workload (organization, result, id) WHERE finished_at IS NOT NULL;
DROP INDEX workload_branch;
CREATE INDEX workload_branch ON workload (organization, branch, id) WHERE branch IS NOT NULL;
DROP INDEX workload_server;
CREATE INDEX workload_server ON workload (organization, server, id) WHERE server IS NOT NULL;
DROP INDEX workload_kind;
CREATE INDEX workload_kind ON workload (organization, kind, id) WHERE kind <> 'build';
CREATE INDEX workload_ended ON workload (organization, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX workload_organization ON workload (organization, id);
CREATE INDEX project_organization ON project (organization, name) WHERE NOT deleted;
CREATE INDEX worker_organization ON worker (organization);

-- A workload as it is shown, in the order of values.Workload. It replaces workload_whole, which stays as it
-- is for programs of the eighth schema: they count its columns.
CREATE VIEW workload_complete AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason, w.automatic, w.rollback, w.from_fork, w.compare_url,
       w.event_at, w.target_branch, w.submitted_by, w.spared, w.priority_by, w.priority_note,
       w.organization
  FROM workload AS w JOIN project AS p ON p.id = w.project;
