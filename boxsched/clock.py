"""The node's clock: the database's time at the start, plus the monotonic time since then.

So a node decides like all others if its machine's clock is wrong or is changed.
"""

import time


class Clock:
    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return seconds since the epoch; the time never goes backwards."""
        return self._offset + time.monotonic()

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment, to measure durations."""
        return time.monotonic()

    def set_to(self, time_: float) -> None:
        """Set the time, in seconds since the epoch, as the database's clock shows it."""
        self._offset = time_ - time.monotonic()

    def not_before(self, time_: float) -> None:
        """Move the clock forward to this time, if it is behind: the wall clock was set back."""
        self._offset += max(0.0, time_ - self.now())
