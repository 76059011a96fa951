-- name: unplanned
-- Builds whose jobs are not known yet, by id.
-- returns: id
SELECT id FROM workload
 WHERE boxes = 0 AND finished_at IS NULL AND id > :after
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
-- A build whose jobs were read: how many there are, and the whole commit that they are of. No row if
-- it has its jobs already, or has ended.
-- returns: id
UPDATE workload SET boxes = :boxes, commit_hash = :commit_hash
 WHERE id = :workload AND boxes = 0 AND finished_at IS NULL
RETURNING id;
