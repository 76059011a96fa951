"""Schedules: builds of a branch at certain times, as a project's settings name them."""

import attrs

from boxsched.model import ProjectId


@attrs.frozen
class Schedule:
    """Which one of a project's; ``time_zone`` is "" for UTC."""

    cron: str
    time_zone: str
    branch: str


@attrs.frozen
class NewSchedule:
    """A schedule that the settings name, and its first time, in case it is new."""

    schedule: Schedule
    next_at: float


@attrs.frozen
class DueSchedule:
    """A schedule whose next time has come, or has to be looked up anew."""

    project: ProjectId
    project_name: str
    schedule: Schedule
    next_at: float


@attrs.frozen
class Firing:
    """What becomes of a schedule that is due: a row of ``schedule``, as it is from then on.

    ``due``: its next time as it was decided from: where that has changed, another node was first.
    ``planned``: the time that a build stands for; None: there is no build. ``skipped``: why times
    since ``skipped_at`` had none.
    """

    project: ProjectId
    schedule: Schedule
    due: float
    next_at: float
    decided_at: float
    planned: float | None = None
    skipped_at: float | None = None
    skipped: str | None = None
