-- name: say_cluster
-- What names this database, said once.
INSERT INTO meta (key, value) VALUES ('cluster', :value) ON CONFLICT (key) DO NOTHING;

-- name: say_schema
-- The version that the schema has now.
INSERT INTO meta (key, value) VALUES ('schema', :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;
