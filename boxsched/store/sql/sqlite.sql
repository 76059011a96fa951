-- name: workload_ids
-- Ranges (first, last) of ids for this number of new workloads. There is one writer, so they follow the
-- last id, and ids issued before a backup was restored (jump_workload_ids).
-- returns: first, last
SELECT above + 1, above + :count
  FROM (SELECT max(
            coalesce((SELECT max(id) FROM workload), 0),
            coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'workload'), 0)
        ) AS above);

-- name: empty_inbox
-- Delete the commands that the batch has processed, given as ranges of ids. SQLite has no DELETE with USING.
-- returns: nothing
WITH v(first, last) AS (VALUES (:first, :last))
DELETE FROM inbox
 WHERE id IN (SELECT i.id FROM v JOIN inbox AS i ON i.id BETWEEN v.first AND v.last);

-- name: forget_events
-- Delete the shard's events up to this batch; the trigger refuses events that are too young.
-- returns: events
DELETE FROM event WHERE shard = :shard AND batch <= :batch
RETURNING 1 AS events;

-- name: database_bytes
-- The size of the file in bytes.
-- returns: bytes
SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size();

-- name: due_hosts
-- The same, with the index named: SQLite would read every waiting row.
-- returns: host
WITH RECURSIVE h(host) AS (
    SELECT (SELECT min(n.host) FROM notification AS n INDEXED BY notification_due
             WHERE n.state = 'waiting')
    UNION ALL
    SELECT (SELECT min(n.host) FROM notification AS n INDEXED BY notification_due
             WHERE n.state = 'waiting' AND n.host > h.host)
      FROM h WHERE h.host IS NOT NULL
)
SELECT h.host FROM h
 WHERE h.host IS NOT NULL
   AND EXISTS (
       SELECT 1 FROM notification AS n INDEXED BY notification_due
        WHERE n.host = h.host AND n.state = 'waiting' AND n.due_at <= :now
   )
 LIMIT :limit;
