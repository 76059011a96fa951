-- The fourth schema. Every new column has a default, so that programs of the third schema can still use the
-- database during a rolling upgrade.

-- The promise of a workload that was the head of the queue: the first time that was reserved for it, in
-- seconds since the epoch. NULL: it has not been the head.
ALTER TABLE workload ADD COLUMN promise DOUBLE PRECISION;

-- Why it failed, was stopped or was canceled, as a text. Set when a job fails or somebody stops it.
ALTER TABLE workload ADD COLUMN reason TEXT;

-- The columns of a workload that are shown, in the order of values.Workload. This replaces shown_workload,
-- which stays unchanged because programs of earlier schemas count its columns.
CREATE VIEW workload_shown AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- When an idempotency key was stored, by the database's clock. NULL: by a program of an earlier schema.
ALTER TABLE idempotency ADD COLUMN created_at DOUBLE PRECISION;

-- Expired sessions are deleted, and tokens some time after their end.
CREATE INDEX page_session_over ON page_session (expires_at);
CREATE INDEX token_over ON token (expires_at) WHERE expires_at IS NOT NULL;

-- The token that a worker is bound to; while it is valid, another token cannot connect as this worker. The
-- id of a token, or 'in-process' for a node's own worker. NULL: it has not connected since this schema.
ALTER TABLE worker ADD COLUMN token TEXT;
CREATE INDEX worker_token ON worker (token);

-- The maximum number of workers of a token.
ALTER TABLE token ADD COLUMN max_workers BIGINT NOT NULL DEFAULT 100 CHECK (max_workers > 0);

-- All existing workers may use the same token, and must be able to connect with it again.
UPDATE token SET max_workers = (SELECT count(*) FROM worker)
 WHERE role = 'worker' AND (SELECT count(*) FROM worker) > 100;

-- For a page of workloads with one result, for example the failed ones among many that passed.
CREATE INDEX workload_result ON workload (result, id) WHERE finished_at IS NOT NULL;

-- To find commands of a worker that wait for the leader without reading all of a large inbox. Queries must
-- repeat this condition exactly.
CREATE INDEX inbox_of_workers ON inbox (kind) WHERE kind IN ('boxes', 'worker_forgotten');

-- For pages of workloads (steps/pages.py), which use the index with the fewest rows: by branch, by server, by
-- kind for workloads that are not builds, and unfinished workloads by project (also used before a project is
-- deleted). Each index costs every submission a little; builds have no server, so they are not in that index.
CREATE INDEX workload_branch ON workload (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX workload_project_branch ON workload (project, branch, id) WHERE branch IS NOT NULL;
CREATE INDEX workload_server ON workload (server, id) WHERE server IS NOT NULL;
CREATE INDEX workload_project_server ON workload (project, server, id) WHERE server IS NOT NULL;
CREATE INDEX workload_kind ON workload (kind, id) WHERE kind <> 'build';
CREATE INDEX workload_project_unfinished ON workload (project, id) WHERE finished_at IS NULL;

-- For the deleted projects of a name: a new project with this name continues with their numbers.
ALTER TABLE project ADD COLUMN first_number BIGINT NOT NULL DEFAULT 1;
CREATE INDEX project_deleted ON project (name, next_number) WHERE deleted;

-- Commands that raised an error when a leader applied them, or that cannot be decoded. They are moved here
-- from the inbox, with the same id and the error. An operator reads and drops them.
CREATE TABLE set_aside (
    id BIGINT PRIMARY KEY,
    shard BIGINT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    workload BIGINT,
    error TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE INDEX set_aside_workload ON set_aside (workload) WHERE workload IS NOT NULL;

-- Why a worker cannot begin jobs at present, as a text; its Boxes get no jobs. NULL: it can.
ALTER TABLE worker ADD COLUMN problem TEXT;

-- The histories of the database: the first one, one for each later timeline of its server, and one for each
-- restored backup. ``id`` is random; ``system`` and ``timeline`` identify PostgreSQL's server, and are NULL
-- on SQLite.
CREATE TABLE lineage (
    number BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    system TEXT,
    timeline BIGINT,
    restored BOOLEAN NOT NULL DEFAULT FALSE,
    began_at DOUBLE PRECISION NOT NULL
);

-- The repository that all jobs and attempts of a workload clone: that of the project at the submission. Empty:
-- none. NULL: a program of an earlier schema stored the workload, and the project's present repository is used.
ALTER TABLE workload ADD COLUMN repository TEXT;

-- Whether a job's log shows its commands.
ALTER TABLE job ADD COLUMN show_commands BOOLEAN NOT NULL DEFAULT TRUE;
