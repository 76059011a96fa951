"""The meaning of each constraint of the schema when it refuses a row.

Any other constraint that refuses a row shows a bug (``InvariantRefused``), because all input was
checked before. Then nothing was changed; a request gets 500, a command of the engine is set aside.
"""

# Two transactions wrote the same row. When the second one is repeated, it sees the first one's row.
# Examples: two submissions with one key; a worker that connects to two nodes; a chunk of a log that
# arrives twice, by an old and a new connection.
RACES = frozenset({"idempotency_pkey", "worker_identity", "worker_name_key", "log_chunk_pkey"})

# The statements handle these with ON CONFLICT, so no caller gets an error.
SETTLED = frozenset(
    {
        "artifact_pkey",
        "blob_part_pkey",
        "blob_pkey",
        "deploy_due_pkey",
        "ghost_attempt",
        "box_worker_ordinal_box_type_key",
        "history_start_pkey",
        "job_history_pkey",
        "lane_count_pkey",
        "log_file_pkey",
        "meta_pkey",
        "node_name_key",
        "outgoing_pkey",
        "page_session_pkey",
        "pause_pkey",
        "project_name",
        "pruned_workload_pkey",
        "schedule_pkey",
        "secret_pkey",
        "server_live_pkey",
        "shard_pkey",
        "ssh_session_pkey",
        "token_digest_key",
    }
)
