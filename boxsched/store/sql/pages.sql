-- name: number_of
-- A workload's number and project.
-- returns: number
SELECT number FROM workload WHERE id = :id AND project = :project;

-- name: is_there
-- A row if there is a workload of this id.
-- returns: one
SELECT 1 FROM workload WHERE id = :id;

-- name: last_below
-- The id and number of the last workload of a project below a number.
-- returns: id, number
SELECT id, number FROM workload
 WHERE project = :project AND number < :number ORDER BY number DESC LIMIT 1;

-- template: walk
-- A walk reads one index downwards, at most :looked rows below :before. It returns the last id and number
-- that it read, the number of rows, and the ids that match the filter.
-- returns: id, number, looked_at, ids[id]
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
     WHERE {} DESC LIMIT :looked
  ) AS x;

-- name: walk_branch_of_project
-- The builds, deploys and sessions of one branch of a project.
-- like: walk
project = :project AND branch = :branch AND id < :before ORDER BY id;

-- name: walk_server_of_project
-- The deploys to one server of a project.
-- like: walk
project = :project AND server = :server AND id < :before ORDER BY id;

-- name: walk_unfinished_of_project
-- The unfinished workloads of a project.
-- like: walk
project = :project AND finished_at IS NULL AND id < :before ORDER BY id;

-- name: walk_project
-- A project; in it, ids grow with the numbers.
-- like: walk
project = :project AND number < :before ORDER BY number;

-- name: walk_branch
-- One branch, in any project.
-- like: walk
organization = :organization AND branch = :branch AND id < :before ORDER BY id;

-- name: walk_server
-- One server, in any project.
-- like: walk
organization = :organization AND server = :server AND id < :before ORDER BY id;

-- name: walk_unfinished
-- The unfinished workloads of an organization.
-- like: walk
organization = :organization AND finished_at IS NULL AND id < :before ORDER BY id;

-- name: walk_result
-- Workloads that ended with one result.
-- like: walk
organization = :organization AND finished_at IS NOT NULL AND result = :result AND id < :before ORDER BY id;

-- name: walk_kind
-- Deploys, or SSH sessions.
-- like: walk
organization = :organization AND kind = :kind AND kind <> 'build' AND id < :before ORDER BY id;

-- name: walk_all
-- All workloads of an organization.
-- like: walk
organization = :organization AND id < :before ORDER BY id;
