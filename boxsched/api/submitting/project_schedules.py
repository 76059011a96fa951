"""Turn the schedules in a project's settings into stored schedules."""

import asyncio
from collections.abc import Iterable

from boxsched.api.messages import checks
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.messages.requests import Schedule as ScheduleSettings
from boxsched.cron import times_after
from boxsched.protocol.schedules import NewSchedule, Schedule

NEVER_SECONDS = 10 * 366 * 86_400.0  # next check of an expression that has no time in sight


async def first_times(asked: ProjectSettings, now: float) -> tuple[NewSchedule, ...]:
    """Return each schedule of the settings with its next time. Raises Invalid.

    The work is done in a thread, because rare times take milliseconds to find.
    """
    if not asked.schedules:
        return ()
    return await asyncio.to_thread(_checked, asked, now)


def named(settings: ProjectSettings) -> Iterable[Schedule]:
    return [schedule(one) for one in settings.schedules]


def schedule(one: ScheduleSettings) -> Schedule:
    return Schedule(one.cron, one.time_zone or "", one.branch)


def next_time(one: Schedule, now: float) -> float:
    """Return the next time in seconds since the epoch. Raises Invalid for an unknown time zone."""
    return next(times_after(one.cron, one.time_zone, now), now + NEVER_SECONDS)


def _checked(asked: ProjectSettings, now: float) -> tuple[NewSchedule, ...]:
    checks.schedules(asked)
    return tuple([NewSchedule(one, next_time(one, now)) for one in dict.fromkeys(named(asked))])
