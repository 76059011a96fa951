"""Decide what a due schedule does: create one build, or skip the time if it is too late."""

from itertools import takewhile

from boxsched.api.submitting.project_schedules import next_time
from boxsched.cron import local_time, times_after
from boxsched.errors import Invalid
from boxsched.protocol.schedules import DueSchedule, Firing

LATE_SECONDS = 3_600.0  # a time missed by more than this is skipped
LOOK_AGAIN_SECONDS = 3_600.0  # after a time zone that this machine does not know


def firing(due: DueSchedule, now: float) -> Firing:
    """Decide for all due times together: build the latest one, or none if it is too late."""
    one = due.schedule
    try:
        follows = next_time(one, now)
        came = [due.next_at] if due.next_at <= now else []
        since = max(due.next_at, now - LATE_SECONDS)
        came += takewhile(lambda at: at <= now, times_after(one.cron, one.time_zone, since))
    except Invalid as error:
        return skip_due_times(due, now, now + LOOK_AGAIN_SECONDS, error.message)
    if now - came[-1] >= LATE_SECONDS:
        why = f"no node ran schedules until {local_time(now, one.time_zone)}"
        return skip_due_times(due, now, follows, why)
    skipped = None
    if len(came) > 1:
        skipped = f"the build of {local_time(came[-1], one.time_zone)} replaces them"
    return Firing(
        due.project, one, due.next_at, follows, now,
        planned=came[-1],
        skipped_at=None if skipped is None else due.next_at,
        skipped=skipped,
    )  # fmt: skip


def skip_due_times(due: DueSchedule, now: float, next_at: float, why: str) -> Firing:
    """Skip the due times."""
    return Firing(
        due.project, due.schedule, due.next_at, next_at, now, skipped_at=due.next_at, skipped=why
    )


def after_clock_change(due: DueSchedule, now: float) -> Firing:
    """Compute the next time again after the clock was set back."""
    try:
        follows = next_time(due.schedule, now)
    except Invalid:
        follows = due.next_at
    return Firing(due.project, due.schedule, due.next_at, follows, now)
