"""Reports of a driver's attempts: what began, what ended, and what could not begin."""

import time
from collections.abc import Container, Mapping, Sequence

from boxsched import commits
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from boxsched.worker.agent.answers import Answers, Key
from boxsched.worker.agent.attempt import Attempt, Phase
from boxsched.worker.agent.outbox import Outbox, Report
from boxsched.worker.agent.readiness import Readiness
from boxsched.worker.supervisor.folder import DISK_FULL

REPEAT_SECONDS = 15.0  # longer than an outdated level can take to arrive


class Reporting:
    def __init__(self, outbox: Outbox, readiness: Readiness, answers: Answers) -> None:
        self._outbox = outbox
        self._readiness = readiness
        self._answers = answers

    async def report(self, attempts: Sequence[Attempt]) -> bool:
        """Report all news; return whether an attempt was reported as ended."""
        count = len(self._answers.unreported)
        reports: list[Report] = list(self._answers.unreported)
        began, ended = [], []
        for attempt in attempts:
            if start := start_report(attempt):
                reports.append(start)
                began.append(attempt)
            if end := end_report(attempt):
                reports.append(end)
                ended.append(attempt)
        if not reports:
            return False
        for attempt in ended:
            attempt.reporting = True
        try:
            await self._update_readiness(reports, ended)
            await self._outbox.report(reports)
        finally:
            for attempt in ended:
                attempt.reporting = False
        del self._answers.unreported[:count]
        for attempt in began:
            attempt.start_reported = True
        for attempt in ended:
            if not attempt.parked:  # a node has just refused the report
                attempt.phase, attempt.reported_at = Phase.REPORTED, time.monotonic()
        return bool(ended)

    def repeat(self, desired: Container[Key], attempts: Mapping[Key, Attempt]) -> None:
        """Report an end again if its attempt is still desired after REPEAT_SECONDS.

        A database can lose the first report in a failover.
        """
        before = time.monotonic() - REPEAT_SECONDS
        for key, attempt in attempts.items():
            if key in desired and attempt.phase is Phase.REPORTED and attempt.reported_at < before:
                attempt.phase = Phase.ENDED
        self._answers.repeat(before)

    async def _update_readiness(self, reports: Sequence[Report], ended: Sequence[Attempt]) -> None:
        """Report a problem to the nodes before the jobs that could not begin because of it."""
        for attempt in ended:
            assert attempt.ended is not None
            if attempt.ended.not_begun:
                continue
            if attempt.ended.reason == DISK_FULL:
                self._readiness.suspected()
            elif attempt.ended.result in ("passed", "failed") and not attempt.ended.lost:
                self._readiness.begun()
        not_begun = [r for r in reports if isinstance(r, JobFinished) and r.not_begun]
        for report in not_begun:
            self._readiness.found(report.reason or "")
        if not_begun:
            await self._readiness.publish()


def start_report(attempt: Attempt) -> JobStarted | None:
    """Return the report that the job began; None before it began and once it was reported.

    A session begins for its readers when the store knows how it is reached.
    """
    if attempt.ended is None and attempt.record.session is not None and not attempt.open_reported:
        return None
    began_at = attempt.running.at if attempt.running is not None else None
    if began_at is None and attempt.ended is not None:
        began_at = attempt.ended.began_at
    if began_at is None or attempt.start_reported:
        return None
    return JobStarted(*attempt.key, began_at)


def end_report(attempt: Attempt) -> JobFinished | None:
    """Return the report that the job ended; None until its files and its whole log are stored."""
    ended = attempt.ended
    if attempt.phase is not Phase.ENDED or ended is None or not attempt.kept:
        return None
    if not attempt.spool.all_stored:
        return None
    return JobFinished(
        *attempt.key,
        ended.at,
        Result(ended.result),
        ended.exit_status,
        ended.reason,
        ended.commit if commits.is_reported(ended.commit or "") else None,
        ended.lost or ended.not_begun,  # earlier nodes read only this field
        ended.seconds,
        ended.not_begun,
    )
