-- name: orphans
-- schema: rows refer to missing rows, or to rows of another organization.
-- returns: place, id
SELECT 'box' AS place, b.id FROM box AS b
 WHERE NOT EXISTS (SELECT 1 FROM worker AS x WHERE x.id = b.worker)
    OR b.job IS NOT NULL AND NOT EXISTS (SELECT 1 FROM job AS x WHERE x.id = b.job)
 UNION ALL
SELECT 'workload', w.id FROM workload AS w
 WHERE NOT EXISTS (
     SELECT 1 FROM project AS x WHERE x.id = w.project AND x.organization = w.organization
 )
 UNION ALL
SELECT 'job_history', h.project FROM job_history AS h
 WHERE NOT EXISTS (SELECT 1 FROM project AS x WHERE x.id = h.project)
 UNION ALL
SELECT 'project', p.id FROM project AS p
 WHERE NOT EXISTS (SELECT 1 FROM organization AS x WHERE x.id = p.organization)
 UNION ALL
SELECT 'worker', w.id FROM worker AS w
 WHERE NOT EXISTS (SELECT 1 FROM organization AS x WHERE x.id = w.organization)
 UNION ALL
SELECT 'organization', o.id FROM organization AS o
 WHERE NOT EXISTS (SELECT 1 FROM shard AS x WHERE x.id = o.shard);

-- name: jobs_of_workloads
-- I2, V11: a workload has all its jobs, and every job has its workload.
-- returns: workload, boxes, jobs
SELECT w.id AS workload, w.boxes, count(j.id) AS jobs
  FROM workload AS w
  LEFT JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
 GROUP BY w.id, w.boxes
HAVING count(j.id) <> w.boxes
 UNION ALL
SELECT j.id / 1024, NULL, 1 FROM job AS j
 WHERE NOT EXISTS (SELECT 1 FROM workload AS w WHERE w.id = j.id / 1024);

-- name: admitted_whole
-- I2, V11: all jobs of a workload that has begun have a Box; no job of a waiting workload has one.
-- returns: workload, state, job, job_state
SELECT w.id AS workload, w.state, j.id AS job, j.state AS job_state
  FROM workload AS w JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
 WHERE (w.state IN ('registered', 'queued') AND j.state <> 'waiting')
    OR (w.started_at IS NOT NULL AND (j.state = 'waiting' OR j.attempt = 0));

-- name: ended_together
-- V16: a workload is finished exactly when all its jobs are finished. It has no rows of jobs before
-- its jobs are known.
-- returns: workload, state, boxes, finished_jobs
SELECT w.id AS workload, w.state, w.boxes,
       count(CASE WHEN j.state = 'finished' THEN 1 END) AS finished_jobs
  FROM workload AS w
  LEFT JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
 GROUP BY w.id, w.state, w.boxes
HAVING w.boxes > 0
   AND (w.state = 'finished') <> (count(CASE WHEN j.state = 'finished' THEN 1 END) = w.boxes);

-- name: boxes_and_jobs
-- I1, V10, V16: a Box and the live job on it refer to each other; no ended job holds a Box.
-- returns: box, box_has, job, state, job_has
SELECT b.id AS box, b.job AS box_has, j.id AS job, j.state, j.box AS job_has
  FROM box AS b JOIN job AS j ON j.id = b.job
 WHERE j.box <> b.id OR j.state IN ('waiting', 'finished')
 UNION ALL
SELECT NULL, NULL, j.id, j.state, j.box
  FROM workload AS w JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
 WHERE w.state IN ('running', 'stopping')
   AND j.state IN ('assigned', 'running', 'stopping', 'unknown')
   AND NOT EXISTS (SELECT 1 FROM box AS b WHERE b.id = j.box AND b.job = j.id);

