"""Measure how long the event loop is blocked. Then no request is served, and a leader may lose its
locks.

A task sleeps repeatedly; its delay at waking up is the time for which the loop was blocked.
"""

import asyncio
from collections.abc import Callable

TICK_SECONDS = 0.02
WINDOW_SECONDS = 60.0


class LoopHolds:
    """The longest delay of this minute and the one before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # the loop's own
        self._began = clock()
        self._now = self._before = 0.0

    async def run(self) -> None:
        while True:
            due = self._clock() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.note(self._clock() - due)

    def note(self, late: float) -> None:
        """Record a delay in seconds."""
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._before = self._now if now - self._began < 2 * WINDOW_SECONDS else 0.0
            self._now, self._began = 0.0, now
        self._now = max(self._now, late)

    @property
    def longest(self) -> float:
        """The longest delay in seconds."""
        return max(self._now, self._before)
