"""The waiting times of an external worker."""

import attrs

from boxsched.protocol.timing import HEARTBEAT_SECONDS, UNKNOWN_AFTER_SECONDS, heartbeat_seconds


@attrs.frozen
class Pace:
    """All values are in seconds. Only tests use other values than these."""

    connect: float = 10.0  # from the first packet to the Welcome
    beat: float = HEARTBEAT_SECONDS
    silence: float = UNKNOWN_AFTER_SECONDS  # of the node, after which the connection is lost
    first_wait: float = 0.1
    longest_wait: float = 5.0
    leave: float = 0.5  # at most, to another node, so that not all come at once
    refused: float = 30.0  # where only a person can help
    look: float = 2.0  # meanwhile, whether there is another token
    steady: float = 5.0  # a connection that stood so long was a good one
    flush: float = 2.0  # for what was said to be answered, at the end

    def of(self, lost_after: float) -> "Pace":
        """Return a pace with heartbeats that are frequent enough for a short ``--lost-after``."""
        return attrs.evolve(self, beat=min(self.beat, heartbeat_seconds(lost_after)))
