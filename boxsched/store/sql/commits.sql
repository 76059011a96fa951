-- name: fix_commit
-- Set the commit that the workload's first job found, or that of the workload that it rebuilds. It
-- replaces NULL or the short hash that was requested. No row back: the commit was already set, or the
-- job's lease is no longer valid.
-- returns: commit_hash
UPDATE workload
   SET commit_hash = coalesce(
           (SELECT original.commit_hash FROM workload AS original
             WHERE original.id = workload.rebuild_of AND length(original.commit_hash) >= 40),
           CAST(:found AS text)
       )
 WHERE id = :workload
   AND (
       commit_hash IS NULL
       OR (
           commit_hash <> CAST(:found AS text)
           AND lower(commit_hash) = substr(CAST(:found AS text), 1, length(commit_hash))
       )
   )
   AND EXISTS (
       SELECT 1 FROM job
        WHERE job.id = :job AND job.lease_token = :lease_token AND job.state <> 'finished'
   )
RETURNING commit_hash;

-- name: fixed_commit
-- The commit of the workload. It is written again unchanged, so the answer waits until the first write
-- is durable, also on a synchronous standby.
-- returns: commit_hash
UPDATE workload SET commit_hash = commit_hash
 WHERE id = :workload
   AND EXISTS (
       SELECT 1 FROM job
        WHERE job.id = :job AND job.lease_token = :lease_token AND job.state <> 'finished'
   )
RETURNING commit_hash;
