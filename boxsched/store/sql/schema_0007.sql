-- The seventh schema. Every new column has a default, so that a program of the sixth schema can go on
-- beside this one during a rolling upgrade.

-- Who asked for a workload: the name or role of a token, "webhook", "automatic" or "schedule". NULL: it
-- is not known of what a program of an earlier schema stored.
ALTER TABLE workload ADD COLUMN submitted_by TEXT;

-- A workload as it is shown, in the order of values.Workload. It replaces workload_row, which stays as
-- it is for programs of the sixth schema: they count its columns.
CREATE VIEW workload_full AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason, w.automatic, w.rollback, w.from_fork, w.compare_url,
       w.event_at, w.target_branch, w.submitted_by
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- The schema that a node's program knows, as of its start at ``schema_at``. A program of an earlier schema
-- writes neither: then ``schema_at`` is NULL, or not ``started_at``.
ALTER TABLE node ADD COLUMN schema_known BIGINT;
ALTER TABLE node ADD COLUMN schema_at DOUBLE PRECISION;
