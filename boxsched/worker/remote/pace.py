"""The waiting times of an external worker."""

import attrs

from boxsched.protocol.timing import HEARTBEAT_SECONDS, UNKNOWN_AFTER_SECONDS, heartbeat_seconds


@attrs.frozen
class Pace:
    """Waiting times in seconds. Only tests change these values."""

    connect: float = 10.0  # from the first packet to the Welcome
    beat: float = HEARTBEAT_SECONDS
    silence: float = UNKNOWN_AFTER_SECONDS  # without a message, until the connection is lost
    first_wait: float = 0.1
    longest_wait: float = 5.0
    # The same while nothing listens there, as when a node is started again: a try costs nothing.
    longest_wait_unheard: float = 2.0
    leave: float = 0.5  # random pause up to this, so that workers do not all connect at once
    refused: float = 30.0  # between two tries after a refusal
    look: float = 2.0  # between two looks for a new token after a refusal
    steady: float = 5.0  # a connection of this duration resets the backoff
    flush: float = 2.0  # for answers to sent messages, at the end

    def of(self, lost_after: float) -> "Pace":
        """Return a pace whose heartbeats are frequent enough for this ``--lost-after``."""
        return attrs.evolve(self, beat=min(self.beat, heartbeat_seconds(lost_after)))
