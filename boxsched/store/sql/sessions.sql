-- name: put_session
-- Store a session of the page under the digest of its id.
-- returns: nothing
INSERT INTO page_session (digest, principal, expires_at) VALUES (:digest, :principal, :expires_at)
ON CONFLICT (digest) DO UPDATE
   SET principal = excluded.principal, expires_at = excluded.expires_at;

-- name: session
-- The principal of a session that has not expired.
-- returns: principal
SELECT principal FROM page_session WHERE digest = :digest AND expires_at > :now;

-- name: drop_session
-- Delete the session of a page that signed out.
-- returns: nothing
DELETE FROM page_session WHERE digest = :digest;

-- name: drop_expired_sessions
-- Delete some of the sessions that had expired by then.
-- returns: one
DELETE FROM page_session WHERE digest IN (
    SELECT digest FROM page_session WHERE expires_at <= :then ORDER BY expires_at LIMIT :limit
)
RETURNING 1;
