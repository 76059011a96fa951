"""A circuit breaker between a bus and a server that may be away, and the deadlines that open it."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

DEADLINE_SECONDS = 0.25  # for every command
PULSE_SECONDS = 0.5  # a connection without traffic for this long is pinged
PROBE_SECONDS = 0.5  # between two attempts, while the server is away
OPENS_WITHIN_SECONDS = 1.0
assert PULSE_SECONDS + DEADLINE_SECONDS < OPENS_WITHIN_SECONDS

_PIECES = 5

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def deadline(seconds: float = DEADLINE_SECONDS) -> AsyncIterator[None]:
    """Raise TimeoutError after this much time in which the event loop ran.

    The time is counted in pieces, and each piece counts once, even if its end is noticed late. So
    time in which the loop was blocked (garbage collection, loading a shard) does not count.
    """
    loop = asyncio.get_running_loop()
    piece = seconds / _PIECES
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as scope:

        def passed(left: int) -> None:
            nonlocal timer
            if left == 0:
                scope.reschedule(loop.time())
            else:
                timer = loop.call_later(piece, passed, left - 1)

        timer = loop.call_later(piece, passed, _PIECES - 1)
        try:
            yield
        finally:
            timer.cancel()


class Breaker:
    """A circuit breaker. Open: the server counts as away, so nothing is sent and nothing waits for
    it.

    At first it is open. Each change is logged once.
    """

    def __init__(self) -> None:
        self._is_open = True
        self._said_away = False
        self.trips = 0

    @property
    def is_open(self) -> bool:
        return self._is_open

    def trip(self, reason: str) -> None:
        """Open the breaker after a failure. A failed probe changes nothing."""
        if not self._is_open:
            self._is_open = True
            self.trips += 1
        if not self._said_away:
            self._said_away = True
            _log.warning("Redis away: %s; nodes poll", reason)

    def mend(self) -> None:
        """Close the breaker, because the server works."""
        self._is_open = False
        if self._said_away:
            self._said_away = False
            _log.info("Redis is back")

    def rest(self) -> None:
        """Open the breaker without a failure, because the bus is closed."""
        self._is_open = True
        self._said_away = False

    def pause(self) -> float:
        """Return the seconds until the next probe, with jitter, so that nodes do not all connect at
        once.
        """
        return PROBE_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 (no secret hangs on it)
