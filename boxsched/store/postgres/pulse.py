"""Distinguish a slow server from a dead one: wait for a COMMIT while other sessions get answers.

A commit waits for the disk, and for a synchronous standby that may lag by seconds. Treating it as
lost would only make the engine load the same data again. The lock session's ping waits for neither.
So while the ping or anything else is answered, the server is alive, and work continues at its
speed.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

COMMIT_SECONDS = 60.0  # limit of a COMMIT while the server answers other sessions
HEARD_SECONDS = 1.0  # a server that answered within this time is alive
REMEMBERED_SECONDS = 30.0  # how long slow commits are remembered
SLOW_SECONDS = 0.2  # faster commits change nothing
PATIENCE = 4  # commits that a transaction may have to wait for
LONGEST_SECONDS = 20.0
STATEMENT_LOCKS = 4  # lock waits that one statement may have


class ServerPulse:
    """The signs of life of one server; times are monotonic seconds."""

    def __init__(self) -> None:
        self._heard_at = 0.0
        self._under_way: dict[int, float] = {}  # running commits, with their start times
        self._slowest = 0.0
        self._slow_at = 0.0
        self._number = 0

    def beats(self) -> None:
        """Note that a session has got an answer."""
        self._heard_at = time.monotonic()

    @property
    def is_well(self) -> bool:
        return time.monotonic() - self._heard_at < HEARD_SECONDS

    @contextlib.contextmanager
    def committing(self) -> Iterator[Callable[[], bool]]:
        "Wrap a COMMIT; provides a function that says whether to continue waiting for its answer."
        self._number += 1
        number, began = self._number, time.monotonic()
        self._under_way[number] = began
        try:
            yield lambda: self.is_well and time.monotonic() - began < COMMIT_SECONDS
        finally:
            del self._under_way[number]
            now = time.monotonic()
            if now - began >= self._recently(now):
                self._slowest, self._slow_at = now - began, now

    @property
    def patience(self) -> float:
        """Return the seconds that a transaction may have to wait for other commits; 0 if they are
        fast or if the server does not answer at all.
        """
        if not self.is_well:
            return 0.0
        now = time.monotonic()
        slowest = max([self._recently(now), *(now - began for began in self._under_way.values())])
        return min(LONGEST_SECONDS, slowest * PATIENCE) if slowest > SLOW_SECONDS else 0.0

    @staticmethod
    def settings(patience: float) -> str:
        """Return settings for a transaction that may wait ``patience`` seconds longer for row
        locks.
        """
        return (
            f"SET LOCAL lock_timeout = '{1 + patience:.3f}s'; "
            f"SET LOCAL statement_timeout = '{STATEMENT_LOCKS * (1 + patience):.3f}s'"
        )

    def _recently(self, now: float) -> float:
        return self._slowest if now - self._slow_at < REMEMBERED_SECONDS else 0.0
