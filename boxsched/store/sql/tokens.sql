-- name: put_token
-- A token that holds from now on; one whose digest is there already stays as it is, revoked or not.
INSERT INTO token (
    id, digest, role, name, created_at, expires_at, organization, max_workers
) VALUES (
    :id, :digest, :role, :name, :created_at, :expires_at, :organization, :max_workers
)
ON CONFLICT (digest) DO NOTHING;

-- name: token
-- The token of that digest.
SELECT id, digest, role, name, created_at, expires_at, organization, max_workers FROM token
 WHERE digest = :digest AND NOT revoked;

-- name: tokens
-- All tokens, oldest first.
SELECT id, digest, role, name, created_at, expires_at, organization, max_workers FROM token
 WHERE NOT revoked ORDER BY created_at, id;

-- name: revoke_token
-- It holds no more, for good.
UPDATE token SET revoked = TRUE WHERE id = :id AND NOT revoked
RETURNING id;

-- name: drop_expired_tokens
-- Some of the tokens that ended so many seconds ago. A data folder's token never ends by itself, so
-- no node's start brings one of these back.
DELETE FROM token WHERE id IN (
    SELECT id FROM token WHERE expires_at < EXTRACT(EPOCH FROM clock_timestamp()) - :seconds
     ORDER BY expires_at LIMIT :limit
)
RETURNING 1;