-- name: lane_order
-- I3, V7, V8: no workload is past ordering while an earlier workload of its lane is unfinished.
-- returns: lane, number, state, earlier_number, earlier_state
SELECT lane, number, state, earlier_number, earlier_state
  FROM (
    SELECT lane, number, state,
           lag(number) OVER lanes AS earlier_number, lag(state) OVER lanes AS earlier_state
      FROM workload WHERE state <> 'finished' AND lane IS NOT NULL
    WINDOW lanes AS (PARTITION BY lane ORDER BY number)
  ) AS unfinished
 WHERE state <> 'registered' AND earlier_number IS NOT NULL;

-- name: free_lanes
-- V16: the first workload of a lane does not wait for the lane, if it has jobs and the leader knows it.
-- returns: workload, lane, number, state
SELECT id AS workload, lane, number, state
  FROM (
    SELECT id, lane, number, state, boxes,
           row_number() OVER (
               PARTITION BY lane, CASE WHEN lane IS NULL THEN id END ORDER BY number
           ) AS place
      FROM workload WHERE finished_at IS NULL
  ) AS unfinished
 WHERE place = 1 AND state = 'registered' AND boxes > 0
   AND id NOT IN (SELECT workload FROM inbox WHERE workload IS NOT NULL);

-- name: lane_overlap
-- I3, V7, V9: the workloads of a lane ran one after the other, in the order of their numbers.
-- returns: lane, number, started_at, earlier_number, earlier_finished_at
SELECT lane, number, started_at, earlier_number, earlier_finished_at
  FROM (
    SELECT lane, number, started_at,
           lag(number) OVER lanes AS earlier_number,
           lag(finished_at) OVER lanes AS earlier_finished_at
      FROM workload WHERE started_at IS NOT NULL AND lane IS NOT NULL
    WINDOW lanes AS (PARTITION BY lane ORDER BY number)
  ) AS ran
 WHERE earlier_number IS NOT NULL
   AND (earlier_finished_at IS NULL OR earlier_finished_at > started_at);

-- name: lane_tokens
-- I4, V23: the lease tokens of a lane grow.
-- returns: lane, number, least_token, earlier_token
SELECT lane, number, least_token, earlier_token
  FROM (
    SELECT lane, number, least_token,
           lag(greatest_token) OVER (PARTITION BY lane ORDER BY number) AS earlier_token
      FROM (
        SELECT w.lane, w.number, min(j.lease_token) AS least_token,
               max(j.lease_token) AS greatest_token
          FROM workload AS w JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
         WHERE w.lane IS NOT NULL AND j.lease_token IS NOT NULL
         GROUP BY w.lane, w.number
      ) AS tokens
  ) AS along
 WHERE least_token <= earlier_token;

-- name: tokens_given
-- I4, I7: every lease token is the number of a batch that its shard has committed.
-- returns: job, lease_token, shard, batch
SELECT j.id AS job, j.lease_token, s.id AS shard, s.batch
  FROM job AS j
  JOIN workload AS w ON w.id = j.id / 1024
  JOIN project AS p ON p.id = w.project
  JOIN organization AS o ON o.id = p.organization
  JOIN shard AS s ON s.id = o.shard
 WHERE j.lease_token > s.batch AND j.lease_token > (SELECT min(batch) FROM shard);

-- name: one_organization
-- I1: a Box runs jobs of its worker's organization only.
-- returns: box, worker, organization, job, job_organization
SELECT b.id AS box, x.id AS worker, x.organization, b.job, p.organization AS job_organization
  FROM box AS b
  JOIN worker AS x ON x.id = b.worker
  JOIN workload AS w ON w.id = b.job / 1024
  JOIN project AS p ON p.id = w.project
 WHERE p.organization <> x.organization;

-- name: keys
-- I6, V13: the workload of an idempotency key is the one in the stored answer, if it still exists.
-- returns: scope, key, workload, number
SELECT i.scope, i.key, i.workload, i.number
  FROM idempotency AS i LEFT JOIN workload AS w ON w.id = i.workload
 WHERE w.number <> i.number
    OR w.id IS NULL AND NOT EXISTS (SELECT 1 FROM pruned_workload);

