-- name: put_token
-- Store a token. If its digest is already stored, that token stays unchanged, revoked or not.
-- returns: nothing
INSERT INTO token (
    id, digest, role, limited_role, name, created_at, expires_at, organization, max_workers, bound,
    taken_by, projects, servers, instance, last_used_at
) VALUES (
    :id, :digest, :role, :limited_role, :name, :created_at, :expires_at, :organization,
    :max_workers, :bound, :taken_by, :projects, :servers, :instance, :last_used_at
)
ON CONFLICT (digest) DO NOTHING;

-- name: token
-- The token with a digest, unless it was revoked.
-- returns: id, digest, role, name, created_at, expires_at, organization, max_workers, bound, taken_by,
-- projects, servers, instance, last_used_at
SELECT id, digest, coalesce(limited_role, role), name, created_at, expires_at, organization,
       max_workers, bound AND limited_role IS NULL,
       CASE WHEN limited_role IS NULL THEN taken_by END, projects, servers,
       coalesce(instance, role = 'admin'), last_used_at
  FROM token
 WHERE digest = :digest AND NOT revoked;

-- name: tokens
-- All tokens, oldest first.
-- returns: id, digest, role, name, created_at, expires_at, organization, max_workers, bound, taken_by,
-- projects, servers, instance, last_used_at
SELECT id, digest, coalesce(limited_role, role), name, created_at, expires_at, organization,
       max_workers, bound AND limited_role IS NULL,
       CASE WHEN limited_role IS NULL THEN taken_by END, projects, servers,
       coalesce(instance, role = 'admin'), last_used_at
  FROM token
 WHERE NOT revoked ORDER BY created_at, id;

-- name: token_used
-- Note that a token is in use, unless that was noted less than :seconds ago, by any node.
-- returns: nothing
WITH v(id) AS (VALUES (:id))
UPDATE token SET last_used_at = EXTRACT(EPOCH FROM clock_timestamp())
  FROM v
 WHERE token.id = v.id
   AND coalesce(token.last_used_at <= EXTRACT(EPOCH FROM clock_timestamp()) - :seconds, TRUE);

-- name: revoke_token
-- Revoke a token.
-- returns: id
UPDATE token SET revoked = TRUE, revoked_at = EXTRACT(EPOCH FROM clock_timestamp())
 WHERE id = :id AND NOT revoked
RETURNING id;

-- name: stamp_revoked_tokens
-- Date the tokens that a program of an earlier schema revoked: their age counts from now.
-- returns: nothing
UPDATE token SET revoked_at = EXTRACT(EPOCH FROM clock_timestamp())
 WHERE revoked AND revoked_at IS NULL;

-- name: drop_revoked_tokens
-- Delete some of the tokens revoked more than :seconds ago. The token of a data folder is kept, because the
-- next start of its node would make it valid again.
-- returns: one
DELETE FROM token WHERE id IN (
    SELECT id FROM token
     WHERE revoked AND revoked_at < EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
       AND substr(id, 1, 5) <> 'file-'
     ORDER BY revoked_at LIMIT :limit
)
RETURNING 1;

-- name: drop_expired_tokens
-- Delete some of the tokens that expired more than :seconds ago. A data folder's token never expires, so the
-- start of a node makes none of these valid again.
-- returns: one
DELETE FROM token WHERE id IN (
    SELECT id FROM token WHERE expires_at < EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
     ORDER BY expires_at LIMIT :limit
)
RETURNING 1;
