-- name: raise_epoch
-- Begin a new leadership of the shard; after the commit, the fence refuses every earlier leader.
-- returns: epoch
UPDATE shard SET epoch = epoch + 1, epoch_batch = batch, node = :node
 WHERE id = :shard
RETURNING epoch;

-- name: batch_number
-- The shard's epoch and the number of its last committed transaction.
-- returns: epoch, batch
SELECT epoch, batch FROM shard WHERE id = :shard;

-- name: load_organization
-- The shard's organization; no row if it has none.
-- returns: id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
SELECT id, name, policy, max_boxes, priority_aging, shard, lost_retries, created_at
  FROM organization WHERE shard = :shard AND NOT deleted;

-- name: load_projects
-- A page of an organization's projects, by id.
-- returns: id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
-- webhook_secret_until, organization
SELECT id, name, settings, max_boxes, version, webhook_secret, webhook_secret_before,
       webhook_secret_until, organization
  FROM project
 WHERE organization = :organization AND NOT deleted AND id > :after
 ORDER BY id LIMIT :limit;

-- name: load_pauses
-- An organization's pauses.
-- returns: name, project, branch, server, automatic, note, set_by, since, until
SELECT name, project, branch, server, automatic, note, set_by, since, until FROM pause
 WHERE organization = :organization
 ORDER BY name;

-- name: load_drains
-- The drained workers of an organization.
-- returns: worker, by, since, note, stop_at, done, automatic
SELECT id AS worker, drain_by AS by, drain_since AS since, drain_note AS note,
       drain_stop_at AS stop_at, drain_done AS done, drain_automatic AS automatic
  FROM worker
 WHERE organization = :organization AND drain_since IS NOT NULL
 ORDER BY id;

-- name: load_lanes
-- A page of the lanes with builds that were superseded since one last passed or failed, in order.
-- returns: lane, superseded
SELECT lane_count.lane, lane_count.superseded
  FROM lane_count JOIN project ON project.id = lane_count.project
 WHERE project.organization = :organization AND lane_count.lane > :after
 ORDER BY lane_count.lane LIMIT :limit;

-- name: load_boxes
-- A page of its workers' Boxes, by id.
-- returns: id, worker, ordinal, box_type, retired, job, last_project, last_branch, freed_at
SELECT box.id, box.worker, box.ordinal, box.box_type, box.retired, box.job, box.last_project,
       box.last_branch, box.freed_at
  FROM box JOIN worker ON worker.id = box.worker
 WHERE worker.organization = :organization AND box.id > :after
 ORDER BY box.id LIMIT :limit;

-- name: load_inbox_workloads
-- A page of the inbox: the entries that register workloads.
-- returns: id, workload
SELECT id, workload FROM inbox
 WHERE shard = :shard AND id > :after AND workload IS NOT NULL
 ORDER BY id LIMIT :limit;

-- name: load_workloads
-- A page of its unfinished workloads, by id; the last column is the number of jobs.
-- returns: id, project, number, kind, branch, tag, server, priority, cancellation, fail_fast,
-- state, created_at, queued_at, started_at, stop_cause, reason, promise, automatic, spared, boxes
SELECT id, project, number, kind, branch, tag, server, priority, cancellation, fail_fast, state,
       created_at, queued_at, started_at, stop_cause, reason, promise, automatic, spared, boxes
  FROM workload
 WHERE organization = :organization AND finished_at IS NULL AND id > :after
 ORDER BY id LIMIT :limit;

-- name: load_jobs
-- These jobs, in any order.
-- returns: id, name, box_type, timeout_seconds, expected_seconds, state, result, box, attempt,
-- lease_token, started_at, reason, given_at, restored_from, retry, retried
WITH v(id) AS (VALUES (:id))
SELECT job.id, job.name, job.box_type, job.timeout_seconds, job.expected_seconds, job.state,
       job.result, job.box, job.attempt, job.lease_token, job.started_at, job.reason, job.given_at,
       job.restored_from, job.retry, job.retried
  FROM v JOIN job ON job.id = v.id;

