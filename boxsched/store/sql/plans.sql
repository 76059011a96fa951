-- name: unplanned_projects
-- The next projects with builds whose jobs are not known yet. An index finds each in the same time,
-- even with many such builds. The last row may be NULL.
-- returns: project
WITH RECURSIVE p(project) AS (
    SELECT min(w.project) FROM workload AS w
     WHERE w.boxes = 0 AND w.finished_at IS NULL AND w.project > :after
    UNION ALL
    SELECT (
        SELECT min(w.project) FROM workload AS w
         WHERE w.boxes = 0 AND w.finished_at IS NULL AND w.project > p.project
    ) FROM p WHERE p.project IS NOT NULL
)
SELECT project FROM p LIMIT :limit;

-- name: first_unplanned
-- The first build of each of these projects, after a given one, whose jobs are not known yet.
-- returns: project, id
WITH v(project, after) AS (VALUES (:project, :after))
SELECT f.project, f.id FROM (
    SELECT v.project, (
        SELECT min(w.id) FROM workload AS w
         WHERE w.project = v.project AND w.boxes = 0 AND w.finished_at IS NULL AND w.id > v.after
    ) AS id FROM v
) AS f WHERE f.id IS NOT NULL;

-- name: unplanned
-- Builds of a project whose jobs are not known yet, by id.
-- returns: id
SELECT id FROM workload
 WHERE project = :project AND boxes = 0 AND finished_at IS NULL AND id > :after
 ORDER BY id LIMIT :limit;

-- name: limits_of
-- The limits of a build whose jobs are not known yet. No row if it has them, or has ended.
-- returns: project, project_limit, plan
SELECT workload.project, project.max_boxes AS project_limit, organization.max_boxes AS plan
  FROM workload
  JOIN project ON project.id = workload.project
  JOIN organization ON organization.id = project.organization
 WHERE workload.id = :workload AND workload.boxes = 0 AND workload.finished_at IS NULL;

-- name: plan_workload
-- Store for a build whose jobs were read: their number (0: they cannot be used), and their full commit
-- hash. No row if it already has its jobs, or has ended.
-- returns: id
UPDATE workload SET boxes = :boxes, commit_hash = :commit_hash
 WHERE id = :workload AND boxes = 0 AND finished_at IS NULL
RETURNING id;
