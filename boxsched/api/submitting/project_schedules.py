"""A project's schedules: from its settings to what the store keeps of them."""

import asyncio
from collections.abc import Iterable

from boxsched.api.messages import checks
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.messages.requests import Schedule as ScheduleSettings
from boxsched.cron import times_after
from boxsched.protocol.schedules import NewSchedule, Schedule

NEVER_SECONDS = 10 * 366 * 86_400.0  # then it is looked at again whether it comes at all


async def first_times(asked: ProjectSettings, now: float) -> tuple[NewSchedule, ...]:
    """Each schedule that the settings name, with its next time. Raises Invalid.

    In a thread: what comes once in decades takes milliseconds to find.
    """
    if not asked.schedules:
        return ()
    return await asyncio.to_thread(_checked, asked, now)


def named(settings: ProjectSettings) -> Iterable[Schedule]:
    return [schedule(one) for one in settings.schedules]


def schedule(one: ScheduleSettings) -> Schedule:
    return Schedule(one.cron, one.time_zone or "", one.branch)


def next_time(one: Schedule, now: float) -> float:
    """Raises Invalid where the time zone is not known here."""
    return next(times_after(one.cron, one.time_zone, now), now + NEVER_SECONDS)


def _checked(asked: ProjectSettings, now: float) -> tuple[NewSchedule, ...]:
    checks.schedules(asked)
    return tuple([NewSchedule(one, next_time(one, now)) for one in dict.fromkeys(named(asked))])
