"""Hosts whose last answer was a failure. Together they get a limited number of tries a second, so
that receivers that are away take little of a node's time; other hosts do not wait for them.
"""

from boxsched.clock import Clock

TRIES_PER_SECOND = 100.0
BURST = 64.0
HOSTS_AT_MOST = 10_000  # with more, all are forgotten


class FailingHosts:
    """The failing hosts, and how many tries they have now: a bucket that each failure lowers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hosts: set[str] = set()
        self._tries = BURST
        self._filled = clock.monotonic()

    def __contains__(self, host: object) -> bool:
        return host in self._hosts

    def tries(self) -> int:
        """Return how many tries all failing hosts together may have active now."""
        now = self._clock.monotonic()
        self._tries = min(BURST, self._tries + (now - self._filled) * TRIES_PER_SECOND)
        self._filled = now
        return int(self._tries)

    def failed(self, host: str) -> None:
        if len(self._hosts) >= HOSTS_AT_MOST:
            self._hosts.clear()
        self._hosts.add(host)
        self._tries = max(0.0, self._tries - 1.0)

    def delivered(self, host: str) -> None:
        self._hosts.discard(host)
