-- name: workload_ids
-- Runs (first, last) of ids for so many new workloads. There is one writer: those behind the last.
SELECT coalesce(max(id), 0) + 1, coalesce(max(id), 0) + :count FROM workload;
