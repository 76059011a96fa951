-- The sixth schema. Every new column has a default, so that programs of the fifth schema can still use the
-- database during a rolling upgrade.

-- The secrets of a project, encrypted (boxsched/secrets). ``as_file``: a job gets the secret as a file.
CREATE TABLE secret (
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    as_file BOOLEAN NOT NULL DEFAULT FALSE,
    sealed TEXT NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (project, name)
);

-- The encrypted credentials with which only git reads a project's repository. NULL: none.
ALTER TABLE project ADD COLUMN git_credentials TEXT;

-- How workers clone a project's repository, as JSON (protocol/assignments.CloneOptions). NULL: completely.
ALTER TABLE project ADD COLUMN clone TEXT;

-- The drain of a worker: who began it, since when, why, when its last jobs are stopped, and whether its last
-- job has ended. ``drain_since`` NULL: it is not drained. Times are in seconds since the epoch.
ALTER TABLE worker ADD COLUMN drain_since DOUBLE PRECISION;
ALTER TABLE worker ADD COLUMN drain_by TEXT;
ALTER TABLE worker ADD COLUMN drain_note TEXT;
ALTER TABLE worker ADD COLUMN drain_stop_at DOUBLE PRECISION;
ALTER TABLE worker ADD COLUMN drain_done BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE worker ADD COLUMN drain_automatic BOOLEAN NOT NULL DEFAULT FALSE;

-- A worker's fingerprint, the parts that a node requires (protocol/fingerprint.py), and how a worker differs
-- from its leader's requirement, as a JSON list of texts; NULL: it does not differ.
ALTER TABLE worker ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN differs TEXT;
ALTER TABLE node ADD COLUMN requires TEXT NOT NULL DEFAULT '';

-- Whether a deploy is automatic, and whether it is a rollback: its build is older than the live one.
ALTER TABLE workload ADD COLUMN automatic BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE workload ADD COLUMN rollback BOOLEAN NOT NULL DEFAULT FALSE;

-- For a rebuild: the number of the first workload that it repeats, because its code is as old. NULL: it is not
-- a rebuild.
ALTER TABLE workload ADD COLUMN first_number BIGINT;
UPDATE workload
   SET first_number = (SELECT o.number FROM workload AS o WHERE o.id = workload.rebuild_of)
 WHERE rebuild_of IS NOT NULL;

-- Whether a build is spared: strategies no longer cancel or stop it.
ALTER TABLE workload ADD COLUMN spared BOOLEAN NOT NULL DEFAULT FALSE;

-- Data of a push: whether it came from a fork (such builds get no secrets), a link to its changes, and its time
-- in seconds since the epoch.
ALTER TABLE workload ADD COLUMN from_fork BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE workload ADD COLUMN compare_url TEXT;
ALTER TABLE workload ADD COLUMN event_at DOUBLE PRECISION;

-- The target branch of a change request: the job file of a fork's build is read from it.
ALTER TABLE workload ADD COLUMN target_branch TEXT;

-- The columns of a workload that are shown, in the order of values.Workload. This replaces workload_shown,
-- which stays unchanged because programs of earlier schemas count its columns.
CREATE VIEW workload_row AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason, w.automatic, w.rollback, w.from_fork, w.compare_url,
       w.event_at, w.target_branch
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- Builds whose jobs are not known yet, by project: a node reads them.
CREATE INDEX workload_unplanned ON workload (project, id)
 WHERE boxes = 0 AND finished_at IS NULL;

-- The number of builds of a lane that strategies canceled or stopped since its last build passed or failed.
CREATE TABLE lane_count (
    lane TEXT PRIMARY KEY,
    project BIGINT NOT NULL REFERENCES project (id),
    superseded BIGINT NOT NULL CHECK (superseded > 0)
);
CREATE INDEX lane_count_project ON lane_count (project);

