-- name: known_keys
-- The stored answers of these idempotency keys. The last column: whether the key belongs to a deleted
-- project, so that it is not valid for a new project of the same name.
-- returns: scope, key, body_sha256, workload, number, project_deleted
WITH v(scope, key) AS (VALUES (:scope, :key))
SELECT i.scope, i.key, i.body_sha256, i.workload, i.number, coalesce(p.deleted, TRUE)
  FROM v
  JOIN idempotency AS i ON i.scope = v.scope AND i.key = v.key
  LEFT JOIN workload AS w ON w.id = i.workload
  LEFT JOIN project AS p ON p.id = w.project;

-- name: drop_key
-- Delete an idempotency key of a deleted project: a new project with its name uses it.
-- returns: nothing
DELETE FROM idempotency WHERE scope = :scope AND key = :key;

-- name: lock_projects
-- Lock the projects' rows, in the order of their ids; return their next numbers, organizations, shards and
-- plans as one text.
-- returns: projects[id, version, next_number, organization, shard, plan]
WITH v(project) AS (VALUES (:project))
SELECT CAST(json_agg(json_build_array(
           p.id, p.version, p.next_number, p.organization, p.shard, p.plan
       )) AS text)
  FROM (
    SELECT project.id, project.version, project.next_number, project.organization,
           organization.shard, organization.max_boxes AS plan
      FROM v
      JOIN project ON project.id = v.project
      JOIN organization ON organization.id = project.organization
     ORDER BY project.id FOR NO KEY UPDATE OF project
  ) AS p;

-- name: set_next_numbers
-- Store the next numbers of projects.
-- returns: nothing
WITH v(project, next_number) AS (VALUES (:project, :next_number))
UPDATE project SET next_number = v.next_number FROM v WHERE project.id = v.project;

-- name: workload_ids
-- Ranges (first, last) of ids for this number of new workloads.
-- returns: first, last
SELECT i.id, i.id FROM (SELECT nextval('workload_id') AS id FROM generate_series(1, :count)) AS i;

-- name: expected_durations
-- The expected durations of these jobs; no entry before a first passed run.
-- returns: durations[project, job_name, expected_seconds]
WITH v(project, job_name) AS (VALUES (:project, :job_name))
SELECT CAST(
    json_agg(json_build_array(h.project, h.job_name, exact(h.expected_seconds))) AS text
)
  FROM v JOIN job_history AS h ON h.project = v.project AND h.job_name = v.job_name;

-- name: insert_workloads
-- Insert registered workloads. Rebuilds and deploys of a fork's build also count as from a fork.
-- returns: nothing
WITH v(
    id, project, number, kind, lane, branch, tag, server, commit_hash, message, author,
    priority, cancellation, fail_fast, boxes, rebuild_of, build, public_key, created_at,
    from_fork, compare_url, event_at, automatic, rollback, target_branch, submitted_by,
    ssh_forwarding
) AS (VALUES (
    :id, :project, :number, :kind, :lane, :branch, :tag, :server, :commit_hash, :message, :author,
    :priority, :cancellation, :fail_fast, :boxes, :rebuild_of, :build, :public_key, :created_at,
    :from_fork, :compare_url, :event_at, :automatic, :rollback, :target_branch, :submitted_by,
    :ssh_forwarding
))
INSERT INTO workload (
    id, project, number, kind, lane, branch, tag, server, commit_hash, message, author,
    priority, cancellation, fail_fast, boxes, rebuild_of, build, public_key, created_at, state,
    repository, from_fork, compare_url, event_at, automatic, rollback, target_branch, submitted_by,
    ssh_forwarding, first_number, organization
)
SELECT v.id, v.project, v.number, v.kind, CAST(v.lane AS text), CAST(v.branch AS text),
       CAST(v.tag AS text), CAST(v.server AS text), CAST(v.commit_hash AS text),
       CAST(v.message AS text), CAST(v.author AS text), v.priority, v.cancellation, v.fail_fast,
       v.boxes, CAST(v.rebuild_of AS bigint), CAST(v.build AS bigint),
       CAST(v.public_key AS text), v.created_at, 'registered',
       CASE WHEN v.commit_hash IS NULL AND EXISTS (
           SELECT 1 FROM workload AS source
            WHERE source.id = CAST(v.build AS bigint) AND source.repository = ''
       ) THEN '' ELSE
           coalesce((SELECT repository FROM project WHERE project.id = v.project), '')
       END,
       v.from_fork OR EXISTS (
           SELECT 1 FROM workload AS source
            WHERE source.id IN (CAST(v.build AS bigint), CAST(v.rebuild_of AS bigint))
              AND source.from_fork
       ),
       CAST(v.compare_url AS text), CAST(v.event_at AS double precision), v.automatic, v.rollback,
       coalesce(CAST(v.target_branch AS text), (
           SELECT source.target_branch FROM workload AS source
            WHERE source.id = CAST(v.rebuild_of AS bigint)
       )),
       CAST(v.submitted_by AS text), v.ssh_forwarding,
       (
           SELECT coalesce(source.first_number, source.number) FROM workload AS source
            WHERE source.id = CAST(v.rebuild_of AS bigint)
       ),
       (SELECT organization FROM project WHERE project.id = v.project)
  FROM v WHERE v.id IS NOT NULL;

