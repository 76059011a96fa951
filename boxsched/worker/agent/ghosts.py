"""Ghosts: attempts here that the worker's level does not contain (``protocol.ghosts``).

A build's attempt is ended. One of a deploy or a session is parked: it continues, nothing of it is
sent, and when it has ended, its result stays here. A person decides: with ``Assignment.restores``
the attempt is the worker's again under another lease token, and ``end`` ends it. While an attempt
is parked, no later one of its job begins on this worker. It does not hold up its Box, because
nobody may decide for days.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from boxsched.model import JobId
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import MAX_GHOSTS, HeldAttempt
from boxsched.worker.agent.attempt import UNENDED, Attempt, Phase
from boxsched.worker.supervisor import folder as files

WHY = "the scheduler does not know it as this worker's; `boxsched workers ghosts` lists it"
KEPT_ENDED = 20  # parked attempts that have ended; the oldest are ended for good

Key = tuple[JobId, int]  # a job and its lease token
FaultsOf = Callable[[Attempt], contextlib.AbstractContextManager[None]]

_log = logging.getLogger(__name__)


def restore(
    desired: Mapping[Key, Assignment], attempts: dict[Key, Attempt], faults_of: FaultsOf
) -> None:
    """Continue the ghosts that a person gave back to this worker, under their new lease tokens."""
    for key, wanted in desired.items():
        if wanted.restores is None or key in attempts:
            continue
        former = (wanted.job, wanted.restores)
        attempt = attempts.get(former)
        if attempt is None or attempt.record.attempt != wanted.attempt:
            continue
        with faults_of(attempt):
            _take_lease(attempt, wanted.lease_token)
            attempts[key] = attempts.pop(former)
            _log.info("%s was restored: it belongs to this worker again", attempt.name)


def park(desired: Collection[Key], attempts: Mapping[Key, Attempt]) -> None:
    """Park the attempts of deploys and sessions that are not desired; continue those that are.

    The level may lack an attempt because its report has just arrived. The answer to the report says
    whether the attempt is this worker's.
    """
    for key, attempt in attempts.items():
        if attempt.reporting:
            continue
        parked = not (key in desired or attempt.is_build or attempt.stale)
        parked = parked and attempt.phase is not Phase.REPORTED
        if parked and not attempt.parked:
            _log.warning("%s is a ghost: %s", attempt.name, WHY)
        if attempt.parked and not parked:
            attempt.spool.rewind()  # nodes have not stored the output of a ghost
        attempt.parked = parked
    ended = [one for one in attempts.values() if one.parked and one.ended is not None]
    ended.sort(key=lambda one: one.ended.at if one.ended is not None else 0.0)
    for attempt in ended[: max(0, len(ended) - KEPT_ENDED)]:
        _log.warning("%s is discarded: too many ghosts have ended", attempt.name)
        attempt.stale, attempt.parked = True, False


def named(desired: Collection[Key], attempts: Mapping[Key, Attempt]) -> tuple[HeldAttempt, ...]:
    """Return the ghosts to name in a heartbeat: those that were given first."""
    found = [
        _held(attempt)
        for key, attempt in attempts.items()
        if attempt.parked or (key not in desired and attempt.phase in UNENDED)
    ]
    found.sort(key=lambda one: (one.build, one.lease_token, one.job))
    return tuple(found[:MAX_GHOSTS])


def ended(attempts: Iterable[Attempt]) -> int:
    """Return how many parked attempts have ended."""
    return sum(one.parked and one.phase not in UNENDED for one in attempts)


def _take_lease(attempt: Attempt, token: int) -> None:
    """Durable when it returns. Raises Damaged, OSError."""
    record = attempt.record._replace(lease_token=token)
    files.write_record(attempt.folder.at, record)
    attempt.record = record
    attempt.start_reported = attempt.open_reported = attempt.stale = attempt.parked = False
    if attempt.phase is Phase.REPORTED:
        attempt.phase = Phase.ENDED
    attempt.spool.rewind()


def _held(attempt: Attempt) -> HeldAttempt:
    record, running = attempt.record, attempt.phase in UNENDED
    return HeldAttempt(record.job, record.attempt, record.lease_token, attempt.is_build, running)
