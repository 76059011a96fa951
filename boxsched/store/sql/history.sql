-- name: latest
-- The server and timeline of the latest history.
-- returns: system, timeline
SELECT system, timeline FROM lineage ORDER BY number DESC LIMIT 1;

-- name: add
-- Insert a new history.
-- returns: nothing
INSERT INTO lineage (number, id, system, timeline, restored, began_at)
SELECT coalesce(max(number), 0) + 1, :id, :system, :timeline, :restored, :began_at FROM lineage;
