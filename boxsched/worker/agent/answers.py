"""Reports of jobs that never had a folder on this worker."""

import time
from collections.abc import Callable, Container

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result

PATIENCE_SECONDS = 10.0  # with descriptors or memory that ran out, before a job is another worker's

Key = tuple[JobId, int]  # a job and its lease token


class Answers:
    """Remembers each report while its job is desired. ``unsaid``: those not reported yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._given: dict[Key, JobFinished] = {}
        self._said_at: dict[Key, float] = {}
        self._failing: dict[Key, float] = {}  # since when a job cannot be prepared
        self.unsaid: list[JobFinished] = []

    def __contains__(self, key: Key) -> bool:
        return key in self._given

    def add(self, wanted: Assignment, result: Result, reason: str, *, not_begun: bool) -> None:
        """Report the job's end. ``not_begun``: it never began, for a cause of this worker."""
        key = (wanted.job, wanted.lease_token)
        finished = JobFinished(
            *key, self._clock(), result, None, reason, lost=not_begun, not_begun=not_begun
        )
        self._given[key] = finished
        self._say(key)

    def repeat(self, before: float) -> None:
        """Report again what was reported before that time (monotonic clock)."""
        for key in [key for key in self._given if self._said_at[key] < before]:
            self._say(key)

    def _say(self, key: Key) -> None:
        if self._given[key] not in self.unsaid:
            self.unsaid.append(self._given[key])
        self._said_at[key] = time.monotonic()

    def gives_up(self, wanted: Assignment, now: float) -> bool:
        """Whether it has been tried for long enough to prepare the job."""
        key = (wanted.job, wanted.lease_token)
        return now - self._failing.setdefault(key, now) > PATIENCE_SECONDS

    def keep(self, desired: Container[Key]) -> None:
        """Forget all reports but those of ``desired`` jobs."""
        self._given = {key: said for key, said in self._given.items() if key in desired}
        self._said_at = {key: at for key, at in self._said_at.items() if key in desired}
        self._failing = {key: since for key, since in self._failing.items() if key in desired}
