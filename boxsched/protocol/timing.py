"""Seconds that workers, nodes and the leader of a shard must agree on."""

HEARTBEAT_SECONDS = 5.0  # between two heartbeats of a worker, at most
UNKNOWN_AFTER_SECONDS = 15.0  # without a heartbeat, after which a worker's jobs are unknown
LOST_AFTER_SECONDS = 120.0  # default of --lost-after
GIVEN_AGAIN_SECONDS = 10.0  # from --lost-after until a build's job is given a new attempt
LEVEL_SECONDS = 10.0  # a connected worker is sent its level at least that often
assert UNKNOWN_AFTER_SECONDS >= 3 * HEARTBEAT_SECONDS
assert LOST_AFTER_SECONDS > UNKNOWN_AFTER_SECONDS


def heartbeat_seconds(lost_after: float) -> float:
    """Return the seconds between two heartbeats: at least four fit into ``lost_after``."""
    return min(HEARTBEAT_SECONDS, lost_after / 4)