-- name: leaderships
-- I7, V1: every epoch has exactly one leadership, the last one is the shard's, and batches only grow.
-- returns: shard, epoch, batch, earlier_batch
SELECT s.id AS shard, s.epoch, s.epoch_batch AS batch, NULL AS earlier_batch
  FROM shard AS s
 WHERE s.epoch <> coalesce((SELECT max(l.epoch) FROM leadership AS l WHERE l.shard = s.id), 0)
    OR s.batch < s.epoch_batch
    OR s.epoch_batch < (SELECT max(l.batch) FROM leadership AS l WHERE l.shard = s.id)
 UNION ALL
SELECT shard, epoch, batch, earlier_batch
  FROM (
    SELECT shard, epoch, batch,
           lag(batch) OVER (PARTITION BY shard ORDER BY epoch) AS earlier_batch
      FROM leadership
  ) AS along
 WHERE batch < earlier_batch;

-- name: run_once
-- I9: a deploy or a session gets another attempt only if a person asks for it (also in its settings:
-- job.retried), or a worker could not begin it: one attempt for each.
-- returns: workload, kind, job, attempt
SELECT w.id AS workload, w.kind, j.id AS job, j.attempt
  FROM workload AS w
  JOIN job AS j ON j.id BETWEEN w.id * 1024 AND w.id * 1024 + 1023
  LEFT JOIN (
    SELECT job, count(*) AS times FROM event WHERE type IN ('job.resolved', 'job.not_begun', 'job.retried')
     GROUP BY job
  ) AS asked ON asked.job = j.id
 WHERE w.kind <> 'build' AND j.attempt > 1 AND j.attempt - 1 > coalesce(asked.times, 0)
   AND NOT w.history_cut;

-- name: numbers
-- I5, V24: a project's numbers have no gaps; each belongs to a workload that is stored, or was deleted as old.
-- returns: project, first_number, next_number, workloads, least, greatest, pruned
SELECT p.id AS project, p.first_number, p.next_number, count(w.id) AS workloads,
       min(w.number) AS least, max(w.number) AS greatest, coalesce(gone.workloads, 0) AS pruned
  FROM project AS p
  LEFT JOIN workload AS w ON w.project = p.id
  LEFT JOIN pruned_workload AS gone ON gone.project = p.id
 GROUP BY p.id, p.first_number, p.next_number, gone.workloads
HAVING count(w.id) + coalesce(gone.workloads, 0) <> p.next_number - p.first_number
    OR min(w.number) < p.first_number
    OR max(w.number) >= p.next_number
    OR gone.workloads IS NULL AND (
        coalesce(min(w.number), p.first_number) <> p.first_number
        OR coalesce(max(w.number) + 1, p.first_number) <> p.next_number
    );

-- name: in_inbox_or_registered
-- I5, V24: a submission is in exactly one place: in the inbox, set aside, or in the history. It is in
-- none if its history was deleted.
-- returns: workload, state, inbox, registered
SELECT w.id AS workload, w.state, coalesce(i.entries, 0) AS inbox, coalesce(e.times, 0) AS registered
  FROM workload AS w
  LEFT JOIN (
    SELECT workload, count(*) AS entries FROM inbox WHERE workload IS NOT NULL GROUP BY workload
  ) AS i ON i.workload = w.id
  LEFT JOIN (
    SELECT workload, count(*) AS times FROM event WHERE type = 'workload.registered'
     GROUP BY workload
  ) AS e ON e.workload = w.id
 WHERE coalesce(i.entries, 0) + coalesce(e.times, 0)
    <> CASE WHEN w.history_cut
              OR w.result = 'canceled' AND w.reason LIKE 'its submission was set aside%'
            THEN 0 ELSE 1 END;

-- name: log_gaps
-- V18: a log has no gaps and no repeated bytes.
-- returns: job, attempt, first_byte, earlier_end
SELECT job, attempt, first_byte, earlier_end
  FROM (
    SELECT job, attempt, first_byte,
           lag(end_byte, 1, 0) OVER (PARTITION BY job, attempt ORDER BY first_byte) AS earlier_end
      FROM log_chunk
  ) AS chunks
 WHERE first_byte <> earlier_end;
