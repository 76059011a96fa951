"""Reports of jobs that never had a folder on this worker."""

import time
from collections.abc import Callable, Container

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result

# how long preparing a job is tried when there are no free descriptors or memory
PATIENCE_SECONDS = 10.0

Key = tuple[JobId, int]  # a job and its lease token


class Answers:
    """Keeps each report while its job is desired. ``unreported``: reports that were not sent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reports: dict[Key, JobFinished] = {}
        self._reported_at: dict[Key, float] = {}
        self._failing: dict[Key, float] = {}  # since when a job cannot be prepared
        self.unreported: list[JobFinished] = []

    def __contains__(self, key: Key) -> bool:
        return key in self._reports

    def add(self, wanted: Assignment, result: Result, reason: str, *, not_begun: bool) -> None:
        """Report the job's end. ``not_begun``: it never began, for a cause of this worker."""
        key = (wanted.job, wanted.lease_token)
        finished = JobFinished(
            *key, self._clock(), result, None, reason, lost=not_begun, not_begun=not_begun
        )
        self._reports[key] = finished
        self._queue(key)

    def repeat(self, before: float) -> None:
        """Report again what was last reported before that monotonic time."""
        for key in [key for key in self._reports if self._reported_at[key] < before]:
            self._queue(key)

    def _queue(self, key: Key) -> None:
        if self._reports[key] not in self.unreported:
            self.unreported.append(self._reports[key])
        self._reported_at[key] = time.monotonic()

    def gives_up(self, wanted: Assignment, now: float) -> bool:
        """Whether preparing the job has failed for PATIENCE_SECONDS."""
        key = (wanted.job, wanted.lease_token)
        return now - self._failing.setdefault(key, now) > PATIENCE_SECONDS

    def keep(self, desired: Container[Key]) -> None:
        """Keep only the reports of ``desired`` jobs."""
        self._reports = {key: report for key, report in self._reports.items() if key in desired}
        self._reported_at = {key: at for key, at in self._reported_at.items() if key in desired}
        self._failing = {key: since for key, since in self._failing.items() if key in desired}
