-- name: due
-- Passed builds with the servers that they must be deployed to, oldest first.
-- returns: build, server
SELECT build, server FROM deploy_due ORDER BY build, server LIMIT :limit;

-- name: drop_due
-- Delete a processed build: it was deployed to the server, or will not be.
-- returns: nothing
DELETE FROM deploy_due WHERE build = :build AND server = :server;

-- name: newer_there
-- A row if a newer build of the same branch is live on the server, or its deploy is unfinished. A rebuild
-- is as old as the build that it repeats.
-- returns: one
WITH mine AS (
    SELECT branch, coalesce(first_number, number) AS number
      FROM workload WHERE id = :build
)
SELECT 1
  FROM mine
  JOIN workload AS deploy ON deploy.lane = :lane AND deploy.finished_at IS NULL
  JOIN workload AS build ON build.id = deploy.build
 WHERE build.branch = mine.branch AND coalesce(build.first_number, build.number) > mine.number
UNION ALL
SELECT 1
  FROM mine
  JOIN server_live ON server_live.project = :project AND server_live.server = :server
  JOIN workload AS deploy ON deploy.id = server_live.workload
  JOIN workload AS build ON build.id = deploy.build
 WHERE build.branch = mine.branch AND coalesce(build.first_number, build.number) > mine.number
LIMIT 1;

-- name: live_builds
-- The number of the build that is live on each of these servers (as in ``number_of_build``); no row for a
-- server without one.
-- returns: project, server, build
WITH v(project, server) AS (VALUES (:project, :server))
SELECT server_live.project, server_live.server,
       coalesce(build.first_number, build.number) AS build
  FROM v
  JOIN server_live ON server_live.project = v.project AND server_live.server = v.server
  JOIN workload AS deploy ON deploy.id = server_live.workload
  JOIN workload AS build ON build.id = deploy.build;

-- name: number_of_build
-- The numbers of these builds; for a rebuild, the number of the build that it repeats.
-- returns: id, number
WITH v(id) AS (VALUES (:id))
SELECT workload.id, coalesce(workload.first_number, workload.number) AS number
  FROM v JOIN workload ON workload.id = v.id;

-- name: live
-- The live deploys of a project's servers.
-- returns: server, workload
SELECT server, workload FROM server_live WHERE project = :project;

-- name: drop_servers
-- Delete the live deploys of a deleted project.
-- returns: nothing
DELETE FROM server_live WHERE project = :project;

-- name: latest
-- The last deploy to each of these servers that began.
-- returns: server, workload
WITH v(server) AS (VALUES (:server))
SELECT v.server, (
    SELECT w.id FROM workload AS w
     WHERE w.project = :project AND w.server = v.server AND w.started_at IS NOT NULL
     ORDER BY w.id DESC LIMIT 1
) AS workload
  FROM v WHERE v.server IS NOT NULL;

-- name: waiting
-- The deploys to these servers that have not begun, oldest first. By lane, because a project may have many
-- waiting builds.
-- returns: server, workload
WITH v(server, lane) AS (VALUES (:server, :lane))
SELECT v.server, w.id AS workload
  FROM v JOIN workload AS w ON w.lane = v.lane
 WHERE w.finished_at IS NULL AND w.started_at IS NULL
 ORDER BY w.id LIMIT :limit;