-- Pauses of everything, of one project, or, in a project, of branches that match a pattern or of a server.
-- Times are seconds since the epoch.
CREATE TABLE pause (
    organization BIGINT NOT NULL REFERENCES organization (id),
    name TEXT NOT NULL,
    project BIGINT REFERENCES project (id),
    branch TEXT,
    server TEXT,
    automatic BOOLEAN NOT NULL,
    note TEXT NOT NULL,
    set_by TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION,
    PRIMARY KEY (organization, name),
    CHECK (branch IS NULL OR server IS NULL),
    CHECK (project IS NOT NULL OR (branch IS NULL AND server IS NULL))
);
CREATE INDEX pause_project ON pause (project) WHERE project IS NOT NULL;

-- The deploy that is live on a server: the last one that passed.
CREATE TABLE server_live (
    project BIGINT NOT NULL REFERENCES project (id),
    server TEXT NOT NULL,
    workload BIGINT NOT NULL REFERENCES workload (id),
    PRIMARY KEY (project, server)
);
CREATE INDEX server_live_workload ON server_live (workload);
INSERT INTO server_live (project, server, workload)
SELECT project, server, max(id) FROM workload
 WHERE kind = 'deploy' AND result = 'passed'
   AND project IN (SELECT p.id FROM project AS p WHERE NOT p.deleted)
 GROUP BY project, server;

-- Passed builds of a branch that a server follows: each is deployed to it, unless a newer one is. The row is
-- deleted when this is done.
CREATE TABLE deploy_due (
    build BIGINT NOT NULL REFERENCES workload (id),
    server TEXT NOT NULL,
    PRIMARY KEY (build, server)
);

-- The targets of a project's notifications: "statuses" (``url`` is the base of the code host's API), and its
-- hooks. ``events``: their types, each between blanks. ``sealed``: the encrypted token or secret.
CREATE TABLE outgoing (
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    provider TEXT,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    events TEXT NOT NULL,
    sealed TEXT,
    PRIMARY KEY (project, name)
);

