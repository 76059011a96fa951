-- name: held_job
-- The attempt of a job that a worker holds under a lease, and the build that it deploys.
-- returns: attempt, patterns, build
SELECT job.attempt, job.artifacts AS patterns, workload.build
  FROM job
  JOIN box ON box.job = job.id
  JOIN worker ON worker.id = box.worker
  JOIN workload ON workload.id = job.id / 1024
 WHERE job.id = :job AND job.lease_token = :lease_token AND worker.token = :holder
   AND job.state IN ('assigned', 'running', 'stopping', 'unknown');

-- name: lock_job
-- Lock a job, so that two nodes that store artifacts of it at the same time count each other's.
-- returns: id
SELECT id FROM job WHERE id = :job FOR NO KEY UPDATE OF job;

-- name: kept_total
-- How many artifacts an attempt has beside one of this path, and their bytes.
-- returns: files, bytes
SELECT count(*), CAST(coalesce(sum(size), 0) AS bigint) FROM artifact
 WHERE job = :job AND attempt = :attempt AND path <> :path;

-- name: put_blob
-- Store that a content is in a file, unless it is in another one already; returns where it is.
-- returns: place, file
INSERT INTO blob (sha256, size, place, file, used_at)
VALUES (:sha256, :size, :place, :file, :used_at)
ON CONFLICT (sha256) DO UPDATE SET used_at = excluded.used_at
RETURNING place, file;

-- name: put_artifact
-- Store a file of an attempt; a repeated call changes nothing.
-- returns: nothing
INSERT INTO artifact (job, attempt, path, sha256, size, executable)
VALUES (:job, :attempt, :path, :sha256, :size, :executable)
ON CONFLICT (job, attempt, path) DO UPDATE
   SET sha256 = excluded.sha256, size = excluded.size, executable = excluded.executable;

-- name: artifacts_of
-- The artifacts of an attempt.
-- returns: path, size, sha256, executable
SELECT path, size, sha256, executable FROM artifact
 WHERE job = :job AND attempt = :attempt ORDER BY path;

-- name: artifact
-- One of them, and where its content is.
-- returns: path, size, sha256, executable, place, file
SELECT artifact.path, artifact.size, artifact.sha256, artifact.executable, blob.place, blob.file
  FROM artifact JOIN blob ON blob.sha256 = artifact.sha256
 WHERE artifact.job = :job AND artifact.attempt = :attempt AND artifact.path = :path;

-- name: artifacts_of_build
-- The artifacts of the last attempts of a build's jobs, in the order of the jobs.
-- returns: as artifacts_of
SELECT artifact.path, artifact.size, artifact.sha256, artifact.executable
  FROM artifact JOIN job ON job.id = artifact.job AND job.attempt = artifact.attempt
 WHERE artifact.job >= :first AND artifact.job < :end
 ORDER BY artifact.job, artifact.path LIMIT :limit;

-- name: content_of_build
-- A content that a build's jobs have kept, and where it is.
-- returns: place, file, size
SELECT place, file, size FROM blob
 WHERE sha256 = :sha256 AND EXISTS (
    SELECT 1 FROM artifact
     WHERE artifact.sha256 = blob.sha256 AND artifact.job >= :first AND artifact.job < :end
 );

-- name: artifacts_dropped
-- When a workload's artifacts were deleted; NULL: never.
-- returns: artifacts_dropped_at
SELECT artifacts_dropped_at FROM workload WHERE id = :workload;

-- name: put_part
-- Store a part of a file; a repeated call changes nothing.
-- returns: nothing
INSERT INTO blob_part (file, first_byte, stored_at, data)
VALUES (:file, :first_byte, :stored_at, :data)
ON CONFLICT (file, first_byte) DO NOTHING;

-- name: parts_end
-- The first byte and the length of the last part of a file.
-- returns: first_byte, length
SELECT first_byte, length(data) FROM blob_part
 WHERE file = :file ORDER BY first_byte DESC LIMIT 1;

-- name: part
-- The part of a file that has this byte.
-- returns: first_byte, data
SELECT first_byte, data FROM blob_part
 WHERE file = :file AND first_byte <= :at ORDER BY first_byte DESC LIMIT 1;

-- name: drop_parts
-- Delete a file of the database.
-- returns: nothing
DELETE FROM blob_part WHERE file = :file;

-- name: next_blobs
-- The next contents, by their hash.
-- returns: sha256
SELECT sha256 FROM blob WHERE sha256 > :after ORDER BY sha256 LIMIT :limit;

-- name: drop_unused_blobs
-- Delete contents of a range that nothing refers to; returns where they are. A content that was used
-- lately may be about to get a reference.
-- returns: place, file
DELETE FROM blob
 WHERE sha256 > :after AND sha256 <= :last AND used_at < :before
   AND NOT EXISTS (SELECT 1 FROM artifact WHERE artifact.sha256 = blob.sha256)
RETURNING place, file;

-- name: known_files
-- Those of these names that are files of a content or of a log.
-- returns: file
WITH v(file) AS (VALUES (:file))
SELECT v.file FROM v
 WHERE EXISTS (SELECT 1 FROM blob WHERE blob.file = v.file)
    OR EXISTS (SELECT 1 FROM log_file WHERE log_file.file = v.file);

-- name: first_log_file
-- The file of the first log that is in a file.
-- returns: file
SELECT file FROM log_file ORDER BY job, attempt LIMIT 1;

-- name: oldest_blob
-- The content that was used the longest time ago, and where it is.
-- returns: place, file
SELECT place, file FROM blob ORDER BY used_at LIMIT 1;

-- name: next_part_files
-- The next files that have parts in the database.
-- returns: file, stored_at
SELECT file, stored_at FROM blob_part WHERE file > :after AND first_byte = 0
 ORDER BY file LIMIT :limit;

-- name: artifacts_behind
-- The next artifacts, by job.
-- returns: job
SELECT job FROM artifact WHERE job > :job ORDER BY job LIMIT :limit;

-- name: drop_artifacts
-- Delete all artifacts of these jobs.
-- returns: one
WITH v(job) AS (VALUES (:job))
DELETE FROM artifact WHERE job IN (SELECT v.job FROM v)
RETURNING 1;

-- name: note_dropped
-- Note that the artifacts of these workloads were deleted.
-- returns: nothing
WITH v(id, at) AS (VALUES (:id, :at))
UPDATE workload SET artifacts_dropped_at = v.at FROM v WHERE workload.id = v.id;
