-- name: say
-- What ``meta`` says from now on.
-- returns: nothing
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;
