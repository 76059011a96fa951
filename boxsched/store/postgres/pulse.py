"""Whether a server is slow or gone: a COMMIT is waited for while other sessions get answers.

A commit waits for the disk, and for a synchronous standby that may lag by seconds. To take it for
lost then would only load the same again. The lock session's ping needs neither; so while that, or
anything else, is answered the server is well, and everything goes on at its speed.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

COMMIT_SECONDS = 60.0  # so long COMMIT may take while the server answers others
HEARD_SECONDS = 1.0  # a server that answered so short a time ago is there
REMEMBERED_SECONDS = 30.0  # how slow it was
SLOW_SECONDS = 0.2  # faster commits change nothing
PATIENCE = 4  # commits that one may have to wait for
LONGEST_SECONDS = 20.0
STATEMENT_LOCKS = 4  # waits for others that one statement may add up


class Pulse:
    """The signs of life of one server; times are monotonic seconds."""

    def __init__(self) -> None:
        self._heard_at = 0.0
        self._under_way: dict[int, float] = {}  # commits, and since when
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
        """Around a COMMIT; says whether to wait on for its answer."""
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
        """Seconds that one may have to wait for others' commits; 0 where they are quick, or the
        server says nothing at all."""
        if not self.is_well:
            return 0.0
        now = time.monotonic()
        slowest = max([self._recently(now), *(now - began for began in self._under_way.values())])
        return min(LONGEST_SECONDS, slowest * PATIENCE) if slowest > SLOW_SECONDS else 0.0

    @staticmethod
    def settings(patience: float) -> str:
        """For a transaction that may wait so much longer for another one's row locks."""
        return (
            f"SET LOCAL lock_timeout = '{1 + patience:.3f}s'; "
            f"SET LOCAL statement_timeout = '{STATEMENT_LOCKS * (1 + patience):.3f}s'"
        )

    def _recently(self, now: float) -> float:
        return self._slowest if now - self._slow_at < REMEMBERED_SECONDS else 0.0
