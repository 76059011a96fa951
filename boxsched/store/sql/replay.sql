-- name: limits
-- The plan, and since which batch each shard's leader goes by it.
SELECT s.id, s.epoch_batch, o.max_boxes FROM shard AS s CROSS JOIN organization AS o;

-- name: projects
-- The projects' limits; none while a leader has yet to hear of a change.
SELECT id, name,
       CASE WHEN EXISTS (SELECT 1 FROM inbox WHERE kind = 'project') THEN NULL ELSE max_boxes END
  FROM project WHERE NOT deleted;

-- name: states
-- How the tables have the workloads that the leaders know of.
SELECT id, state FROM workload
 WHERE id NOT IN (SELECT workload FROM inbox WHERE workload IS NOT NULL);

-- name: history
-- All events in order, with what the tables say of their workloads.
SELECT e.shard, e.batch, e.n, e.type, e.workload, e.job, e.data, w.lane, w.number, w.project,
       w.boxes
  FROM event AS e LEFT JOIN workload AS w ON w.id = e.workload
 ORDER BY e.shard, e.batch, e.n;
