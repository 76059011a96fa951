-- Statements of the first schema that are different in SQLite.

-- Ids of workloads. SQLite needs no sequence, because it has only one writer.
CREATE SEQUENCE workload_id;

-- Write a double with all digits.
CREATE FUNCTION exact(double precision) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS 'SELECT CAST($1 AS text)';

-- Refuse changes of events: the history can only grow.
CREATE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of events is append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON event
FOR EACH STATEMENT EXECUTE FUNCTION event_is_append_only();
