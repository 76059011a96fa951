-- What of the first schema SQLite writes in another way.

-- Ids of workloads; SQLite has one writer, which counts for itself.
CREATE SEQUENCE workload_id;

-- All digits of a double, as text.
CREATE FUNCTION exact(double precision) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CAST($1 AS text)';

-- The history can only grow.
CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of events is append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON event
FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only();
