-- name: jump_ids
-- No row's id is given again that was given since the backup.
-- returns: nothing
UPDATE sqlite_sequence SET seq = seq + :by;

-- name: jump_workload_ids
-- The same of workloads, which have no sequence: what stands here for them is read by workload_ids.
-- returns: nothing
INSERT INTO sqlite_sequence (name, seq)
SELECT 'workload', coalesce(max(id), 0) + :by FROM workload;
