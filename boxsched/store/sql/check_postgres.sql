-- name: commit_order
-- I7, V2: no leader committed a transaction after its successor's first commit. Checks the times of
-- commits and the order of transactions, because the server's clock may be changed.
-- returns: shard, epoch, first_commit, last_commit_before
SELECT shard, epoch, first_commit, last_commit_before
  FROM (
    SELECT e.shard, l.epoch, min(pg_xact_commit_timestamp(e.xmin)) AS first_commit,
           max(max(pg_xact_commit_timestamp(e.xmin))) OVER earlier AS last_commit_before,
           max(age(e.xmin)) AS first_age, min(min(age(e.xmin))) OVER earlier AS last_age_before
      FROM (
        SELECT shard, epoch, batch, lead(batch) OVER (PARTITION BY shard ORDER BY epoch) AS last
          FROM leadership
      ) AS l
      JOIN event AS e ON e.shard = l.shard AND e.batch > l.batch
                     AND (l.last IS NULL OR e.batch <= l.last)
     GROUP BY e.shard, l.epoch
    WINDOW earlier AS (
        PARTITION BY e.shard ORDER BY l.epoch ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
  ) AS epochs
 WHERE first_commit < last_commit_before AND first_age > last_age_before;
