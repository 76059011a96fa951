-- The seventh schema. Every new column has a default, so that programs of the sixth schema can still use the
-- database during a rolling upgrade.

-- Who submitted a workload: the name or role of a token, "webhook", "automatic" or "schedule". NULL: a program
-- of an earlier schema stored it.
ALTER TABLE workload ADD COLUMN submitted_by TEXT;

-- The columns of a workload that are shown, in the order of values.Workload. This replaces workload_row, which
-- stays unchanged because programs of the sixth schema count its columns.
CREATE VIEW workload_full AS
SELECT w.id, w.project, p.name AS project_name, w.number, w.kind, w.branch, w.tag, w.server,
       w.commit_hash, w.message, w.author, w.priority, w.cancellation, w.fail_fast, w.state,
       w.result, w.created_at, w.queued_at, w.started_at, w.finished_at, w.boxes, w.rebuild_of,
       w.build, w.public_key, w.reason, w.automatic, w.rollback, w.from_fork, w.compare_url,
       w.event_at, w.target_branch, w.submitted_by
  FROM workload AS w JOIN project AS p ON p.id = w.project;

-- The schema of a node's program, stored at its start (``schema_at``). A program of an earlier schema writes
-- neither; then ``schema_at`` is NULL, or differs from ``started_at``.
ALTER TABLE node ADD COLUMN schema_known BIGINT;
ALTER TABLE node ADD COLUMN schema_at DOUBLE PRECISION;
