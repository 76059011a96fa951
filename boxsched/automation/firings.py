"""What becomes of a schedule whose time has come: one build, or none where it is too late."""

from itertools import takewhile

from boxsched.api.submitting.project_schedules import next_time
from boxsched.cron import local_time, times_after
from boxsched.errors import Invalid
from boxsched.protocol.schedules import DueSchedule, Firing

LATE_SECONDS = 3_600.0  # so late a build is still made; what is missed longer is skipped
LOOK_AGAIN_SECONDS = 3_600.0  # at what cannot be read on this machine


def firing(due: DueSchedule, now: float) -> Firing:
    """The latest of the times that have come stands for all, unless it is too late for it."""
    one = due.schedule
    try:
        follows = next_time(one, now)
        came = [due.next_at] if due.next_at <= now else []
        since = max(due.next_at, now - LATE_SECONDS)
        came += takewhile(lambda at: at <= now, times_after(one.cron, one.time_zone, since))
    except Invalid as error:
        return passed_over(due, now, now + LOOK_AGAIN_SECONDS, error.message)
    if now - came[-1] >= LATE_SECONDS:
        why = f"nothing ran them until {local_time(now, one.time_zone)}"
        return passed_over(due, now, follows, why)
    skipped = None
    if len(came) > 1:
        skipped = f"one build, that of {local_time(came[-1], one.time_zone)}, stands for them"
    return Firing(
        due.project, one, due.next_at, follows, now,
        planned=came[-1],
        skipped_at=None if skipped is None else due.next_at,
        skipped=skipped,
    )  # fmt: skip


def passed_over(due: DueSchedule, now: float, next_at: float, why: str) -> Firing:
    """There is no build for the times that have come."""
    return Firing(
        due.project, due.schedule, due.next_at, next_at, now, skipped_at=due.next_at, skipped=why
    )


def turned_back(due: DueSchedule, now: float) -> Firing:
    """The clock was set back: its next time is looked up anew."""
    try:
        follows = next_time(due.schedule, now)
    except Invalid:
        follows = due.next_at
    return Firing(due.project, due.schedule, due.next_at, follows, now)
