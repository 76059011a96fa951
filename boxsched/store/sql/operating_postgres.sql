-- name: commit_times
-- Whether the server keeps the times of commits.
-- returns: kept
SELECT current_setting('track_commit_timestamp');

-- name: lock_keys
-- The lock keys of the running nodes, as numbers (protocol.lock_keys).
-- returns: key
SELECT DISTINCT CAST(objid AS bigint) FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND CAST(classid AS bigint) = :lock_keys;

-- name: sequences
-- The sequences that number the rows of a table.
-- returns: name
SELECT CAST(s.oid AS regclass)::text
  FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
 WHERE d.refobjid = to_regclass(:table) AND d.deptype = 'a';

-- name: jump_sequence
-- Advance a sequence beyond all ids issued since the backup.
-- returns: last
SELECT setval(:sequence, nextval(:sequence) + :by);

-- name: columns
-- A table's columns with their types, in order.
-- returns: name, type
SELECT CAST(a.attname AS text), format_type(a.atttypid, NULL)
  FROM pg_attribute AS a
 WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum;

-- name: sizes
-- A table's number of rows, by the statistics, and its size in bytes, with indexes.
-- returns: name, rows, bytes
WITH v(name) AS (VALUES (:name))
SELECT v.name, greatest(CAST(c.reltuples AS bigint), 0), pg_total_relation_size(c.oid)
  FROM v JOIN pg_class AS c ON c.oid = to_regclass(v.name)
 ORDER BY 3 DESC;

-- name: server
-- The server's version, and the size of the database in bytes.
-- returns: version, bytes
SELECT current_setting('server_version'), pg_database_size(current_database());

-- name: place
-- The schema and the owner of the tables.
-- returns: database, schema, owner, is_owner
SELECT CAST(current_database() AS text), CAST(n.nspname AS text),
       CAST(pg_get_userbyid(c.relowner) AS text), pg_has_role(c.relowner, 'USAGE')
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = to_regclass('meta');

-- name: role
-- Whether rights do not limit a role (a superuser); no row if the role does not exist.
-- returns: rolsuper
SELECT rolsuper FROM pg_roles WHERE rolname = :role;

-- name: me
-- The role of this session.
-- returns: role
SELECT CAST(current_user AS text);

-- name: grantees
-- The roles with earlier grants.
-- returns: role
SELECT DISTINCT CAST(r.rolname AS text)
  FROM pg_class AS c, aclexplode(c.relacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
 WHERE c.oid = to_regclass('meta') AND a.grantee <> c.relowner
 ORDER BY 1;

-- name: held
-- Which of these rights a role has.
-- returns: place, privilege
WITH v(place, privilege) AS (VALUES (:place, :privilege))
SELECT v.place, v.privilege FROM v WHERE has_table_privilege(:role, v.place, v.privilege);

-- name: readable
-- The tables among these in which a role may read at least some columns.
-- returns: place
WITH v(place) AS (VALUES (:place))
SELECT v.place FROM v WHERE has_any_column_privilege(:role, v.place, 'SELECT');

-- name: may_create
-- Whether a role may create tables in our schema.
-- returns: may
SELECT has_schema_privilege(:role, CAST(:schema AS text), 'CREATE');
