"""The node's clock: the database's time as it was at the start, moved on by the monotonic clock.

A machine whose wall clock is wrong, or is set while the node runs, decides as all others do.
"""

import time


class Clock:
    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch; never runs backwards."""
        return self._offset + time.monotonic()

    def monotonic(self) -> float:
        """Seconds from some moment on: for how long something has been so."""
        return time.monotonic()

    def set_to(self, time_: float) -> None:
        """It is that time now, by the database's clock."""
        self._offset = time_ - time.monotonic()

    def not_before(self, time_: float) -> None:
        """Go on from there, if the wall clock was behind it at the start: it was set back."""
        self._offset += max(0.0, time_ - self.now())
