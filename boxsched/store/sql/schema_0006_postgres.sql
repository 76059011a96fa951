-- Statements of the sixth schema only for PostgreSQL.

COMMENT ON COLUMN secret.updated_at IS 'seconds since the epoch';
-- A build whose jobs are not known yet has no Boxes. A build whose jobs could not be read fails without running.
-- Existing rows satisfy both rules, so they need not be checked again (NOT VALID).
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
COMMENT ON COLUMN worker.drain_since IS 'seconds since the epoch';
COMMENT ON COLUMN worker.drain_stop_at IS 'seconds since the epoch';
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

-- The history can only grow, except that forget_events deletes events older than 8 days, as the owner of the
-- tables. A service's role may call it, but may not delete events itself.
COMMENT ON COLUMN history_start.at IS 'seconds since the epoch';
DROP TRIGGER event_is_never_changed ON event;
CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR TRUNCATE ON event
FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only();

CREATE FUNCTION event_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.at > EXTRACT(EPOCH FROM clock_timestamp()) - 8 * 86400 THEN
        RAISE EXCEPTION 'the history of events is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER event_is_kept BEFORE DELETE ON event
FOR EACH ROW EXECUTE FUNCTION event_is_kept();

CREATE FUNCTION forget_events(of_shard bigint, up_to bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM event WHERE shard = of_shard AND batch <= up_to;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION forget_events(bigint, bigint) FROM PUBLIC;
-- Search temporary tables last, so that the caller cannot replace our tables with temporary ones.
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION forget_events(bigint, bigint) SET search_path = %I, pg_temp',
        current_schema()
    );
END
$$;
