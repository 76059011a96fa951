-- name: latest
-- The server and timeline of the history that was begun last.
-- returns: system, timeline
SELECT system, timeline FROM lineage ORDER BY number DESC LIMIT 1;

-- name: add
-- A history begins.
-- returns: nothing
INSERT INTO lineage (number, id, system, timeline, restored, began_at)
SELECT coalesce(max(number), 0) + 1, :id, :system, :timeline, :restored, :began_at FROM lineage;
