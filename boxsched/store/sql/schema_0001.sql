-- The first schema, in PostgreSQL's dialect; for a few words the SQLite driver uses its own (sqlite.py).
-- Times are seconds since the epoch, UTC. CHECKs make it impossible to store an invalid state.
-- Writes are frequent, so there is an index only if a query needs it.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE organization (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL CHECK (policy IN ('strict', 'best_effort', 'backfill')),
    max_boxes BIGINT CHECK (max_boxes >= 0),
    priority_aging DOUBLE PRECISION CHECK (priority_aging > 0)
);

-- ``epoch`` is the number of the leadership, ``batch`` the number of the last committed transaction, and
-- ``epoch_batch`` the value of ``batch`` when the epoch began.
CREATE TABLE shard (
    id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    epoch_batch BIGINT NOT NULL,
    node TEXT NOT NULL
);

-- The row of a deleted project stays, because its finished workloads need the name.
CREATE TABLE project (
    id BIGSERIAL PRIMARY KEY,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    repository TEXT,
    max_boxes BIGINT CHECK (max_boxes >= 0),
    version BIGINT NOT NULL,
    next_number BIGINT NOT NULL,
    webhook_secret TEXT,
    deleted BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX project_name ON project (name) WHERE NOT deleted;

CREATE TABLE workload (
    id BIGINT PRIMARY KEY,
    project BIGINT NOT NULL REFERENCES project (id),
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    lane TEXT,
    branch TEXT,
    tag TEXT,
    server TEXT,
    commit_hash TEXT,
    message TEXT,
    author TEXT,
    priority BIGINT NOT NULL CHECK (priority BETWEEN 0 AND 100),
    cancellation TEXT NOT NULL,
    fail_fast BOOLEAN NOT NULL,
    boxes BIGINT NOT NULL CHECK (boxes BETWEEN 1 AND 1000),
    rebuild_of BIGINT,
    build BIGINT,
    public_key TEXT,
    state TEXT NOT NULL,
    result TEXT,
    stop_cause TEXT,
    created_at DOUBLE PRECISION NOT NULL,
    queued_at DOUBLE PRECISION,
    started_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    UNIQUE (project, number),
    CHECK (CASE kind
        WHEN 'build' THEN lane IS NOT NULL AND server IS NULL AND (branch IS NULL) <> (tag IS NULL)
        WHEN 'deploy' THEN lane IS NOT NULL AND server IS NOT NULL
        WHEN 'ssh' THEN lane IS NULL
        ELSE FALSE END),
    CHECK (CASE cancellation
        WHEN 'none' THEN TRUE WHEN 'queued' THEN TRUE WHEN 'all' THEN TRUE ELSE FALSE END),
    CHECK (CASE state
        WHEN 'registered' THEN queued_at IS NULL AND started_at IS NULL
        WHEN 'queued' THEN queued_at IS NOT NULL AND started_at IS NULL
        WHEN 'running' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
        WHEN 'stopping' THEN
            queued_at IS NOT NULL AND started_at IS NOT NULL AND stop_cause IS NOT NULL
        WHEN 'finished' THEN finished_at IS NOT NULL AND (CASE result
            WHEN 'passed' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
            WHEN 'failed' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
            WHEN 'stopped' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
            WHEN 'canceled' THEN started_at IS NULL
            ELSE FALSE END)
        ELSE FALSE END),
    CHECK (state = 'finished' OR (result IS NULL AND finished_at IS NULL)),
    CHECK (stop_cause IS NULL OR stop_cause IN ('asked', 'superseded', 'fail_fast'))
);
-- In a lane, at most one workload is queued, running or stopping (I3). The condition uses the times, which
-- the CHECKs tie to the states: IN over the states takes three times as long in SQLite as the rest of an update.
CREATE UNIQUE INDEX workload_lane ON workload (lane)
 WHERE queued_at IS NOT NULL AND finished_at IS NULL;
-- A change between two unfinished states does not change these indexes.
CREATE INDEX workload_unfinished ON workload (id) WHERE finished_at IS NULL;
CREATE INDEX workload_finished ON workload (finished_at) WHERE finished_at IS NOT NULL;

-- The columns of a workload that are shown, in the order of values.Workload.
CREATE VIEW shown_workload AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- A job's id contains its workload's id and its index there (model.job_id), so these need no columns or indexes.
CREATE TABLE job (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    box_type TEXT NOT NULL,
    timeout_seconds DOUBLE PRECISION NOT NULL CHECK (timeout_seconds > 0),
    expected_seconds DOUBLE PRECISION NOT NULL CHECK (expected_seconds >= 0),
    commands TEXT NOT NULL,
    environment TEXT NOT NULL,
    state TEXT NOT NULL,
    result TEXT,
    box BIGINT,
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    lease_token BIGINT,
    started_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    exit_status BIGINT,
    reason TEXT,
    CHECK (CASE state
        WHEN 'waiting' THEN box IS NULL AND started_at IS NULL
        WHEN 'finished' THEN finished_at IS NOT NULL AND (CASE result
            WHEN 'passed' THEN TRUE
            WHEN 'failed' THEN TRUE
            WHEN 'stopped' THEN TRUE
            WHEN 'canceled' THEN started_at IS NULL
            ELSE FALSE END)
        WHEN 'running' THEN started_at IS NOT NULL
        WHEN 'assigned' THEN started_at IS NULL
        WHEN 'stopping' THEN TRUE
        WHEN 'unknown' THEN TRUE
        ELSE FALSE END),
    CHECK (
        state = 'finished'
        OR (result IS NULL AND finished_at IS NULL AND exit_status IS NULL)
    ),
    CHECK (
        box IS NOT NULL AND lease_token IS NOT NULL AND attempt > 0
        OR state = 'waiting' OR state = 'finished'
    )
);

CREATE TABLE inbox (
    id BIGSERIAL PRIMARY KEY,
    shard BIGINT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    workload BIGINT
);

CREATE TABLE event (
    shard BIGINT NOT NULL,
    batch BIGINT NOT NULL,
    n BIGINT NOT NULL,
    type TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    workload BIGINT,
    job BIGINT,
    data TEXT NOT NULL,
    PRIMARY KEY (shard, batch, n)
) /* WITHOUT ROWID */;

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    workload BIGINT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
) /* WITHOUT ROWID */;

