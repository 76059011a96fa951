-- name: commit_order
-- I7, V2: nothing was committed by a leader after its successor's first commit.
SELECT shard, epoch, first_commit, last_commit_before
  FROM (
    SELECT e.shard, l.epoch, min(pg_xact_commit_timestamp(e.xmin)) AS first_commit,
           max(max(pg_xact_commit_timestamp(e.xmin))) OVER (
               PARTITION BY e.shard ORDER BY l.epoch ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
           ) AS last_commit_before
      FROM (
        SELECT shard, epoch, batch, lead(batch) OVER (PARTITION BY shard ORDER BY epoch) AS last
          FROM leadership
      ) AS l
      JOIN event AS e ON e.shard = l.shard AND e.batch > l.batch
                     AND (l.last IS NULL OR e.batch <= l.last)
     GROUP BY e.shard, l.epoch
  ) AS epochs
 WHERE first_commit < last_commit_before;