-- name: load_durations
-- A page of the durations of the last passed runs, for every job name of its projects.
-- returns: project, job_name, recent
SELECT job_history.project, job_history.job_name, job_history.recent
  FROM job_history JOIN project ON project.id = job_history.project
 WHERE (job_history.project, job_history.job_name) > (:project, :name)
   AND project.organization = :organization
 ORDER BY job_history.project, job_history.job_name LIMIT :limit;

-- name: inbox
-- The oldest commands, as one text.
-- returns: entries[id, kind, payload, workload]
SELECT CAST(json_agg(json_build_array(i.id, i.kind, i.payload, i.workload)) AS text)
  FROM (
    SELECT id, kind, payload, workload FROM inbox WHERE shard = :shard ORDER BY id LIMIT :limit
  ) AS i;

-- name: shards_with_commands
-- Those of these shards whose inboxes have commands.
-- returns: shard
WITH v(shard) AS (VALUES (:shard))
SELECT v.shard FROM v
 WHERE (SELECT min(inbox.id) FROM inbox WHERE inbox.shard = v.shard) IS NOT NULL;

-- name: fence
-- Every engine transaction begins here. If another node leads, or this batch was committed before, this
-- sets batch to NULL, which the schema refuses; that error means Fenced. It returns no row, so the whole
-- transaction can be sent at once. The row's lock makes a new leader wait for the end of the transaction.
-- returns: nothing
UPDATE shard SET batch = CASE WHEN epoch = :epoch AND batch = :batch THEN batch + 1 END
 WHERE id = :shard;

-- name: set_aside
-- Insert commands that raised or cannot be decoded, with their errors.
-- returns: nothing
WITH v(id, workload, error, at) AS (VALUES (:id, :workload, :error, :at))
INSERT INTO set_aside (id, shard, kind, payload, workload, error, at)
SELECT inbox.id, inbox.shard, inbox.kind, inbox.payload,
       coalesce(inbox.workload, CAST(v.workload AS bigint)), v.error, v.at
  FROM v JOIN inbox ON inbox.id = v.id;

-- name: cancel_jobs_set_aside
-- End the jobs of workloads whose submissions were set aside, because they never run.
-- returns: nothing
WITH v(id, at) AS (VALUES (:id, :at))
UPDATE job SET state = 'finished', result = 'canceled', finished_at = v.at
  FROM v
  JOIN set_aside ON set_aside.id = v.id AND set_aside.kind = 'submit'
  JOIN workload ON workload.id = set_aside.workload AND workload.state = 'registered'
 WHERE job.id BETWEEN workload.id * 1024 AND workload.id * 1024 + 1023 AND job.state = 'waiting';

-- name: cancel_workloads_set_aside
-- End workloads whose submissions were set aside, because they never run.
-- returns: nothing
WITH v(id, at, reason) AS (VALUES (:id, :at, :reason))
UPDATE workload
   SET state = 'finished', result = 'canceled', finished_at = v.at, reason = v.reason
  FROM v
  JOIN set_aside ON set_aside.id = v.id AND set_aside.kind = 'submit'
 WHERE workload.id = set_aside.workload AND workload.state = 'registered';

-- name: empty_inbox
-- Delete the commands that the batch has processed, given as ranges of consecutive ids. With USING, not IN,
-- because PostgreSQL estimates a range as a ninth of the inbox, and would read all of a large one.
-- returns: nothing
WITH v(first, last) AS (VALUES (:first, :last))
DELETE FROM inbox USING v WHERE inbox.id BETWEEN v.first AND v.last;

-- name: end_workloads
-- Update workloads that the batch ends.
-- returns: nothing
WITH v(
    id, result, stop_cause, queued_at, started_at, finished_at, commit_hash, reason
) AS (VALUES (
    :id, :result, :stop_cause, :queued_at, :started_at, :finished_at, :commit_hash, :reason
))
UPDATE workload
   SET state = 'finished', result = v.result, stop_cause = CAST(v.stop_cause AS text),
       queued_at = CAST(v.queued_at AS double precision),
       started_at = CAST(v.started_at AS double precision),
       finished_at = CAST(v.finished_at AS double precision),
       commit_hash = coalesce(workload.commit_hash, CAST(v.commit_hash AS text)),
       reason = CAST(v.reason AS text)
  FROM v WHERE workload.id = v.id;

