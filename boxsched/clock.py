"""The node's clock: the database's time at the start, plus the time that has passed since then.

So a node decides like all others if its machine's clock is wrong or is changed. The time while its
machine slept has passed, too: a pause that was to end meanwhile ends when the machine wakes up.
"""

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _passed() -> float:
    """Return seconds of a clock that also runs while the machine sleeps, if there is one."""
    return time.clock_gettime(_CLOCK)


class Clock:
    def __init__(self) -> None:
        self._offset = time.time() - _passed()

    def now(self) -> float:
        """Return seconds since the epoch; the time never goes backwards."""
        return self._offset + _passed()

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment, to measure durations. It stands still while the
        machine sleeps, so nobody seems to have been silent meanwhile.
        """
        return time.monotonic()

    def set_to(self, time_: float) -> None:
        """Set the time, in seconds since the epoch, as the database's clock shows it."""
        self._offset = time_ - _passed()

    def not_before(self, time_: float) -> None:
        """Move the clock forward to this time, if it is behind: the wall clock was set back."""
        self._offset += max(0.0, time_ - self.now())
