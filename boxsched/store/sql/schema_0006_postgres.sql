-- What only PostgreSQL needs of the sixth schema.

COMMENT ON COLUMN secret.updated_at IS 'seconds since the epoch';
-- A build whose jobs are not known yet has no Boxes; one whose jobs could not be read fails without
-- having run. The old rows keep both rules, so they need not be checked again (NOT VALID).
ALTER TABLE workload DROP CONSTRAINT workload_boxes_check;
ALTER TABLE workload ADD CONSTRAINT workload_boxes_check CHECK (boxes BETWEEN 0 AND 1000) NOT VALID;
ALTER TABLE workload DROP CONSTRAINT workload_check1;
ALTER TABLE workload ADD CONSTRAINT workload_check1 CHECK (CASE state
    WHEN 'registered' THEN queued_at IS NULL AND started_at IS NULL
    WHEN 'queued' THEN queued_at IS NOT NULL AND started_at IS NULL
    WHEN 'running' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
    WHEN 'stopping' THEN
        queued_at IS NOT NULL AND started_at IS NOT NULL AND stop_cause IS NOT NULL
    WHEN 'finished' THEN finished_at IS NOT NULL AND (CASE result
        WHEN 'passed' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
        WHEN 'failed' THEN (queued_at IS NULL) = (started_at IS NULL)
        WHEN 'stopped' THEN queued_at IS NOT NULL AND started_at IS NOT NULL
        WHEN 'canceled' THEN started_at IS NULL
        ELSE FALSE END)
    ELSE FALSE END) NOT VALID;

COMMENT ON COLUMN workload.event_at IS 'seconds since the epoch';
COMMENT ON COLUMN pause.since IS 'seconds since the epoch';
COMMENT ON COLUMN pause.until IS 'seconds since the epoch';
COMMENT ON COLUMN notification.at IS 'seconds since the epoch';
COMMENT ON COLUMN notification.since IS 'seconds since the epoch';
COMMENT ON COLUMN notification.due_at IS 'seconds since the epoch';
COMMENT ON COLUMN notification.done_at IS 'seconds since the epoch';
COMMENT ON COLUMN project_version.changed_at IS 'seconds since the epoch';
COMMENT ON COLUMN schedule.next_at IS 'seconds since the epoch';
COMMENT ON COLUMN schedule.decided_at IS 'seconds since the epoch';
COMMENT ON COLUMN schedule.fired_at IS 'seconds since the epoch';
COMMENT ON COLUMN schedule.skipped_at IS 'seconds since the epoch';
COMMENT ON COLUMN delivery.received_at IS 'seconds since the epoch';
COMMENT ON COLUMN project.webhook_secret_until IS 'seconds since the epoch';