-- name: insert_jobs
-- Insert the waiting jobs of new workloads.
-- returns: nothing
WITH v(
    id, name, box_type, timeout_seconds, expected_seconds, commands, environment, show_commands,
    retry, artifacts, image
) AS (VALUES (
    :id, :name, :box_type, :timeout_seconds, :expected_seconds, :commands, :environment,
    :show_commands, :retry, :artifacts, :image
))
INSERT INTO job (
    id, name, box_type, timeout_seconds, expected_seconds, commands, environment, state, attempt,
    show_commands, retry, artifacts, image
)
SELECT v.id, v.name, v.box_type, v.timeout_seconds, v.expected_seconds, v.commands,
       v.environment, 'waiting', 0, v.show_commands, CAST(v.retry AS text), v.artifacts,
       CAST(v.image AS text)
  FROM v WHERE v.id IS NOT NULL;

-- name: insert_commands
-- Insert commands for the shards' leaders; a submission contains its workload.
-- returns: nothing
WITH v(shard, kind, payload, workload) AS (VALUES (:shard, :kind, :payload, :workload))
INSERT INTO inbox (shard, kind, payload, workload)
SELECT v.shard, v.kind, v.payload, CAST(v.workload AS bigint)
  FROM v WHERE v.shard IS NOT NULL;

-- name: add_workload_command
-- Insert a command about a workload, for the leader of its shard.
-- returns: nothing
INSERT INTO inbox (shard, kind, payload)
SELECT organization.shard, :kind, :payload
  FROM workload
  JOIN project ON project.id = workload.project
  JOIN organization ON organization.id = project.organization
 WHERE workload.id = :workload;

-- name: insert_keys
-- Insert idempotency keys with their answers.
-- returns: nothing
WITH v(scope, key, body_sha256, workload, number) AS (VALUES (
    :scope, :key, :body_sha256, :workload, :number
))
INSERT INTO idempotency (scope, key, body_sha256, workload, number, created_at)
SELECT v.scope, v.key, v.body_sha256, v.workload, v.number, EXTRACT(EPOCH FROM clock_timestamp())
  FROM v WHERE v.scope IS NOT NULL;

-- name: stamp_keys
-- Date the keys that a program of an earlier schema stored: their age counts from now.
-- returns: nothing
UPDATE idempotency SET created_at = EXTRACT(EPOCH FROM clock_timestamp())
 WHERE (scope, key) IN (
    SELECT scope, key FROM idempotency WHERE created_at IS NULL ORDER BY created_at LIMIT :limit
 );

-- name: drop_old_keys
-- Delete some of the keys that are older than :seconds, the oldest first.
-- returns: one
DELETE FROM idempotency
 WHERE (scope, key) IN (
    SELECT scope, key FROM idempotency
     WHERE created_at < EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
     ORDER BY created_at LIMIT :limit
 )
RETURNING 1;
