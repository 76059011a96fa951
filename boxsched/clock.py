"""The node's one clock: wall time as it was at the start, moved on by the monotonic clock.

A wall clock that is set while the node runs changes no decision and expires nothing.
"""

import time


class Clock:
    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch; never runs backwards."""
        return self._offset + time.monotonic()

    def not_before(self, time_: float) -> None:
        """Go on from there, if the wall clock was behind it at the start: it was set back."""
        self._offset += max(0.0, time_ - self.now())
