-- name: jump_ids
-- Advance the ids of tables beyond all ids issued since the backup.
-- returns: nothing
UPDATE sqlite_sequence SET seq = seq + :by;

-- name: jump_workload_ids
-- The same for workloads, which have no sequence; workload_ids reads this row.
-- returns: nothing
INSERT INTO sqlite_sequence (name, seq)
SELECT 'workload', coalesce(max(id), 0) + :by FROM workload;
