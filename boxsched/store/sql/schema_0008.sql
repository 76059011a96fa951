-- The eighth schema. Every new column has a default, so that a program of the seventh schema can go on
-- beside this one during a rolling upgrade.

-- The image that a job runs in: a reference, or dir:PATH for a folder of the worker. NULL: the worker's own
-- system.
ALTER TABLE job ADD COLUMN image TEXT;

-- Artifacts. The patterns of the files that are kept of a job's workspace, a JSON list.
ALTER TABLE job ADD COLUMN artifacts TEXT NOT NULL DEFAULT '[]';

-- When a workload's artifacts were deleted, because they were old; NULL: never.
ALTER TABLE workload ADD COLUMN artifacts_dropped_at DOUBLE PRECISION;

-- The patterns of the files that workers keep from job to job of a project, and its default branch, as JSON
-- (protocol/assignments.ProjectCache). NULL: nothing.
ALTER TABLE project ADD COLUMN cache TEXT;

-- When this chunk was stored, in seconds since the epoch. NULL: a program of an earlier schema stored it.
ALTER TABLE log_chunk ADD COLUMN stored_at DOUBLE PRECISION;

-- Contents of artifacts, each once. ``file``: the name in its place, the store's folder ('folder') or
-- blob_part ('database'); it is never used again, so the file can be removed after the row.
CREATE TABLE blob (
    sha256 TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    size BIGINT NOT NULL CHECK (size >= 0),
    place TEXT NOT NULL CHECK (place IN ('folder', 'database')),
    file TEXT NOT NULL UNIQUE,
    used_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX blob_used_at ON blob (used_at);

-- A part of a file in the database; it may be of a file that has no row in ``blob`` yet.
CREATE TABLE blob_part (
    file TEXT NOT NULL,
    first_byte BIGINT NOT NULL CHECK (first_byte >= 0),
    stored_at DOUBLE PRECISION NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (file, first_byte)
);

CREATE TABLE artifact (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blob (sha256),
    size BIGINT NOT NULL CHECK (size >= 0),
    executable BOOLEAN NOT NULL,
    PRIMARY KEY (job, attempt, path)
);
CREATE INDEX artifact_sha256 ON artifact (sha256);

-- A log that was moved from log_chunk into a file of the store's folder.
CREATE TABLE log_file (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    size BIGINT NOT NULL CHECK (size >= 0),
    PRIMARY KEY (job, attempt)
);

-- Which ends of an attempt give the job another attempt in the same Box, and how often each has done so,
-- as JSON (protocol/retries.py). NULL: none does, and none has.
ALTER TABLE job ADD COLUMN retry TEXT;
ALTER TABLE job ADD COLUMN retried TEXT;

-- The lease token under which its worker began the attempt, if a person gave the attempt back to it with
-- a new one.
ALTER TABLE job ADD COLUMN restored_from BIGINT;

-- Ghosts: attempts that a worker holds, and that are not its attempts for the scheduler. ``running`` FALSE:
-- it has ended, and its end counts for nothing. ``killed_by``: who decided to end it; NULL: nobody has
-- decided. Times are seconds since the epoch. What a worker does not hold any more has no row.
CREATE TABLE ghost (
    id BIGSERIAL PRIMARY KEY,
    worker BIGINT NOT NULL REFERENCES worker (id) ON DELETE CASCADE,
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    lease_token BIGINT NOT NULL,
    build BOOLEAN NOT NULL,
    running BOOLEAN NOT NULL,
    since DOUBLE PRECISION NOT NULL,
    killed_by TEXT,
    killed_at DOUBLE PRECISION
);
CREATE UNIQUE INDEX ghost_attempt ON ghost (worker, job, lease_token);

-- What an operator should know of a worker, as a JSON list of texts: records in its quarantine. NULL:
-- nothing.
ALTER TABLE worker ADD COLUMN notes TEXT;

-- A token for one worker: ``taken_by`` is the identity of the first that connected with it. Tokens of
-- earlier schemas are for as many workers as they say.
ALTER TABLE token ADD COLUMN bound BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE token ADD COLUMN taken_by TEXT;

-- Whether an SSH session may forward ports and agents: the project's setting when it was asked for.
ALTER TABLE workload ADD COLUMN ssh_forwarding BOOLEAN NOT NULL DEFAULT FALSE;

-- How a session is reached while the attempt with this lease token runs: ``host`` and ``port`` of its
-- worker (NULL: only through a node), and the public key of its server.
CREATE TABLE ssh_session (
    workload BIGINT PRIMARY KEY REFERENCES workload (id) ON DELETE CASCADE,
    lease_token BIGINT NOT NULL,
    host TEXT,
    port BIGINT CHECK (port BETWEEN 1 AND 65535),
    host_key TEXT NOT NULL,
    CHECK ((host IS NULL) = (port IS NULL))
);

-- Who gave a workload another priority, and why. NULL: it has the one that it was submitted with.
ALTER TABLE workload ADD COLUMN priority_by TEXT;
ALTER TABLE workload ADD COLUMN priority_note TEXT;

-- A workload as it is shown, in the order of values.Workload. It replaces workload_full, which stays as
-- it is for programs of the seventh schema: they count its columns.
CREATE VIEW workload_whole AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason, w.automatic, w.rollback, w.from_fork, w.compare_url,
       w.event_at, w.target_branch, w.submitted_by, w.spared, w.priority_by, w.priority_note
  FROM workload AS w JOIN project AS p ON p.id = w.project;