-- name: change_workloads
-- Update unfinished workloads.
-- returns: nothing
WITH v(
    id, state, stop_cause, queued_at, started_at, commit_hash, reason, promise, priority, spared,
    priority_by, priority_note
) AS (VALUES (
    :id, :state, :stop_cause, :queued_at, :started_at, :commit_hash, :reason, :promise, :priority,
    :spared, :priority_by, :priority_note
))
UPDATE workload
   SET state = v.state, stop_cause = CAST(v.stop_cause AS text),
       queued_at = CAST(v.queued_at AS double precision),
       started_at = CAST(v.started_at AS double precision),
       commit_hash = coalesce(workload.commit_hash, CAST(v.commit_hash AS text)),
       reason = CAST(v.reason AS text), promise = CAST(v.promise AS double precision),
       priority = coalesce(CAST(v.priority AS bigint), workload.priority),
       priority_by = CASE WHEN v.priority IS NULL THEN workload.priority_by
                          ELSE CAST(v.priority_by AS text) END,
       priority_note = CASE WHEN v.priority IS NULL THEN workload.priority_note
                            ELSE CAST(v.priority_note AS text) END,
       spared = workload.spared OR v.spared
  FROM v WHERE workload.id = v.id;

-- name: change_jobs
-- Update jobs.
-- returns: nothing
WITH v(
    id, state, result, box, attempt, lease_token, started_at, finished_at, exit_status, reason,
    given_at, restored_from, retried
) AS (VALUES (
    :id, :state, :result, :box, :attempt, :lease_token, :started_at, :finished_at, :exit_status,
    :reason, :given_at, :restored_from, :retried
))
UPDATE job
   SET state = v.state, result = CAST(v.result AS text), box = CAST(v.box AS bigint),
       attempt = v.attempt, lease_token = CAST(v.lease_token AS bigint),
       started_at = CAST(v.started_at AS double precision),
       finished_at = CAST(v.finished_at AS double precision),
       exit_status = CAST(v.exit_status AS bigint), reason = CAST(v.reason AS text),
       given_at = CAST(v.given_at AS double precision),
       restored_from = CAST(v.restored_from AS bigint), retried = CAST(v.retried AS text)
  FROM v WHERE job.id = v.id;

-- name: free_boxes
-- Update Boxes that became free, or usable for the first time.
-- returns: nothing
WITH v(id, last_project, last_branch, freed_at) AS (VALUES (
    :id, :last_project, :last_branch, :freed_at
))
UPDATE box
   SET job = NULL, retired = FALSE, last_project = CAST(v.last_project AS bigint),
       last_branch = CAST(v.last_branch AS text), freed_at = v.freed_at
  FROM v WHERE box.id = v.id;

-- name: take_boxes
-- Update Boxes that run a job now and remain.
-- returns: nothing
WITH v(id, job, last_project, last_branch, freed_at) AS (VALUES (
    :id, :job, :last_project, :last_branch, :freed_at
))
UPDATE box
   SET job = CAST(v.job AS bigint), retired = FALSE, last_project = CAST(v.last_project AS bigint),
       last_branch = CAST(v.last_branch AS text), freed_at = v.freed_at
  FROM v WHERE box.id = v.id;

-- name: retire_boxes
-- Update Boxes that are removed when their jobs end.
-- returns: nothing
WITH v(id) AS (VALUES (:id)) UPDATE box SET retired = TRUE FROM v WHERE box.id = v.id;

-- name: remove_boxes
-- Update removed Boxes. Their rows stay, because a connecting worker may have got their ids.
-- returns: nothing
WITH v(id) AS (VALUES (:id)) UPDATE box SET retired = TRUE, job = NULL FROM v WHERE box.id = v.id;