CREATE TABLE worker (
    id BIGSERIAL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('connected', 'draining', 'disconnected'))
);

-- If the Box with some ordinal of a worker changes its type, it is a new Box, and the old one's job may still run.
CREATE TABLE box (
    id BIGSERIAL PRIMARY KEY,
    worker BIGINT NOT NULL REFERENCES worker (id),
    ordinal BIGINT NOT NULL CHECK (ordinal > 0),
    box_type TEXT NOT NULL,
    retired BOOLEAN NOT NULL,
    job BIGINT REFERENCES job (id),
    last_project BIGINT,
    last_branch TEXT,
    freed_at DOUBLE PRECISION NOT NULL,
    UNIQUE (worker, ordinal, box_type)
);
CREATE UNIQUE INDEX box_job ON box (job) WHERE job IS NOT NULL;

-- ``recent`` is a JSON list: the durations of the last passed runs, oldest first.
CREATE TABLE job_history (
    project BIGINT NOT NULL REFERENCES project (id),
    job_name TEXT NOT NULL,
    recent TEXT NOT NULL,
    expected_seconds DOUBLE PRECISION NOT NULL CHECK (expected_seconds >= 0),
    PRIMARY KEY (project, job_name)
);

-- A log has no gaps: each chunk begins where the previous one ends (V18).
CREATE TABLE log_chunk (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    first_byte BIGINT NOT NULL CHECK (first_byte >= 0),
    end_byte BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (job, attempt, first_byte),
    CHECK (end_byte > first_byte)
);

CREATE TABLE page_session (
    digest TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);

INSERT INTO organization (id, name, policy) VALUES (1, 'default', 'backfill');
INSERT INTO shard (id, epoch, batch, epoch_batch, node) VALUES (1, 0, 0, 0, '');
