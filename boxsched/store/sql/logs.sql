-- name: log_ends
-- The lengths of these logs in bytes; no row for a log without output.
-- returns: job, attempt, end_byte
WITH v(job, attempt) AS (VALUES (:job, :attempt))
SELECT c.job, c.attempt, c.end_byte
  FROM v JOIN log_chunk AS c ON c.job = v.job AND c.attempt = v.attempt
 WHERE c.first_byte = (
    SELECT max(l.first_byte) FROM log_chunk AS l WHERE l.job = v.job AND l.attempt = v.attempt
 );

-- name: log_end
-- The length of one log in bytes; no row for a log without output.
-- returns: end_byte
SELECT end_byte FROM log_chunk WHERE job = :job AND attempt = :attempt
 ORDER BY first_byte DESC LIMIT 1;

-- name: insert_chunks
-- Append chunks to logs.
-- returns: nothing
WITH v(job, attempt, first_byte, end_byte, data) AS (VALUES (
    :job, :attempt, :first_byte, :end_byte, :data
))
INSERT INTO log_chunk (job, attempt, first_byte, end_byte, data, stored_at)
SELECT v.job, v.attempt, v.first_byte, v.end_byte, v.data,
       EXTRACT(EPOCH FROM clock_timestamp())
  FROM v WHERE v.job IS NOT NULL;

-- name: log
-- The chunks that contain a range of a log, in order.
-- returns: first_byte, data
SELECT first_byte, data FROM log_chunk
 WHERE job = :job AND attempt = :attempt AND first_byte < :end AND end_byte > :start
   AND first_byte >= coalesce((
        SELECT max(l.first_byte) FROM log_chunk AS l
         WHERE l.job = :job AND l.attempt = :attempt AND l.first_byte <= :start
   ), 0)
 ORDER BY first_byte;

-- name: log_chunks
-- The same, with the times at which the chunks were stored.
-- returns: first_byte, data, stored_at
SELECT first_byte, data, stored_at FROM log_chunk
 WHERE job = :job AND attempt = :attempt AND first_byte < :end AND end_byte > :start
   AND first_byte >= coalesce((
        SELECT max(l.first_byte) FROM log_chunk AS l
         WHERE l.job = :job AND l.attempt = :attempt AND l.first_byte <= :start
   ), 0)
 ORDER BY first_byte;

-- name: next_logs
-- The next logs, by job.
-- returns: job, attempt
SELECT job, attempt FROM log_chunk WHERE job > :job AND first_byte = 0
 ORDER BY job, attempt LIMIT :limit;

-- name: put_log_file
-- Store that a log is in a file; no row: it is in one already.
-- returns: one
INSERT INTO log_file (job, attempt, file, size) VALUES (:job, :attempt, :file, :size)
ON CONFLICT (job, attempt) DO NOTHING RETURNING 1 AS one;

-- name: drop_chunks
-- Delete the chunks of a log.
-- returns: nothing
DELETE FROM log_chunk WHERE job = :job AND attempt = :attempt;

-- name: log_file
-- The file of a log, and the size of the log in it.
-- returns: file, size
SELECT file, size FROM log_file WHERE job = :job AND attempt = :attempt;

-- name: log_files_behind
-- The next jobs whose logs are in files.
-- returns: job
SELECT job FROM log_file WHERE job > :job ORDER BY job LIMIT :limit;
