-- The fourth schema. Every new column has a default, so that a program of the third schema can go on
-- beside this one during a rolling upgrade.

-- The promise of a workload that was the head of the queue: the first time T that was reserved for
-- it, in seconds since the epoch. NULL: it has not been the head.
ALTER TABLE workload ADD COLUMN promise DOUBLE PRECISION;

-- Why it failed, was stopped or was canceled, for a person. Set when a job fails or a stop is asked.
ALTER TABLE workload ADD COLUMN reason TEXT;

-- A workload as it is shown, in the order of values.Workload. It replaces shown_workload, which stays
-- as it is for programs of earlier schemas: they count its columns.
CREATE VIEW workload_shown AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- When an idempotency key was kept, by the database's clock. NULL: by a program of an earlier schema.
ALTER TABLE idempotency ADD COLUMN created_at DOUBLE PRECISION;

-- Sessions that are over are deleted, and tokens some time after their end.
CREATE INDEX page_session_over ON page_session (expires_at);
CREATE INDEX token_over ON token (expires_at) WHERE expires_at IS NOT NULL;

-- The token that a worker is bound to: with another one nobody takes its place while that holds. The
-- id of a token, or 'in-process' for a node's own worker. NULL: it has not connected since.
ALTER TABLE worker ADD COLUMN token TEXT;
CREATE INDEX worker_token ON worker (token);

-- How many workers a token may have.
ALTER TABLE token ADD COLUMN max_workers BIGINT NOT NULL DEFAULT 100 CHECK (max_workers > 0);

-- All workers that there are may have come with one token, and are to come back with it.
UPDATE token SET max_workers = (SELECT count(*) FROM worker)
 WHERE role = 'worker' AND (SELECT count(*) FROM worker) > 100;

-- A page of the workloads of one result: the failed ones, say, among many that passed.
CREATE INDEX workload_result ON workload (result, id) WHERE finished_at IS NOT NULL;

-- Whether a word of a worker waits for the leader: not read from all of an inbox that grew. Queries have
-- to repeat this condition as it is.
CREATE INDEX inbox_of_workers ON inbox (kind) WHERE kind IN ('boxes', 'worker_forgotten');

-- Pages of workloads (steps/pages.py), each along the index that leaves the fewest rows: of a branch,
-- of a server, of what is not a build, and what is unfinished in a project (which is asked before that
-- is deleted, too). Each costs every submission a little: a builds' server is NULL, and in no index.
CREATE INDEX workload_branch ON workload (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX workload_project_branch ON workload (project, branch, id) WHERE branch IS NOT NULL;
CREATE INDEX workload_server ON workload (server, id) WHERE server IS NOT NULL;
CREATE INDEX workload_project_server ON workload (project, server, id) WHERE server IS NOT NULL;
CREATE INDEX workload_kind ON workload (kind, id) WHERE kind <> 'build';
CREATE INDEX workload_project_unfinished ON workload (project, id) WHERE finished_at IS NULL;

-- The deleted projects of a name: one that is made anew goes on with their numbers, from this one.
ALTER TABLE project ADD COLUMN first_number BIGINT NOT NULL DEFAULT 1;
CREATE INDEX project_deleted ON project (name, next_number) WHERE deleted;

-- Commands that raised when a leader applied them, or that nobody can read: moved here from the inbox,
-- under its id, with the error. An operator reads and drops them.
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

-- Why a worker can begin no jobs at present, for a person: its Boxes get none. NULL: it can.
ALTER TABLE worker ADD COLUMN problem TEXT;

-- The histories that the database went on with: a first one, one for each later timeline of its
-- server, one for each backup that was restored. ``id`` is chosen at random; ``system`` and
-- ``timeline`` name PostgreSQL's server, and are NULL on SQLite.
CREATE TABLE lineage (
    number BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    system TEXT,
    timeline BIGINT,
    restored BOOLEAN NOT NULL DEFAULT FALSE,
    began_at DOUBLE PRECISION NOT NULL
);

-- The repository that all jobs and attempts of a workload clone: the project's when it was submitted;
-- empty: none. NULL: a program of an earlier schema stored it, and the project's of now counts.
ALTER TABLE workload ADD COLUMN repository TEXT;

-- Whether a job's log shows its commands.
ALTER TABLE job ADD COLUMN show_commands BOOLEAN NOT NULL DEFAULT TRUE;
