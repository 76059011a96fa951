-- name: shards
-- Each shard's last batch, its plan, and the batch since which its leader uses this plan.
-- returns: id, batch, epoch_batch, max_boxes
SELECT s.id, s.batch, s.epoch_batch, o.max_boxes
  FROM shard AS s LEFT JOIN organization AS o ON o.shard = s.id;

-- name: projects
-- The projects' limits; NULL while a change still waits for the leader.
-- returns: id, shard, name, max_boxes
SELECT p.id, o.shard, p.name,
       CASE WHEN EXISTS (SELECT 1 FROM inbox AS i WHERE i.kind = 'project' AND i.shard = o.shard)
            THEN NULL ELSE p.max_boxes END
  FROM project AS p JOIN organization AS o ON o.id = p.organization
 WHERE NOT p.deleted;

-- name: boxes
-- The worker of each Box.
-- returns: id, worker
SELECT id, worker FROM box;

-- name: states
-- The states in the tables of the workloads that the leaders know.
-- returns: id, state, history_cut
SELECT id, state, history_cut FROM workload
 WHERE id NOT IN (SELECT workload FROM inbox WHERE workload IS NOT NULL);

-- name: history
-- All events in order, with values of their workloads; ``home`` is the workload's shard.
-- returns: shard, batch, n, type, workload, job, data, lane, number, project, boxes, kind, cut, home
SELECT e.shard, e.batch, e.n, e.type, e.workload, e.job, e.data, w.lane, w.number, w.project,
       w.boxes, w.kind, w.history_cut AS cut, o.shard AS home
  FROM event AS e
  LEFT JOIN workload AS w ON w.id = e.workload
  LEFT JOIN project AS p ON p.id = w.project
  LEFT JOIN organization AS o ON o.id = p.organization
 ORDER BY e.shard, e.batch, e.n;
