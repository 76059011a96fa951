-- name: number_of
-- Where a workload stands in its project.
SELECT number FROM workload WHERE id = :id AND project = :project;

-- name: walk_branch_of_project
-- The builds, deploys and sessions of one branch of a project.
-- A walk goes down one index, at most :looked rows behind :before. It gives the last id and
-- number that it came by, how many rows it looked at, and the ids that are asked for, as one text.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
       ) AS text)
  FROM (
    SELECT id, number, kind, state, result, branch, server FROM workload
     WHERE project = :project
       AND branch = :branch
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_server_of_project
-- The deploys to one server of a project.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
       ) AS text)
  FROM (
    SELECT id, number, kind, state, result, branch, server FROM workload
     WHERE project = :project
       AND server = :server
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_unfinished_of_project
-- What is unfinished in a project.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
       ) AS text)
  FROM (
    SELECT id, number, kind, state, result, branch, server FROM workload
     WHERE project = :project
       AND finished_at IS NULL
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_project
-- A project; in it, ids grow with the numbers.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
       ) AS text)
  FROM (
    SELECT id, number, kind, state, result, branch, server FROM workload
     WHERE project = :project
       AND number < :before
     ORDER BY number DESC LIMIT :looked
  ) AS x;

-- name: walk_branch
-- One branch, in any project.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE branch = :branch
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_server
-- One server, in any project.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE server = :server
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_unfinished
-- What is unfinished.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE finished_at IS NULL
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_result
-- What ended with one result.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE finished_at IS NOT NULL
       AND result = :result
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_kind
-- Deploys, or SSH sessions.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE kind = :kind
       AND kind <> 'build'
       AND id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;

-- name: walk_all
-- All workloads.
SELECT min(x.id), min(x.number), count(*), CAST(json_agg(json_build_array(x.id)) FILTER (
           WHERE x.kind = coalesce(:kind, x.kind)
            AND x.state = coalesce(:state, x.state)
            AND (CAST(:result AS text) IS NULL OR x.result = :result)
            AND (CAST(:branch AS text) IS NULL OR x.branch = :branch)
            AND (CAST(:server AS text) IS NULL OR x.server = :server)
            AND (CAST(:project AS bigint) IS NULL OR x.project = :project)
       ) AS text)
  FROM (
    SELECT id, number, project, kind, state, result, branch, server FROM workload
     WHERE id < :before
     ORDER BY id DESC LIMIT :looked
  ) AS x;
