-- Statements of the sixth schema only for SQLite.

-- A build whose jobs are not known yet has no Boxes. A build whose jobs could not be read fails without running.
-- SQLite has no statement that changes a CHECK, so the table's text is changed, as SQLite's page "ALTER TABLE"
-- describes for changes that do not affect content.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
   SET sql = replace(
       replace(sql, 'CHECK (boxes BETWEEN 1 AND 1000)', 'CHECK (boxes BETWEEN 0 AND 1000)'),
       'WHEN ''failed'' THEN queued_at IS NOT NULL AND started_at IS NOT NULL',
       'WHEN ''failed'' THEN (queued_at IS NULL) = (started_at IS NULL)'
   )
 WHERE type = 'table' AND name = 'workload';
PRAGMA writable_schema = RESET;

-- The history can only grow, except that events older than 8 days may be deleted.
DROP TRIGGER event_is_never_deleted;
CREATE TRIGGER event_is_kept BEFORE DELETE ON event
 WHEN OLD.at > (julianday('now') - 2440587.5) * 86400 - 8 * 86400
BEGIN
    SELECT RAISE(ABORT, 'the history of events is append-only');
END;