-- Notifications to deliver, and delivered ones for some time. ``target`` is the name of a row of outgoing.
-- Times are seconds since the epoch: ``at`` of the event, ``since`` when attempts began, ``due_at`` of the next
-- attempt, or the end of a claim. ``attempts`` only grows, and is the claim's number.
CREATE TABLE notification (
    id BIGSERIAL PRIMARY KEY,
    workload BIGINT NOT NULL REFERENCES workload (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    host TEXT NOT NULL,
    event TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    since DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    claimed BOOLEAN NOT NULL DEFAULT FALSE,
    attempts BIGINT NOT NULL DEFAULT 0,
    failures BIGINT NOT NULL DEFAULT 0,
    status BIGINT,
    error TEXT,
    done_at DOUBLE PRECISION,
    CHECK ((state = 'waiting') = (done_at IS NULL))
);
CREATE INDEX notification_due ON notification (host, due_at) WHERE state = 'waiting';
CREATE INDEX notification_order ON notification (workload, target, id);
CREATE INDEX notification_state ON notification (state, id);
CREATE INDEX notification_done ON notification (done_at) WHERE state <> 'waiting';

-- The latest settings of a project after each change, without secrets. ``changed``: the names of the fields, a
-- JSON list. ``reverts``: the version whose settings a revert restored. ``changed_by`` and ``changed_at``
-- (seconds since the epoch) are NULL if a program of an earlier schema wrote the version.
CREATE TABLE project_version (
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    version BIGINT NOT NULL CHECK (version > 0),
    settings TEXT NOT NULL,
    changed TEXT NOT NULL DEFAULT '[]',
    reverts BIGINT,
    changed_by TEXT,
    changed_at DOUBLE PRECISION,
    PRIMARY KEY (project, version)
);
INSERT INTO project_version (project, version, settings)
SELECT id, version, settings FROM project WHERE NOT deleted;

-- Schedules: builds of a branch at certain times. ``version``: of the settings that contain it; ``time_zone``
-- is empty for UTC. ``decided_at``: when ``next_at`` was chosen, by the database's clock. ``fired_at`` and
-- ``workload``: the last time with a build, and that build; ``skipped_at`` and ``skipped``: since when times
-- had no build, and why. Times are seconds since the epoch.
CREATE TABLE schedule (
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    cron TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    branch TEXT NOT NULL,
    version BIGINT NOT NULL,
    next_at DOUBLE PRECISION NOT NULL,
    decided_at DOUBLE PRECISION NOT NULL,
    fired_at DOUBLE PRECISION,
    workload BIGINT,
    skipped_at DOUBLE PRECISION,
    skipped TEXT,
    PRIMARY KEY (project, cron, time_zone, branch)
);
CREATE INDEX schedule_next ON schedule (next_at);
CREATE INDEX schedule_decided ON schedule (decided_at);

-- The version of the settings from which the project's schedules were stored; a program of an earlier schema
-- writes settings without storing schedules.
ALTER TABLE project ADD COLUMN scheduled BIGINT NOT NULL DEFAULT 0;
CREATE INDEX project_unscheduled ON project (id) WHERE NOT deleted AND scheduled <> version;

-- Deliveries of code hosts, with their results. ``workloads``: their ids, a JSON list. The two keys find a
-- repetition; only a delivery with an effect has them. ``received_at`` is in seconds since the epoch.
CREATE TABLE delivery (
    id BIGSERIAL PRIMARY KEY,
    project BIGINT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    event TEXT NOT NULL,
    received_at DOUBLE PRECISION NOT NULL,
    result TEXT NOT NULL CHECK (result IN ('created', 'canceled', 'duplicate', 'ignored')),
    reason TEXT,
    workloads TEXT NOT NULL,
    delivery_id TEXT,
    body_sha256 TEXT,
    CHECK ((body_sha256 IS NOT NULL) = (result IN ('created', 'canceled'))),
    CHECK (body_sha256 IS NOT NULL OR delivery_id IS NULL)
);
CREATE UNIQUE INDEX delivery_body ON delivery (project, body_sha256) WHERE body_sha256 IS NOT NULL;
CREATE UNIQUE INDEX delivery_name ON delivery (project, delivery_id) WHERE delivery_id IS NOT NULL;
CREATE INDEX delivery_project ON delivery (project, result, id);
CREATE INDEX delivery_result ON delivery (result, id);

-- For the unfinished workloads of a branch, or of a change request.
CREATE INDEX workload_lane_unfinished ON workload (lane) WHERE finished_at IS NULL;

-- The previous webhook secret, and until when it is valid, in seconds since the epoch.
ALTER TABLE project ADD COLUMN webhook_secret_before TEXT;
ALTER TABLE project ADD COLUMN webhook_secret_until DOUBLE PRECISION;

-- What was deleted of the history: the events of a shard up to ``batch``, whose time is ``at``, and the number
-- of workloads of a project. ``history_cut``: some events of the workload were deleted.
CREATE TABLE history_start (
    shard BIGINT PRIMARY KEY REFERENCES shard (id),
    batch BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE TABLE pruned_workload (
    project BIGINT PRIMARY KEY REFERENCES project (id) ON DELETE CASCADE,
    workloads BIGINT NOT NULL CHECK (workloads > 0)
);
ALTER TABLE workload ADD COLUMN history_cut BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX workload_cut ON workload (finished_at, id)
 WHERE history_cut AND finished_at IS NOT NULL;

-- To find workloads that must stay: an unfinished one refers to them, or they are a branch's last passed build.
CREATE INDEX workload_build ON workload (build) WHERE build IS NOT NULL AND finished_at IS NULL;
CREATE INDEX workload_rebuild ON workload (rebuild_of)
 WHERE rebuild_of IS NOT NULL AND finished_at IS NULL;
CREATE INDEX workload_passed ON workload (project, branch, id)
 WHERE kind = 'build' AND result = 'passed' AND branch IS NOT NULL;

-- The age of idempotency keys: old ones are deleted.
CREATE INDEX idempotency_age ON idempotency (created_at);
