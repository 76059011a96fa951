"""The tables by name, for what treats them all alike: rights, moving, sizes."""

# In the order in which rows can be written: what a row refers to comes before it.
TABLES = (
    "meta",
    "shard",
    "leadership",
    "organization",
    "project",
    "project_version",
    "secret",
    "outgoing",
    "schedule",
    "workload",
    "notification",
    "job",
    "worker",
    "box",
    "job_history",
    "event",
    "inbox",
    "set_aside",
    "idempotency",
    "log_chunk",
    "page_session",
    "token",
    "node",
    "lineage",
    "lane_count",
    "pause",
    "server_live",
    "deploy_due",
)
VIEWS = ("shown_workload", "workload_shown", "workload_row")
