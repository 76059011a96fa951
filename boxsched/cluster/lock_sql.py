"""The queries of the lock session."""

# Materialized, so that only free locks are tried: trying a lock that we hold would take it twice.
PING = """
WITH seen AS MATERIALIZED (
    SELECT classid::bigint AS what, objid::bigint AS number, pid
      FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid = 2 AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid::bigint IN (%(shards)s, %(nodes)s)
), free AS MATERIALIZED (
    SELECT wanted.number FROM unnest(%(wanted)s::int[]) AS wanted (number)
     WHERE NOT EXISTS (
        SELECT 1 FROM seen WHERE seen.what = %(shards)s AND seen.number = wanted.number
     )
), tried AS MATERIALIZED (
    SELECT number, pg_try_advisory_lock(%(shards)s, number) AS taken FROM free
)
SELECT CAST(current_setting('transaction_read_only') AS bool)::int, 0, pg_backend_pid()
 UNION ALL
SELECT what, number, pid FROM seen
 UNION ALL
SELECT %(shards)s, number, pg_backend_pid() FROM tried WHERE taken
"""
HOLDERS = """
SELECT DISTINCT objid::bigint FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND classid::bigint = %(what)s
"""