-- name: keep_durations
-- Store the durations of the last passed runs of these jobs.
-- returns: nothing
WITH v(project, job_name, recent, expected_seconds) AS (VALUES (
    :project, :job_name, :recent, :expected_seconds
))
INSERT INTO job_history (project, job_name, recent, expected_seconds)
SELECT v.project, v.job_name, v.recent, v.expected_seconds FROM v WHERE v.project IS NOT NULL
ON CONFLICT (project, job_name) DO UPDATE
   SET recent = excluded.recent, expected_seconds = excluded.expected_seconds;

-- name: forget_job_names
-- Delete the history of job names that have not run for longest.
-- returns: nothing
WITH v(project, job_name) AS (VALUES (:project, :job_name))
DELETE FROM job_history
 WHERE (job_history.project, job_history.job_name) IN (SELECT v.project, v.job_name FROM v);

-- name: count_lanes
-- Store how many builds of these lanes were superseded since one last passed or failed.
-- returns: nothing
WITH v(lane, project, superseded) AS (VALUES (:lane, :project, :superseded))
INSERT INTO lane_count (lane, project, superseded)
SELECT v.lane, v.project, v.superseded FROM v WHERE v.lane IS NOT NULL
ON CONFLICT (lane) DO UPDATE SET superseded = excluded.superseded;

-- name: forget_lanes
-- Delete the counts of lanes that start again at 0.
-- returns: nothing
WITH v(lane) AS (VALUES (:lane)) DELETE FROM lane_count WHERE lane IN (SELECT v.lane FROM v);

-- name: end_pauses
-- Delete pauses whose end has come, unless they were replaced in the meantime.
-- returns: nothing
WITH v(name, until) AS (VALUES (:name, :until))
DELETE FROM pause
 WHERE organization = (SELECT id FROM organization WHERE shard = :shard)
   AND (name, until) IN (SELECT v.name, v.until FROM v);

-- name: set_drains
-- Store which workers are drained, and which are no longer drained.
-- returns: nothing
WITH v(worker, by, since, note, stop_at, done, automatic, connection) AS (VALUES (
    :worker, :by, :since, :note, :stop_at, :done, :automatic, :connection
))
UPDATE worker SET drain_by = v.by, drain_since = CAST(v.since AS double precision),
       drain_note = v.note, drain_stop_at = CAST(v.stop_at AS double precision),
       drain_done = CAST(v.done AS boolean) AND worker.connection = v.connection,
       drain_automatic = CAST(v.automatic AS boolean)
  FROM v WHERE worker.id = v.worker;

-- name: set_differences
-- Store how workers differ from the leader's requirement.
-- returns: nothing
WITH v(worker, differs) AS (VALUES (:worker, :differs))
UPDATE worker SET differs = v.differs FROM v WHERE worker.id = v.worker;

-- name: go_live
-- Record passed deploys as live on their servers.
-- returns: nothing
WITH v(project, server, workload) AS (VALUES (:project, :server, :workload))
INSERT INTO server_live (project, server, workload)
SELECT v.project, v.server, v.workload FROM v WHERE v.project IS NOT NULL
ON CONFLICT (project, server) DO UPDATE SET workload = excluded.workload;

-- name: deploys_due
-- Insert passed builds with the servers that follow their branches.
-- returns: nothing
WITH v(build, server) AS (VALUES (:build, :server))
INSERT INTO deploy_due (build, server)
SELECT v.build, v.server FROM v WHERE v.build IS NOT NULL
ON CONFLICT (build, server) DO NOTHING;

-- name: insert_events
-- Add the batch's events to the history.
-- returns: nothing
WITH v(n, type, at, workload, job, data) AS (VALUES (
    :n, :type, :at, :workload, :job, :data
))
INSERT INTO event (shard, batch, n, type, at, workload, job, data)
SELECT :shard, :batch, v.n, v.type, v.at, CAST(v.workload AS bigint), CAST(v.job AS bigint), v.data
  FROM v WHERE v.n IS NOT NULL;
