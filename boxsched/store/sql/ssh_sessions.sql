-- name: open_ssh_session
-- How the session of this job is reached; no row back: the lease is not the job's current one.
-- returns: workload
INSERT INTO ssh_session (workload, lease_token, host, port, host_key)
SELECT workload.id, job.lease_token, CAST(:host AS text), CAST(:port AS bigint),
       CAST(:host_key AS text)
  FROM job JOIN workload ON workload.id = :workload
 WHERE job.id = :job AND job.lease_token = :lease_token AND job.state <> 'finished'
   AND workload.kind = 'ssh'
ON CONFLICT (workload) DO UPDATE
   SET lease_token = excluded.lease_token, host = excluded.host, port = excluded.port,
       host_key = excluded.host_key
RETURNING workload;

-- name: ssh_sessions
-- How these sessions are reached; those that cannot be entered are left out. ``v`` has the ids of
-- sessions and of their jobs.
-- returns: workload, host, port, host_key
WITH v(workload, job) AS (VALUES (:workload, :job))
SELECT s.workload, s.host, s.port, s.host_key
  FROM v
  JOIN ssh_session AS s ON s.workload = v.workload
  JOIN job ON job.id = v.job AND job.lease_token = s.lease_token
 WHERE job.state IN ('assigned', 'running', 'unknown');

-- name: ssh_worker
-- The worker of a session that can be entered, and the node that it was last connected to.
-- returns: job, lease_token, worker, node, url, is_connected
SELECT job.id AS job, job.lease_token, worker.id AS worker, worker.node, node.url,
       worker.state <> 'disconnected' AS is_connected
  FROM job
  JOIN ssh_session AS s ON s.workload = :workload AND s.lease_token = job.lease_token
  JOIN box ON box.job = job.id
  JOIN worker ON worker.id = box.worker
  LEFT JOIN node ON node.name = worker.node
 WHERE job.id = :job AND job.state IN ('assigned', 'running', 'unknown');
