-- Statements of the first schema that are different in PostgreSQL. They refuse changes of events: the history
-- can only grow.

CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'the history of events is append-only');
END;

CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'the history of events is append-only');
END;
