"""How long the event loop is held. Meanwhile no request is served, and a leader may lose its locks.

A task that sleeps again and again sees it: as late as it wakes up, so long was the loop held.
"""

import asyncio
from collections.abc import Callable

TICK_SECONDS = 0.02
WINDOW_SECONDS = 60.0


class LoopHolds:
    """The longest hold of this minute and the one before."""

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
        """A tick was so late."""
        now = self._clock()
        if now - self._began >= WINDOW_SECONDS:
            self._before = self._now if now - self._began < 2 * WINDOW_SECONDS else 0.0
            self._now, self._began = 0.0, now
        self._now = max(self._now, late)

    @property
    def longest(self) -> float:
        """Seconds."""
        return max(self._now, self._before)
