-- name: fix_commit
-- The first commit that a job of the workload found, or that of the workload that it rebuilds. It takes
-- the place of none, and of the beginning of a hash that was asked for; no row back: it has one.
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
-- The commit of the workload. It is written again as it is: so the answer waits until the commit that
-- wrote it first is durable, also on a synchronous stand-by.
-- returns: commit_hash
UPDATE workload SET commit_hash = commit_hash
 WHERE id = :workload
   AND EXISTS (
       SELECT 1 FROM job
        WHERE job.id = :job AND job.lease_token = :lease_token AND job.state <> 'finished'
   )
RETURNING commit_hash;
